-- Decision receipts, one for each decision, chained by hash when they are written, and the configurations that they name.

CREATE TABLE receipts (
    chain         text        NOT NULL,
    sequence      bigint      NOT NULL CHECK (sequence > 0),
    request_id    uuid        NOT NULL,
    start_time    timestamptz NOT NULL,
    tenant_id     text        NOT NULL,
    previous_hash bytea       NOT NULL,
    hash          bytea       NOT NULL,
    body          text        NOT NULL,
    PRIMARY KEY (request_id, start_time)
) PARTITION BY RANGE (start_time);

COMMENT ON TABLE receipts IS 'What is needed to repeat a decision; written with its request in one statement, never changed. Monthly partitions, UTC.';
COMMENT ON COLUMN receipts.chain IS 'One for each writer and month of start_time, so that a month leaves by DROP with whole chains.';
COMMENT ON COLUMN receipts.sequence IS 'Place in the chain, from 1 without gaps.';
COMMENT ON COLUMN receipts.previous_hash IS 'hash of the row before; 32 zero bytes for the first.';
COMMENT ON COLUMN receipts.hash IS 'SHA-256 over previous_hash and body.';
COMMENT ON COLUMN receipts.body IS 'Canonical JSON, byte for byte what was hashed (jsonb would not keep it so): place, request, decision, outcome. No content.';

-- Not unique: an index over partitions cannot be without start_time. The lock on the chain's head keeps it so.
CREATE INDEX receipts_chain_sequence ON receipts (chain, sequence);

CREATE TABLE receipts_default PARTITION OF receipts DEFAULT;

CREATE TABLE receipt_chains (
    chain      text        PRIMARY KEY,
    sequence   bigint      NOT NULL,
    hash       bytea       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE receipt_chains IS 'The last row of each chain: where the next one goes, and proof that the end was not cut off.';

-- Appends receipts to their chains and returns how many. All arrays are equally long; `bodies` lack their place, which
-- is put in front. The head's row lock lets one writer at a time append to a chain, and what it reads there is what was
-- committed last: a commit whose answer was lost leaves the chain as it is, and the next append follows it.
CREATE FUNCTION append_receipts(
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
        following := sha256(head.hash || convert_to(placed, 'UTF8'));
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
COMMENT ON FUNCTION append_receipts IS 'The same chain as shared/domain/receipts.py makes; a test holds the two together.';

CREATE TABLE config_documents (
    kind       text        NOT NULL CHECK (kind IN ('registry', 'policy')),
    version    text        NOT NULL CHECK (version = encode(sha256(convert_to(body, 'UTF8')), 'hex')),
    body       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, version)
);
COMMENT ON TABLE config_documents IS 'Every registry and policy that decisions were made with, by the hash of its content.';

CREATE OR REPLACE FUNCTION ensure_request_partitions(since timestamptz, months integer)
RETURNS integer
LANGUAGE sql
AS $$
    SELECT ensure_month_partitions('requests', 'start_time', since, months)
         + ensure_month_partitions('attempts', 'request_start_time', since, months)
         + ensure_month_partitions('receipts', 'start_time', since, months);
$$;

SELECT ensure_request_partitions(now(), 3);
