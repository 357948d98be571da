-- Rollups: minutes from the ledger, hours from minutes, UTC days from hours; what is still to be rolled up; feedback.

CREATE TABLE rollup_pending (
    granularity text        NOT NULL CHECK (granularity IN ('minute', 'hour', 'day')),
    bucket      timestamptz NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rollup_pending IS 'Buckets to be computed anew. Rows are only added and deleted, never updated: a writer waits for nobody, and a row is visible exactly when the records that it was written with are.';
COMMENT ON COLUMN rollup_pending.noted_at IS 'Since when the bucket has been out of date: the oldest one says how fresh all rollups are.';
CREATE INDEX rollup_pending_bucket ON rollup_pending (granularity, bucket);
CREATE INDEX rollup_pending_noted_at ON rollup_pending (noted_at);

CREATE TABLE analytics (
    granularity   text        NOT NULL,
    bucket        timestamptz NOT NULL,
    tenant_id     text        NOT NULL,
    service_name  text        NOT NULL,
    model_id      text        NOT NULL,
    deployment_id text        NOT NULL,
    category      text        NOT NULL,
    tag_key       text        NOT NULL,
    tag_value     text        NOT NULL,
    status        text        NOT NULL,
    error_code    text        NOT NULL,
    reused        boolean     NOT NULL,
    prompt_above_tokens bigint NOT NULL,
    requests      bigint      NOT NULL,
    late          bigint      NOT NULL,
    usage_estimated bigint    NOT NULL,
    input_tokens            numeric NOT NULL,
    input_audio_tokens      numeric NOT NULL,
    cache_read_tokens       numeric NOT NULL,
    cache_write_tokens      numeric NOT NULL,
    cache_write_long_tokens numeric NOT NULL,
    output_tokens           numeric NOT NULL,
    thinking_tokens         numeric NOT NULL,
    cost_usd      numeric     NOT NULL,
    saved_usd     numeric     NOT NULL,
    duration_ms   double precision NOT NULL,
    latency       bytea       NOT NULL,
    ttft          bytea       NOT NULL,
    overhead      bytea       NOT NULL,
    ratings       bigint      NOT NULL,
    rating_sum    double precision NOT NULL
) PARTITION BY LIST (granularity);
COMMENT ON TABLE analytics IS 'Requests by time and what they have in common. A bucket is computed as a whole, in one transaction.';
COMMENT ON COLUMN analytics.bucket IS 'Start, UTC.';
COMMENT ON COLUMN analytics.model_id IS 'The model that served; empty: none was chosen.';
COMMENT ON COLUMN analytics.tag_key IS 'Empty: rows that count every request once. Else a tag that is allowed here: rows that count the requests that have it, once more.';
COMMENT ON COLUMN analytics.tag_value IS 'Its value; (other) stands for the rare ones of a bucket.';
COMMENT ON COLUMN analytics.reused IS 'Served from the answer cache: the tokens are those of the original answer and were not used again.';
COMMENT ON COLUMN analytics.prompt_above_tokens IS 'The prompts were longer than this bound of a price tier, and not longer than the next one.';
COMMENT ON COLUMN analytics.late IS 'Requests whose record came long after their end.';
COMMENT ON COLUMN analytics.duration_ms IS 'Sum over requests that succeeded, milliseconds.';
COMMENT ON COLUMN analytics.latency IS 'Sketch of the durations of requests that succeeded: pairs of bin (int2) and count (int4), see shared/analytics/sketches.py. Joined end to end, sketches are merged.';
COMMENT ON COLUMN analytics.overhead IS 'Sketch of the router''s own milliseconds, over all requests that were not abandoned.';
COMMENT ON COLUMN analytics.ratings IS 'Requests that were rated; rating_sum adds up their mean ratings, each 0 to 1.';

CREATE TABLE analytics_minute PARTITION OF analytics FOR VALUES IN ('minute');
CREATE TABLE analytics_hour PARTITION OF analytics FOR VALUES IN ('hour');
CREATE TABLE analytics_day PARTITION OF analytics FOR VALUES IN ('day');
CREATE INDEX analytics_bucket ON analytics (bucket);
CREATE INDEX analytics_hour_tenant ON analytics_hour (tenant_id, tag_key, bucket);
CREATE INDEX analytics_day_tenant ON analytics_day (tenant_id, tag_key, bucket);

CREATE TABLE model_performance (
    granularity   text        NOT NULL,
    bucket        timestamptz NOT NULL,
    tenant_id     text        NOT NULL,
    model_id      text        NOT NULL,
    deployment_id text        NOT NULL,
    provider      text        NOT NULL,
    region        text        NOT NULL,
    outcome       text        NOT NULL,
    attempts      bigint      NOT NULL,
    late          bigint      NOT NULL,
    usage_estimated bigint    NOT NULL,
    input_tokens            numeric NOT NULL,
    input_audio_tokens      numeric NOT NULL,
    cache_read_tokens       numeric NOT NULL,
    cache_write_tokens      numeric NOT NULL,
    cache_write_long_tokens numeric NOT NULL,
    output_tokens           numeric NOT NULL,
    thinking_tokens         numeric NOT NULL,
    cost_usd      numeric     NOT NULL,
    duration_ms   double precision NOT NULL,
    generation_ms double precision NOT NULL,
    generated_tokens numeric  NOT NULL,
    latency       bytea       NOT NULL,
    ttft          bytea       NOT NULL
) PARTITION BY LIST (granularity);
COMMENT ON TABLE model_performance IS 'Calls to models by time, deployment and outcome, those that failed and were made up for included. Buckets are those of the requests that the calls were made for.';
COMMENT ON COLUMN model_performance.outcome IS 'success, or the code of the error.';
COMMENT ON COLUMN model_performance.generation_ms IS 'Sum of the milliseconds between first and last token of streamed calls that succeeded; generated_tokens came in them.';

CREATE TABLE model_performance_minute PARTITION OF model_performance FOR VALUES IN ('minute');
CREATE TABLE model_performance_hour PARTITION OF model_performance FOR VALUES IN ('hour');
CREATE TABLE model_performance_day PARTITION OF model_performance FOR VALUES IN ('day');
CREATE INDEX model_performance_bucket ON model_performance (bucket, tenant_id);

CREATE TABLE feedback (
    tenant_id    text        NOT NULL,
    request_id   uuid        NOT NULL,
    principal_id text        NOT NULL,
    service_name text        NOT NULL,
    score        double precision NOT NULL CHECK (score >= 0 AND score <= 1),
    form         text        NOT NULL CHECK (form IN ('score', 'thumbs')),
    tags         text[]      NOT NULL,
    comment      text        NOT NULL,
    redacted     text[]      NOT NULL,
    given_at     timestamptz NOT NULL,
    request_start_time timestamptz,
    PRIMARY KEY (request_id, tenant_id, principal_id)
);
COMMENT ON TABLE feedback IS 'What callers say of answers, one row for each of them and request.';
COMMENT ON COLUMN feedback.given_at IS 'When it was last said.';
COMMENT ON COLUMN feedback.comment IS 'With what is sensitive replaced by its kind.';
COMMENT ON COLUMN feedback.redacted IS 'The kinds of what was replaced.';
COMMENT ON COLUMN feedback.request_start_time IS 'Null: the record of the request has not arrived yet; nothing counts until it has.';
CREATE INDEX feedback_request_start_time ON feedback (request_start_time) WHERE request_start_time IS NOT NULL;
CREATE INDEX feedback_waiting ON feedback (given_at) WHERE request_start_time IS NULL;
CREATE INDEX feedback_principal ON feedback (tenant_id, principal_id);

-- Block ranges are summed up by VACUUM only: until it has been there the newest ones, which rollups read each minute,
-- would be read as a whole.
DROP INDEX requests_start_time;
DROP INDEX attempts_request_start_time;
CREATE INDEX requests_start_time ON requests (start_time);
CREATE INDEX attempts_request_start_time ON attempts (request_start_time);

CREATE FUNCTION note_rollups() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO rollup_pending (granularity, bucket)
    SELECT DISTINCT 'minute', date_trunc('minute', start_time, 'UTC') FROM changed;
    RETURN NULL;
END
$$;

-- For each statement on the whole table: a month's partition that takes rows over from the default one changes nothing.
CREATE TRIGGER requests_rollups_inserted AFTER INSERT ON requests
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_rollups();
-- Erasures take names out of records, and so out of rollups.
CREATE TRIGGER requests_rollups_updated AFTER UPDATE ON requests
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_rollups();

CREATE FUNCTION note_rated() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO rollup_pending (granularity, bucket)
    SELECT DISTINCT 'minute', date_trunc('minute', request_start_time, 'UTC') FROM changed
    WHERE request_start_time IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER feedback_rollups_inserted AFTER INSERT ON feedback
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_rated();
CREATE TRIGGER feedback_rollups_updated AFTER UPDATE ON feedback
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_rated();
CREATE TRIGGER feedback_rollups_deleted AFTER DELETE ON feedback
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_rated();

-- What the ledger holds already is rolled up by the timer, the oldest first.
INSERT INTO rollup_pending (granularity, bucket)
SELECT DISTINCT 'minute', date_trunc('minute', start_time, 'UTC') FROM requests;
