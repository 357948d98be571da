-- Signs of quality, and one score of each request.

ALTER TABLE requests
    ADD COLUMN quality_source text
               CHECK (quality_source IN ('feedback', 'judge', 'signals')),
    ADD COLUMN quality_signs  text NOT NULL DEFAULT '';
COMMENT ON COLUMN requests.quality_score IS '0 to 1: what the strongest source says. Null: what is known is too weak for a score.';
COMMENT ON COLUMN requests.quality_source IS 'Who says so: feedback before judge before signals. Null where there is no score, and in rows whose score came from elsewhere.';
COMMENT ON COLUMN requests.quality_signs IS 'What the answer shows by itself, words in alphabetical order, separated by commas; no content.';

CREATE TABLE quality_evidence (
    tenant_id          text        NOT NULL,
    request_id         uuid        NOT NULL,
    request_start_time timestamptz NOT NULL,
    kind               text        NOT NULL,
    score              double precision CHECK (score >= 0 AND score <= 1),
    judge_model        text,
    judge_request_id   uuid,
    rubric             text,
    noted_at           timestamptz NOT NULL,
    PRIMARY KEY (request_id, tenant_id, kind),
    CHECK ((kind = 'judge') = (score IS NOT NULL))
);
COMMENT ON TABLE quality_evidence IS 'What was found out about an answer after its record was written; the first of each kind stays.';
COMMENT ON COLUMN quality_evidence.kind IS 'A sign, or judge: a verdict.';
COMMENT ON COLUMN quality_evidence.score IS 'Of a verdict, 0 to 1.';
COMMENT ON COLUMN quality_evidence.judge_request_id IS 'The request by which the judge was asked.';
COMMENT ON COLUMN quality_evidence.rubric IS 'Names what the points meant; verdicts of two rubrics do not compare.';
CREATE INDEX quality_evidence_request_start_time ON quality_evidence (request_start_time);

CREATE TABLE quality_pending (
    tenant_id          text        NOT NULL,
    request_id         uuid        NOT NULL,
    request_start_time timestamptz NOT NULL,
    noted_at           timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE quality_pending IS 'Requests whose score is to be made anew. Rows are only added and deleted, as in rollup_pending.';
CREATE INDEX quality_pending_noted_at ON quality_pending (noted_at);

CREATE FUNCTION note_quality() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO quality_pending (tenant_id, request_id, request_start_time)
    SELECT DISTINCT tenant_id, request_id, request_start_time FROM changed WHERE request_start_time IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER quality_evidence_inserted AFTER INSERT ON quality_evidence
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_quality();
CREATE TRIGGER feedback_quality_inserted AFTER INSERT ON feedback
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_quality();
CREATE TRIGGER feedback_quality_updated AFTER UPDATE ON feedback
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_quality();
CREATE TRIGGER feedback_quality_deleted AFTER DELETE ON feedback
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_quality();
INSERT INTO quality_pending (tenant_id, request_id, request_start_time)
SELECT DISTINCT tenant_id, request_id, request_start_time FROM feedback WHERE request_start_time IS NOT NULL;

ALTER TABLE analytics
    ADD COLUMN rating_squares    double precision NOT NULL DEFAULT 0,
    ADD COLUMN judged            bigint           NOT NULL DEFAULT 0,
    ADD COLUMN judged_sum        double precision NOT NULL DEFAULT 0,
    ADD COLUMN judged_squares    double precision NOT NULL DEFAULT 0,
    ADD COLUMN signalled         bigint           NOT NULL DEFAULT 0,
    ADD COLUMN signalled_sum     double precision NOT NULL DEFAULT 0,
    ADD COLUMN signalled_squares double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN analytics.rating_squares IS 'Sum of the squares of the mean ratings.';
COMMENT ON COLUMN analytics.judged IS 'Requests whose score is a judge''s: those that nobody rated. judged_sum and judged_squares add up the scores and their squares.';
COMMENT ON COLUMN analytics.signalled IS 'Requests whose score comes of signs: something is plainly wrong with their answers.';
