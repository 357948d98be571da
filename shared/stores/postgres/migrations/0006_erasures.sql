-- Erasures, their steps and certificates; and receipts whose chain still holds when a body was erased.

CREATE TABLE erasures (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    kind           text        NOT NULL CHECK (kind IN ('principal', 'tag', 'service')),
    tag            text        NOT NULL DEFAULT '',
    subject        text,
    digest         text,
    requested_by   text        NOT NULL,
    requested_at   timestamptz NOT NULL,
    state          text        NOT NULL DEFAULT 'requested'
                   CHECK (state IN ('requested', 'running', 'certified', 'completed')),
    store          integer     NOT NULL DEFAULT 0,
    cursor         text        NOT NULL DEFAULT '',
    certificate    text,
    completed_at   timestamptz,
    standing_until timestamptz,
    lease_until    timestamptz
);
COMMENT ON TABLE erasures IS 'Who asked for an erasure and how far it is. Whom it is about is forgotten with its end.';
COMMENT ON COLUMN erasures.subject IS 'Whom it is about; null once it is completed.';
COMMENT ON COLUMN erasures.digest IS 'SHA-256 of the subject, by which late records are recognised; null after standing_until.';
COMMENT ON COLUMN erasures.cursor IS 'Where the work goes on in the store with the number in `store`.';
COMMENT ON COLUMN erasures.certificate IS 'Canonical JSON; its SHA-256 is in the audit trail.';
-- The same person is erased once at a time.
CREATE UNIQUE INDEX erasures_under_way ON erasures (tenant_id, digest) WHERE state <> 'completed';
CREATE INDEX erasures_tenant_requested_at ON erasures (tenant_id, requested_at);

CREATE TABLE erasure_steps (
    erasure_id uuid    NOT NULL REFERENCES erasures (id) ON DELETE CASCADE,
    store      integer NOT NULL,
    cursor     text    NOT NULL,
    counts     jsonb   NOT NULL,
    digest     text    NOT NULL,
    PRIMARY KEY (erasure_id, store, cursor)
);
COMMENT ON TABLE erasure_steps IS 'What each step found. A step that runs again after a kill finds the same and replaces its row.';

COMMENT ON TABLE receipts IS 'What is needed to repeat a decision; written with its request in one statement, changed by erasures only. Monthly partitions, UTC.';
COMMENT ON COLUMN receipts.hash IS 'SHA-256 over previous_hash and the SHA-256 of body; rows of before this migration: over previous_hash and body.';
COMMENT ON COLUMN receipts.body IS 'Canonical JSON, byte for byte what was hashed; or a tombstone with that hash.';

-- As before, but a link is made of the body's hash, which a tombstone can keep.
CREATE OR REPLACE FUNCTION append_receipts(
    chains text[], request_ids uuid[], start_times timestamptz[], tenant_ids text[], bodies text[]
) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    item      record;
    head      receipt_chains%ROWTYPE;
    placed    text;
    following bytea;
    appended  integer := 0;
BEGIN
    FOR item IN
        SELECT * FROM unnest(chains, request_ids, start_times, tenant_ids, bodies)
            AS item(chain, request_id, start_time, tenant_id, body)
        -- Chains in one order for all writers, so that they do not lock each other out.
        ORDER BY chain, request_id
    LOOP
        IF head.chain IS DISTINCT FROM item.chain THEN
            UPDATE receipt_chains SET sequence = head.sequence, hash = head.hash, updated_at = now()
            WHERE chain = head.chain;
            INSERT INTO receipt_chains (chain, sequence, hash)
            VALUES (item.chain, 0, decode(repeat('00', 32), 'hex'))
            ON CONFLICT (chain) DO NOTHING;
            SELECT * INTO STRICT head FROM receipt_chains WHERE chain = item.chain FOR UPDATE;
        END IF;
        head.sequence := head.sequence + 1;
        placed := '{"chain":' || to_json(item.chain)::text || ',"chain_sequence":' || head.sequence || ','
                  || substr(item.body, 2);
        following := sha256(head.hash || sha256(convert_to(placed, 'UTF8')));
        INSERT INTO receipts (chain, sequence, request_id, start_time, tenant_id, previous_hash, hash, body)
        VALUES (item.chain, head.sequence, item.request_id, item.start_time, item.tenant_id, head.hash, following,
                placed);
        head.hash := following;
        appended := appended + 1;
    END LOOP;
    UPDATE receipt_chains SET sequence = head.sequence, hash = head.hash, updated_at = now() WHERE chain = head.chain;
    RETURN appended;
END
$$;

-- Drops the partitions of a table whose month ended before an instant, and returns their names. Waits for nobody for
-- long: what is in use now leaves the next time.
CREATE FUNCTION drop_month_partitions(parent text, before timestamptz)
RETURNS text[]
LANGUAGE plpgsql
SET timezone = 'UTC'
SET lock_timeout = '2s'
AS $$
DECLARE
    name    text;
    dropped text[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ensure_month_partitions'));
    FOR name IN SELECT month_partitions_before(parent, before) LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped || name;
    END LOOP;
    RETURN dropped;
END
$$;

-- The partitions of a table whose month ended before an instant, the oldest first.
CREATE FUNCTION month_partitions_before(parent text, before timestamptz)
RETURNS SETOF text
LANGUAGE sql
STABLE
AS $$
    SELECT c.relname::text
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = parent::regclass
      AND c.relname ~ ('^' || parent || '_[0-9]{4}_[0-9]{2}$')
      AND right(c.relname, 7) < to_char(before AT TIME ZONE 'UTC', 'YYYY"_"MM')
    ORDER BY c.relname;
$$;
