-- Documents to retrieve from: their chunks, vectors by embedding model, and words for BM25. Every table but the two
-- registers is under row-level security, also for its owner: without the setting `router.retrieval_tenant` it is empty.

CREATE TABLE retrieval_tenants (
    number    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text    NOT NULL UNIQUE
);
COMMENT ON TABLE retrieval_tenants IS 'Tenants by number: a number is part of every key of postings, of which there are a hundred for a chunk.';

CREATE FUNCTION retrieval_tenant() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('router.retrieval_tenant', true), '')::integer;
COMMENT ON FUNCTION retrieval_tenant() IS 'Whose rows this transaction may see and write; NULL, so nobody''s, when it has not said.';

CREATE TABLE collections (
    number        integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        integer  NOT NULL REFERENCES retrieval_tenants,
    name          text     NOT NULL,
    chunks        bigint   NOT NULL DEFAULT 0 CHECK (chunks >= 0),
    lengths       bigint   NOT NULL DEFAULT 0 CHECK (lengths >= 0),
    highest_label smallint NOT NULL DEFAULT 0,
    restricted    boolean  NOT NULL DEFAULT false,
    calibration   jsonb,
    UNIQUE (tenant, name)
);
COMMENT ON COLUMN collections.lengths IS 'Sum of chunks.length.';
COMMENT ON COLUMN collections.highest_label IS 'No chunk ever had a higher one: a search that may see it need not look at labels.';
COMMENT ON COLUMN collections.restricted IS 'Whether a document ever had an access list: if not, a search need not look for one.';
COMMENT ON COLUMN collections.calibration IS 'What scores of questions that the collection does not answer look like.';

CREATE TABLE documents (
    number        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        integer     NOT NULL REFERENCES retrieval_tenants,
    collection    integer     NOT NULL REFERENCES collections,
    id            uuid        NOT NULL UNIQUE,
    source        text        NOT NULL,
    source_key    bytea       NOT NULL,
    version       integer     NOT NULL DEFAULT 1,
    status        text        NOT NULL DEFAULT 'queued' CHECK (
                      status IN ('queued', 'parsing', 'embedding', 'ready', 'failed', 'needs_ocr', 'deleted')),
    title         text        NOT NULL,
    declared      jsonb       NOT NULL,
    media_type    text        NOT NULL,
    name          text        NOT NULL,
    blob          text        NOT NULL,
    service       text        NOT NULL,
    sha           text        NOT NULL,
    size_bytes    bigint      NOT NULL,
    label         smallint    NOT NULL,
    acl           text[]      NOT NULL,
    metadata      jsonb       NOT NULL,
    pages         integer,
    reason        text        NOT NULL DEFAULT '',
    warnings      text[]      NOT NULL DEFAULT '{}',
    attempts      integer     NOT NULL DEFAULT 0,
    worker        text,
    lease_until   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    live_version  integer,
    live_title    text        NOT NULL DEFAULT '',
    live_label    smallint    NOT NULL DEFAULT 0,
    live_acl      text[]      NOT NULL DEFAULT '{}',
    live_metadata jsonb       NOT NULL DEFAULT '{}',
    chunks        integer     NOT NULL DEFAULT 0,
    UNIQUE (collection, source_key)
);
COMMENT ON COLUMN documents.source_key IS 'SHA-256 of source, which may be too long for an index.';
COMMENT ON COLUMN documents.declared IS 'Title and label as they were sent; title and label are what was found of them.';
COMMENT ON COLUMN documents.live_label IS 'Of the version that is searched. It rises and live_acl narrows when a version is registered; the rest follows when it is published.';
CREATE INDEX documents_by_change ON documents (tenant, updated_at DESC, id DESC);
CREATE INDEX documents_under_way ON documents (tenant, updated_at) WHERE status IN ('queued', 'parsing', 'embedding');

CREATE SEQUENCE chunk_ids;
CREATE TABLE chunks (
    id           bigint   NOT NULL,
    tenant       integer  NOT NULL,
    collection   integer  NOT NULL,
    document     bigint   NOT NULL REFERENCES documents ON DELETE CASCADE,
    ordinal      integer  NOT NULL,
    page         integer,
    start_offset integer  NOT NULL,
    end_offset   integer  NOT NULL,
    tokens       integer  NOT NULL,
    label        smallint NOT NULL,
    length       smallint NOT NULL,
    sha          bytea    NOT NULL,
    prefix       text     NOT NULL,
    text         text     NOT NULL,
    lexemes      integer[]  NOT NULL,
    counts       smallint[] NOT NULL,
    -- With what filters ask of a chunk, so that they need not read it.
    PRIMARY KEY (tenant, id) INCLUDE (document, label)
);
COMMENT ON COLUMN chunks.length IS 'Sum of counts: what BM25 calls the length.';
COMMENT ON COLUMN chunks.lexemes IS 'Its words (shared.rag.terms) as 32-bit hashes, each once; counts are in quarters of an occurrence.';
CREATE INDEX chunks_by_document ON chunks (document, ordinal);
CREATE INDEX chunks_by_collection ON chunks (collection, document);
CREATE INDEX chunks_by_sha ON chunks (tenant, sha);

CREATE TABLE postings (
    chunk      bigint   NOT NULL,
    tenant     integer  NOT NULL,
    collection integer  NOT NULL,
    lexeme     integer  NOT NULL,
    count      smallint NOT NULL,
    length     smallint NOT NULL,
    PRIMARY KEY (collection, lexeme, chunk) INCLUDE (tenant, count, length)
);
COMMENT ON TABLE postings IS 'What chunks.lexemes says, by lexeme. Kept by triggers. Equality is leakproof, so the index serves under row-level security, which full-text search''s does not.';

CREATE TABLE lexemes (
    collection integer NOT NULL,
    lexeme     integer NOT NULL,
    tenant     integer NOT NULL,
    chunks     integer NOT NULL CHECK (chunks >= 0),
    PRIMARY KEY (collection, lexeme)
) WITH (fillfactor = 80);
COMMENT ON TABLE lexemes IS 'In how many chunks of the collection a lexeme stands. Kept by triggers.';

CREATE TABLE embedding_models (
    number     smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text     NOT NULL UNIQUE,
    dimensions integer  NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    status     text     NOT NULL CHECK (status IN ('building', 'active', 'retired'))
);
COMMENT ON TABLE embedding_models IS 'Each has a table of vectors, vectors_<number>; the active one''s is searched. 4000 dimensions are the most that HNSW takes of halfvec.';
CREATE UNIQUE INDEX one_active_embedding_model ON embedding_models (status) WHERE status = 'active';

-- Statistics of words follow the chunks, by whatever statement they come and go: also when a document is deleted and they
-- with it. The row of the collection comes first: it lets one transaction at a time count, so the rows of words cannot
-- make two wait for each other.
CREATE FUNCTION add_chunks() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE collections
    SET chunks = collections.chunks + sums.chunks, lengths = collections.lengths + sums.lengths,
        highest_label = greatest(highest_label, sums.label)
    FROM (SELECT collection, count(*) AS chunks, sum(length) AS lengths, max(label) AS label FROM added GROUP BY 1) AS sums
    WHERE collections.number = sums.collection;
    INSERT INTO postings (chunk, tenant, collection, lexeme, count, length)
    SELECT id, tenant, collection, word.lexeme, word.count, length
    FROM added CROSS JOIN LATERAL unnest(lexemes, counts) AS word (lexeme, count)
    ORDER BY collection, word.lexeme, id;
    INSERT INTO lexemes AS known (collection, lexeme, tenant, chunks)
    SELECT collection, word.lexeme, min(tenant), count(*)
    FROM added CROSS JOIN LATERAL unnest(lexemes) AS word (lexeme)
    GROUP BY collection, word.lexeme
    ORDER BY collection, word.lexeme
    ON CONFLICT (collection, lexeme) DO UPDATE SET chunks = known.chunks + excluded.chunks;
    RETURN NULL;
END
$$;
CREATE TRIGGER chunks_added AFTER INSERT ON chunks
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_chunks();

CREATE FUNCTION remove_chunks() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE collections
    SET chunks = collections.chunks - sums.chunks, lengths = collections.lengths - sums.lengths
    FROM (SELECT collection, count(*) AS chunks, sum(length) AS lengths FROM removed GROUP BY 1) AS sums
    WHERE collections.number = sums.collection;
    DELETE FROM postings
    USING (SELECT id, collection, word.lexeme FROM removed CROSS JOIN LATERAL unnest(lexemes) AS word (lexeme)) AS gone
    WHERE postings.collection = gone.collection AND postings.lexeme = gone.lexeme AND postings.chunk = gone.id;
    UPDATE lexemes SET chunks = lexemes.chunks - gone.chunks
    FROM (SELECT collection, word.lexeme, count(*) AS chunks
          FROM removed CROSS JOIN LATERAL unnest(lexemes) AS word (lexeme) GROUP BY 1, 2) AS gone
    WHERE lexemes.collection = gone.collection AND lexemes.lexeme = gone.lexeme;
    DELETE FROM lexemes
    USING (SELECT DISTINCT collection, word.lexeme FROM removed CROSS JOIN LATERAL unnest(lexemes) AS word (lexeme)) AS gone
    WHERE lexemes.collection = gone.collection AND lexemes.lexeme = gone.lexeme AND lexemes.chunks = 0;
    RETURN NULL;
END
$$;
CREATE TRIGGER chunks_removed AFTER DELETE ON chunks
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION remove_chunks();

CREATE FUNCTION protect_tenant(name regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
    -- A subquery is evaluated once for a statement, a function might be for each row.
    EXECUTE format('CREATE POLICY tenant ON %s USING (tenant = (SELECT retrieval_tenant())) '
                   'WITH CHECK (tenant = (SELECT retrieval_tenant()))', name);
END
$$;
SELECT protect_tenant(name)
FROM unnest(ARRAY['collections', 'documents', 'chunks', 'postings', 'lexemes']::regclass[]) AS name;

-- Partitions keep a small tenant's vectors out of the graph of most large ones; foreign keys are checked at the end of
-- a transaction, so that vectors, which take long to insert, need not wait for the chunks' locks.
CREATE FUNCTION ensure_embedding_model(model text, size integer) RETURNS smallint
LANGUAGE plpgsql AS $$
DECLARE
    known embedding_models;
    part integer;
BEGIN
    SELECT * INTO known FROM embedding_models WHERE name = model;
    IF NOT FOUND THEN
        LOCK TABLE embedding_models IN SHARE ROW EXCLUSIVE MODE;
        SELECT * INTO known FROM embedding_models WHERE name = model;
    END IF;
    IF known.number IS NOT NULL THEN
        IF known.dimensions <> size THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'dimensions',
                DETAIL = known.dimensions::text;
        END IF;
        RETURN known.number;
    END IF;
    INSERT INTO embedding_models (name, dimensions, status)
    VALUES (model, size, CASE WHEN EXISTS (SELECT FROM embedding_models WHERE status = 'active') THEN 'building' ELSE 'active' END)
    RETURNING * INTO known;
    EXECUTE format(
        'CREATE TABLE vectors_%s (tenant integer NOT NULL, chunk bigint NOT NULL, collection integer NOT NULL, '
        'embedding halfvec(%s) NOT NULL, PRIMARY KEY (tenant, chunk), '
        'FOREIGN KEY (tenant, chunk) REFERENCES chunks ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED) '
        'PARTITION BY HASH (tenant)', known.number, size);
    -- In the row: a vector that is stored out of line costs a look-up for every comparison.
    EXECUTE format('ALTER TABLE vectors_%s ALTER COLUMN embedding SET STORAGE PLAIN', known.number);
    FOR part IN 0..3 LOOP
        EXECUTE format('CREATE TABLE vectors_%s_%s PARTITION OF vectors_%s FOR VALUES WITH (MODULUS 4, REMAINDER %s)',
                       known.number, part, known.number, part);
        PERFORM protect_tenant(format('vectors_%s_%s', known.number, part)::regclass);
    END LOOP;
    EXECUTE format('CREATE INDEX ON vectors_%s (collection)', known.number);
    EXECUTE format('CREATE INDEX ON vectors_%s USING hnsw (embedding halfvec_cosine_ops) WITH (m = 16, ef_construction = 100)',
                   known.number);
    PERFORM protect_tenant(format('vectors_%s', known.number)::regclass);
    RETURN known.number;
END
$$;
COMMENT ON FUNCTION ensure_embedding_model(text, integer) IS 'The number of a model''s table of vectors, made if there is none; the first model is the active one.';
