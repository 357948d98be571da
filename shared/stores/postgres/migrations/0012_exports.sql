-- Exports that are made in the background, and what reading rows for them needs.

CREATE TABLE exports (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    requested_by  text        NOT NULL,
    query         jsonb       NOT NULL,
    format        text        NOT NULL,
    state         text        NOT NULL CHECK (state IN ('queued', 'running', 'ready', 'failed', 'cancelled', 'expired')),
    rows_written  bigint      NOT NULL DEFAULT 0,
    rows_expected bigint,
    size_bytes    bigint,
    sha256        text        NOT NULL DEFAULT '',
    attempts      integer     NOT NULL DEFAULT 0,
    code          text        NOT NULL DEFAULT '',
    worker        text,
    lease_until   timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz,
    expires_at    timestamptz NOT NULL,
    cleared       boolean     NOT NULL DEFAULT false
);
COMMENT ON TABLE exports IS 'Files of rows that are written in the background; a lease says who works on one.';
COMMENT ON COLUMN exports.query IS 'Which rows: filters and columns, never content.';
COMMENT ON COLUMN exports.attempts IS 'How often the work was begun. Each attempt writes a blob of its own.';
COMMENT ON COLUMN exports.code IS 'Why it failed.';
COMMENT ON COLUMN exports.cleared IS 'The blobs of all attempts are deleted.';
CREATE INDEX exports_tenant ON exports (tenant_id, created_at DESC, id DESC);
CREATE INDEX exports_open ON exports (updated_at) WHERE state IN ('queued', 'running');
CREATE INDEX exports_expiry ON exports (expires_at);

CREATE INDEX feedback_given ON feedback (tenant_id, given_at);

-- As `quantiles` of shared/analytics/sketches.py: the value of rank floor(level * (count - 1)), within 1%.
CREATE FUNCTION sketch_quantile(sketch bytea, level double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    WITH pairs AS (
        SELECT CASE WHEN bits >= 32768 THEN bits - 65536 ELSE bits END AS bin, sum(count) AS count
        FROM generate_series(0, length(sketch) - 6, 6) AS place,
             LATERAL (SELECT get_byte(sketch, place) * 256 + get_byte(sketch, place + 1) AS bits,
                             get_byte(sketch, place + 2)::bigint * 16777216 + get_byte(sketch, place + 3) * 65536
                             + get_byte(sketch, place + 4) * 256 + get_byte(sketch, place + 5) AS count) AS pair
        GROUP BY 1
    ), reached AS (
        SELECT bin, sum(count) OVER (ORDER BY bin) AS reached, sum(count) OVER () AS total FROM pairs
    )
    SELECT CASE WHEN bin = -32768 THEN 0
                ELSE 2 * exp(bin * ln((1.01::double precision / 0.99::double precision)))
                     / (1.01::double precision / 0.99::double precision + 1) END
    FROM reached WHERE reached > floor(level * (total - 1)) ORDER BY bin LIMIT 1
$$;
