-- Who sent documents, so that a person's can be exported and erased; and vectors that are paid for and not published yet.

ALTER TABLE documents
    ADD COLUMN principal         text        NOT NULL DEFAULT '',
    ADD COLUMN submitted_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN live_service      text        NOT NULL DEFAULT '',
    ADD COLUMN live_principal    text        NOT NULL DEFAULT '',
    ADD COLUMN live_submitted_at timestamptz;
UPDATE documents SET submitted_at = created_at;
UPDATE documents SET live_service = service, live_submitted_at = created_at WHERE live_version IS NOT NULL;
COMMENT ON COLUMN documents.principal IS 'Who sent the newest version; empty for versions from before this was kept.';
COMMENT ON COLUMN documents.live_principal IS 'Who sent the version that is searched.';
CREATE INDEX documents_by_principal ON documents (tenant, principal);

CREATE TABLE embedded_chunks (
    tenant      integer     NOT NULL,
    document    bigint      NOT NULL REFERENCES documents ON DELETE CASCADE,
    model       text        NOT NULL,
    sha         bytea       NOT NULL,
    vector      bytea       NOT NULL,
    PRIMARY KEY (document, model, sha)
);
COMMENT ON TABLE embedded_chunks IS 'Vectors of versions that are worked on, kept batch by batch: a worker that dies loses one batch. Gone when the version is published or the document deleted.';
COMMENT ON COLUMN embedded_chunks.vector IS 'Single precision, as the model gave it.';
CREATE INDEX embedded_chunks_by_sha ON embedded_chunks (tenant, sha);
SELECT protect_tenant('embedded_chunks');
