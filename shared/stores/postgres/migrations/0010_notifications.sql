-- Notifications: written with the state of the alert that they tell of, delivered by a timer.

CREATE TABLE notifications (
    position      bigint           GENERATED ALWAYS AS IDENTITY,
    id            text             PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    tenant_id     text             NOT NULL,
    channel       text             NOT NULL,
    occasion      text             NOT NULL CHECK (occasion IN ('firing', 'reminder', 'escalation', 'resolved')),
    severity      text             NOT NULL CHECK (severity IN ('critical', 'warning', 'info')),
    rule_id       text             NOT NULL,
    rule_name     text             NOT NULL,
    incident_id   text             NOT NULL,
    summary       text             NOT NULL,
    started_at    timestamptz      NOT NULL,
    created_at    timestamptz      NOT NULL,
    "group"       jsonb            NOT NULL DEFAULT '{}',
    value         double precision,
    threshold     double precision,
    unit          text             NOT NULL DEFAULT '',
    runbook_url   text             NOT NULL DEFAULT '',
    resolved_at   timestamptz,
    state         text             NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dead')),
    attempts      integer          NOT NULL DEFAULT 0,
    attempts_before integer        NOT NULL DEFAULT 0,
    queued_at     timestamptz      NOT NULL,
    due_at        timestamptz      NOT NULL,
    ended_at      timestamptz,
    last_error    text             NOT NULL DEFAULT ''
);
COMMENT ON TABLE notifications IS 'What people are told, and how far its delivery is. No secrets and no content of requests.';
COMMENT ON COLUMN notifications.position IS 'Order of writing: of one incident and channel, none is sent before those ahead of it have ended.';
COMMENT ON COLUMN notifications.attempts IS 'Attempts that were begun. The number of an attempt is also its lease: only the newest may write what came of it.';
COMMENT ON COLUMN notifications.attempts_before IS 'Attempts before the last retry that an admin asked for; they count no more.';
COMMENT ON COLUMN notifications.queued_at IS 'When it was written, or when an admin asked for the last retry.';
COMMENT ON COLUMN notifications.due_at IS 'When the next attempt may begin; while one is under way, when its lease ends.';
COMMENT ON COLUMN notifications.last_error IS 'A code and a short text of the router''s own; never what a receiver said.';

CREATE INDEX notifications_due ON notifications (tenant_id, channel, due_at) WHERE state = 'waiting';
CREATE INDEX notifications_ahead ON notifications (tenant_id, channel, incident_id, position);
CREATE INDEX notifications_tenant_created_at ON notifications (tenant_id, created_at, id);
