-- Answers that were served again: how the look-up ended, and what a hit saved. Rows written before say that there was none.

ALTER TABLE requests
    ADD COLUMN cache     text    NOT NULL DEFAULT 'off'
               CHECK (cache IN ('hit', 'semantic_hit', 'miss', 'bypass', 'off')),
    ADD COLUMN saved_usd numeric NOT NULL DEFAULT 0 CHECK (saved_usd >= 0 AND saved_usd < 'Infinity');

COMMENT ON COLUMN requests.cache IS
    'How the look-up in the answer cache ended. On hits the token columns show what the original answer used; nothing was used again and cost is 0.';
COMMENT ON COLUMN requests.saved_usd IS 'USD that the answer of a hit cost when it was made; not part of cost.';
