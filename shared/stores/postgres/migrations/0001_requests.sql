-- The ledger: one row for each admitted request, one for each call made for it. Both are partitioned by the month in
-- which the request started, so that old months leave by DROP, not by DELETE.

CREATE TABLE requests (
    id               uuid          NOT NULL,
    start_time       timestamptz   NOT NULL,
    end_time         timestamptz   NOT NULL,
    duration_ms      double precision NOT NULL
                     GENERATED ALWAYS AS (extract(epoch FROM end_time - start_time) * 1000) STORED,
    tenant_id        text          NOT NULL,
    service_name     text          NOT NULL,
    principal_id     text          NOT NULL,
    endpoint         text          NOT NULL,
    request_type     text          NOT NULL,
    content_type     text          NOT NULL,
    attachment_size  bigint        NOT NULL,
    complexity_level text          NOT NULL,
    security_level   text          NOT NULL,
    status           text          NOT NULL CHECK (status IN ('success', 'error', 'cancelled', 'abandoned')),
    stream           boolean       NOT NULL,
    requested_model  text          NOT NULL,
    model_used       text,
    deployment_used  text,
    provider         text,
    region           text,
    input_tokens             bigint NOT NULL DEFAULT 0,
    input_audio_tokens       bigint NOT NULL DEFAULT 0,
    cache_read_tokens        bigint NOT NULL DEFAULT 0,
    cache_write_tokens       bigint NOT NULL DEFAULT 0,
    cache_write_long_tokens  bigint NOT NULL DEFAULT 0,
    output_tokens            bigint NOT NULL DEFAULT 0,
    thinking_tokens          bigint NOT NULL DEFAULT 0,
    usage_estimated  boolean       NOT NULL DEFAULT false,
    token_count      numeric(20)   NOT NULL GENERATED ALWAYS AS (
                         input_tokens::numeric + input_audio_tokens + cache_read_tokens + cache_write_tokens
                         + cache_write_long_tokens + output_tokens + thinking_tokens) STORED,
    cost_exact       numeric       NOT NULL DEFAULT 0 CHECK (cost_exact >= 0 AND cost_exact < 'Infinity'),
    cost             numeric(12, 6) NOT NULL
                     GENERATED ALWAYS AS (least(round(cost_exact, 6), 999999.999999)) STORED,
    ttft_ms          double precision,
    overhead_ms      double precision NOT NULL DEFAULT 0,
    finish_reason    text,
    error_code       text,
    error_message    text,
    quality_score    double precision,
    propensity       double precision,
    registry_version text          NOT NULL DEFAULT '',
    policy_version   text          NOT NULL DEFAULT '',
    trace_id         text,
    tags             jsonb         NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(tags) = 'object'),
    created_at       timestamptz   NOT NULL DEFAULT now(),
    PRIMARY KEY (id, start_time)
) PARTITION BY RANGE (start_time);

COMMENT ON TABLE requests IS 'One row for each admitted request; never prompts or answers. Monthly partitions, UTC.';
COMMENT ON COLUMN requests.id IS 'UUIDv7. One id has one start_time for ever, so (id, start_time) is unique exactly as id is.';
COMMENT ON COLUMN requests.start_time IS 'Admission, UTC.';
COMMENT ON COLUMN requests.end_time IS 'End of the answer; for abandoned requests the last sign of life of their worker.';
COMMENT ON COLUMN requests.duration_ms IS 'Milliseconds from admission to the end of the answer.';
COMMENT ON COLUMN requests.tenant_id IS 'The unit of isolation: every read names it.';
COMMENT ON COLUMN requests.service_name IS 'The calling service.';
COMMENT ON COLUMN requests.request_type IS 'Task category.';
COMMENT ON COLUMN requests.content_type IS 'Kind of content, as analysed.';
COMMENT ON COLUMN requests.attachment_size IS 'Bytes of all attachments.';
COMMENT ON COLUMN requests.status IS 'How it ended for the caller; abandoned: the worker died with the request open.';
COMMENT ON COLUMN requests.requested_model IS 'The caller''s own word, such as auto:cost.';
COMMENT ON COLUMN requests.model_used IS 'The model that served; null when none was chosen.';
COMMENT ON COLUMN requests.input_tokens IS 'Tokens, neither audio nor read from or written to a cache. The kinds are disjoint.';
COMMENT ON COLUMN requests.thinking_tokens IS 'Tokens of reasoning, billed as output, not contained in output_tokens.';
COMMENT ON COLUMN requests.usage_estimated IS 'The vendor did not report all counts; those missing are the router''s own estimate.';
COMMENT ON COLUMN requests.token_count IS 'Tokens of all kinds.';
COMMENT ON COLUMN requests.cost_exact IS 'USD over all attempts, unrounded.';
COMMENT ON COLUMN requests.cost IS 'USD, rounded to a millionth for display; sums are taken over cost_exact.';
COMMENT ON COLUMN requests.ttft_ms IS 'Milliseconds to the first token of the answer.';
COMMENT ON COLUMN requests.overhead_ms IS 'Milliseconds of the router''s own: total minus time spent waiting for providers.';
COMMENT ON COLUMN requests.quality_score IS '0 to 1, when scored.';
COMMENT ON COLUMN requests.propensity IS 'Probability, 0 to 1, with which the policy chose this deployment.';
COMMENT ON COLUMN requests.tags IS 'The caller''s labels, text to text.';
COMMENT ON COLUMN requests.created_at IS 'When the row was written, UTC; later than end_time by the writer''s delay.';

CREATE INDEX requests_tenant_start_time ON requests (tenant_id, start_time);
CREATE INDEX requests_tenant_service_start_time ON requests (tenant_id, service_name, start_time);
-- Rollups read time windows of all tenants: rows come nearly in order of time, so a block range index finds them at
-- almost no cost for the writer.
CREATE INDEX requests_start_time ON requests USING brin (start_time);

CREATE TABLE attempts (
    request_id         uuid        NOT NULL,
    request_start_time timestamptz NOT NULL,
    number             integer     NOT NULL CHECK (number > 0),
    tenant_id          text        NOT NULL,
    deployment_id      text        NOT NULL,
    model_id           text        NOT NULL,
    provider           text        NOT NULL,
    region             text        NOT NULL,
    started_at         timestamptz NOT NULL,
    duration_ms        double precision NOT NULL,
    outcome            text        NOT NULL,
    vendor_status      text,
    ttft_ms            double precision,
    input_tokens             bigint NOT NULL DEFAULT 0,
    input_audio_tokens       bigint NOT NULL DEFAULT 0,
    cache_read_tokens        bigint NOT NULL DEFAULT 0,
    cache_write_tokens       bigint NOT NULL DEFAULT 0,
    cache_write_long_tokens  bigint NOT NULL DEFAULT 0,
    output_tokens            bigint NOT NULL DEFAULT 0,
    thinking_tokens          bigint NOT NULL DEFAULT 0,
    usage_estimated    boolean     NOT NULL DEFAULT false,
    cost_exact         numeric     NOT NULL DEFAULT 0 CHECK (cost_exact >= 0 AND cost_exact < 'Infinity'),
    PRIMARY KEY (request_id, number, request_start_time)
) PARTITION BY RANGE (request_start_time);

COMMENT ON TABLE attempts IS 'One row for each call to a deployment, written with its request in one statement.';
COMMENT ON COLUMN attempts.request_start_time IS 'start_time of the request: both leave with the same month.';
COMMENT ON COLUMN attempts.number IS 'Counts from 1 within the request.';
COMMENT ON COLUMN attempts.duration_ms IS 'Milliseconds.';
COMMENT ON COLUMN attempts.outcome IS 'success, or the code of the error.';
COMMENT ON COLUMN attempts.vendor_status IS 'The vendor''s own status: an HTTP number or a gRPC name.';
COMMENT ON COLUMN attempts.ttft_ms IS 'Milliseconds to the first token.';
COMMENT ON COLUMN attempts.cost_exact IS 'USD, unrounded.';

CREATE INDEX attempts_request_start_time ON attempts USING brin (request_start_time);

-- An insert never fails for lack of a month.
CREATE TABLE requests_default PARTITION OF requests DEFAULT;
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

-- Creates the monthly partitions of one table that are missing, and returns how many that were. Rows of those months
-- that waited in the default partition move over. A month is filled before it is attached, and ATTACH locks the parent
-- far less than CREATE ... PARTITION OF does, so writers go on. The session's time zone must not move month borders.
CREATE FUNCTION ensure_month_partitions(parent text, time_column text, since timestamptz, months integer)
RETURNS integer
LANGUAGE plpgsql
SET timezone = 'UTC'
AS $$
DECLARE
    month     timestamptz := date_trunc('month', since);
    partition text;
    created   integer := 0;
BEGIN
    -- One at a time: two that see the same month missing would both create it.
    PERFORM pg_advisory_xact_lock(hashtext('ensure_month_partitions'));
    FOR step IN 0 .. months - 1 LOOP
        partition := parent || to_char(month, '"_"YYYY"_"MM');
        IF to_regclass(partition) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)',
                           partition, parent);
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
            PERFORM move_default_rows(parent, partition, time_column, month, month + interval '1 month');
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, partition, month, month + interval '1 month');
            created := created + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN created;
END
$$;

-- Moves the rows of a month out of the default partition into a table that is about to become its partition.
-- Generated columns are computed anew.
CREATE FUNCTION move_default_rows(parent text, target text, time_column text, since timestamptz, until timestamptz)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    columns text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
    FROM pg_attribute
    WHERE attrelid = parent::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format(
        'WITH moved AS (DELETE FROM %1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING %3$s) '
        'INSERT INTO %4$I (%3$s) SELECT %3$s FROM moved',
        parent || '_default', time_column, columns, target) USING since, until;
END
$$;

-- Partitions of both tables for `months` months from the one that holds `since` on; returns how many were created.
CREATE FUNCTION ensure_request_partitions(since timestamptz, months integer)
RETURNS integer
LANGUAGE sql
AS $$
    SELECT ensure_month_partitions('requests', 'start_time', since, months)
         + ensure_month_partitions('attempts', 'request_start_time', since, months);
$$;
COMMENT ON FUNCTION ensure_request_partitions IS 'Run it at least monthly, ahead of time; late is harmless but slower.';

SELECT ensure_request_partitions(now(), 3);
