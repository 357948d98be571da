-- Alert rules, the incidents that become of them, silences, and how far rules were evaluated.

CREATE TABLE alert_rules (
    tenant_id  text        NOT NULL,
    id         text        NOT NULL CHECK (length(id) BETWEEN 1 AND 64),
    name       text        NOT NULL,
    version    bigint      NOT NULL CHECK (version > 0),
    body       jsonb       NOT NULL,
    changed_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE alert_rules IS 'Rules that somebody made, and built-in ones that somebody changed.';
COMMENT ON COLUMN alert_rules.body IS 'The rule, as shared/domain/alerts.py has it, without fields at their defaults.';
COMMENT ON COLUMN alert_rules.deleted_at IS 'Its open incidents end with the next evaluation.';
CREATE UNIQUE INDEX alert_rules_name ON alert_rules (tenant_id, name) WHERE deleted_at IS NULL;

CREATE TABLE alert_progress (
    tenant_id    text        NOT NULL,
    rule_id      text        NOT NULL,
    evaluated_at timestamptz,
    standing     text        NOT NULL CHECK (standing IN ('new', 'current', 'stale', 'unfit')),
    words        text        NOT NULL,
    PRIMARY KEY (tenant_id, rule_id)
);
COMMENT ON COLUMN alert_progress.evaluated_at IS 'End of the newest window that was looked at.';

CREATE TABLE alert_incidents (
    id              uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL,
    rule_id         text        NOT NULL,
    group_key       text        NOT NULL,
    state           text        NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
    started_at      timestamptz NOT NULL,
    fired_at        timestamptz,
    resolved_at     timestamptz,
    body            jsonb       NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text        NOT NULL DEFAULT '',
    note            text        NOT NULL DEFAULT '',
    CHECK ((state = 'pending') = (fired_at IS NULL)),
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
COMMENT ON TABLE alert_incidents IS 'Conditions that hold or held. Pending ones that come to nothing are deleted.';
COMMENT ON COLUMN alert_incidents.body IS 'The incident without what the acknowledged columns and note say.';
CREATE UNIQUE INDEX alert_incidents_open ON alert_incidents (tenant_id, rule_id, group_key) WHERE state <> 'resolved';
CREATE INDEX alert_incidents_started_at ON alert_incidents (tenant_id, started_at, id);
CREATE INDEX alert_incidents_rule ON alert_incidents (tenant_id, rule_id, started_at, id);
CREATE INDEX alert_incidents_resolved_at ON alert_incidents (resolved_at) WHERE state = 'resolved';

CREATE TABLE alert_silences (
    id        uuid        PRIMARY KEY,
    tenant_id text        NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at   timestamptz NOT NULL CHECK (ends_at > starts_at),
    body      jsonb       NOT NULL
);
COMMENT ON TABLE alert_silences IS 'Incidents of which nobody is told for a while.';
CREATE INDEX alert_silences_ends_at ON alert_silences (tenant_id, ends_at);
