-- What was refused or looked wrong, where principals were seen, how much they usually ask for, and what rules make of it.

CREATE TABLE security_events (
    id         uuid        NOT NULL,
    at         timestamptz NOT NULL,
    tenant_id  text        NOT NULL,
    kind       text        NOT NULL,
    actor      text        NOT NULL,
    service    text        NOT NULL,
    resource   text        NOT NULL,
    request_id text        NOT NULL,
    network    text        NOT NULL,
    user_agent text        NOT NULL,
    code       text        NOT NULL,
    target     text        NOT NULL,
    count      bigint      NOT NULL CHECK (count > 0),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

COMMENT ON TABLE security_events IS 'Refusals and signs of attack; no content, no addresses. Monthly partitions, UTC.';
COMMENT ON COLUMN security_events.actor IS 'The principal''s id, or anonymous.';
COMMENT ON COLUMN security_events.network IS '/24, or /48 of IPv6.';
COMMENT ON COLUMN security_events.user_agent IS 'First digits of its SHA-256.';
COMMENT ON COLUMN security_events.target IS 'First digits of the SHA-256 of the account that a sign-in named.';
COMMENT ON COLUMN security_events.count IS 'How many like it, of one process and within moments.';

CREATE INDEX security_events_tenant_at ON security_events (tenant_id, at);
CREATE INDEX security_events_kind_at ON security_events (kind, at);
CREATE TABLE security_events_default PARTITION OF security_events DEFAULT;

CREATE TABLE principal_sightings (
    tenant_id    text        NOT NULL,
    principal_id text        NOT NULL,
    service      text        NOT NULL,
    network      text        NOT NULL,
    day          date        NOT NULL,
    roles        text[]      NOT NULL,
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    requests     bigint      NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, service, network, day)
);
COMMENT ON TABLE principal_sightings IS 'Who called, from which network, on which day (UTC), with which roles: for access reviews and shared keys.';
COMMENT ON COLUMN principal_sightings.requests IS 'Calls, nearly: what a process had not told yet when it was killed is missing.';
CREATE INDEX principal_sightings_last_at ON principal_sightings (last_at);

CREATE TABLE usage_hours (
    tenant_id        text        NOT NULL,
    principal_id     text        NOT NULL,
    hour             timestamptz NOT NULL,
    requests         bigint      NOT NULL,
    output_tokens    numeric     NOT NULL,
    attachment_bytes numeric     NOT NULL,
    last_at          timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, hour)
);
COMMENT ON TABLE usage_hours IS 'Volume by principal and hour, so that a baseline never scans the ledger.';
CREATE INDEX usage_hours_hour ON usage_hours (hour);

CREATE TABLE threat_findings (
    id         uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  text        NOT NULL,
    rule       text        NOT NULL,
    signal     text        NOT NULL,
    severity   text        NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    subject    text        NOT NULL,
    state      text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'resolved')),
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    value      numeric     NOT NULL,
    threshold  numeric     NOT NULL,
    baseline   double precision,
    changed_by text,
    changed_at timestamptz,
    note       text        NOT NULL DEFAULT '',
    alerted_at timestamptz
);
COMMENT ON TABLE threat_findings IS 'A rule that fired for somebody; grows while it lasts.';
COMMENT ON COLUMN threat_findings.subject IS 'A network or a principal.';
COMMENT ON COLUMN threat_findings.value IS 'The highest that was measured.';
COMMENT ON COLUMN threat_findings.alerted_at IS 'When it was told; null: still to be.';
CREATE UNIQUE INDEX threat_findings_lasting ON threat_findings (tenant_id, rule, subject) WHERE state <> 'resolved';
CREATE INDEX threat_findings_tenant_last_at ON threat_findings (tenant_id, last_at);
CREATE INDEX threat_findings_untold ON threat_findings (first_at) WHERE alerted_at IS NULL;

CREATE FUNCTION ensure_event_partitions(since timestamptz, months integer)
RETURNS integer
LANGUAGE sql
AS $$
    SELECT ensure_month_partitions('security_events', 'at', since, months);
$$;

SELECT ensure_event_partitions(now(), 3);
