-- Prompts and answers of services that chose to have them kept: sealed, and for days only.

CREATE TABLE kept_content (
    tenant_id    text        NOT NULL,
    request_id   uuid        NOT NULL,
    service_name text        NOT NULL,
    principal_id text        NOT NULL,
    tags         jsonb       NOT NULL,
    started_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    key_id       text        NOT NULL,
    sealed       bytea       NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
COMMENT ON TABLE kept_content IS 'What was asked and answered, for services that opted in. Opens only with a key that is not in this database.';
COMMENT ON COLUMN kept_content.key_id IS 'Version of the secret that seals it; destroying the version destroys what it sealed.';
COMMENT ON COLUMN kept_content.sealed IS 'AES-256-GCM, bound to tenant and request.';
ALTER TABLE kept_content ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX kept_content_expires_at ON kept_content (expires_at);
CREATE INDEX kept_content_principal ON kept_content (tenant_id, principal_id);
