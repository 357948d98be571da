-- Rollups by fewer things at once: what dashboards ask for most, added up when an hour or a day is computed.

CREATE TABLE analytics_slices (LIKE analytics INCLUDING DEFAULTS, kept text NOT NULL);
COMMENT ON TABLE analytics_slices IS 'Hours and days of analytics by fewer columns; computed and replaced with them, in one transaction. See shared/stores/postgres/rollup_slices.py.';
COMMENT ON COLUMN analytics_slices.kept IS 'Which columns the rows are still told apart by; the others are empty or 0. Tag, status, error code and reuse always are.';
CREATE INDEX analytics_slices_tenant ON analytics_slices (tenant_id, kept, tag_key, granularity, bucket);
CREATE INDEX analytics_slices_bucket ON analytics_slices (bucket, granularity);

-- Hours and days that were computed before: the same sums. Distributions are joined, which is what merging them means.
DO $$
DECLARE
    split     text[] := '{service_name,model_id,deployment_id,category,prompt_above_tokens}';
    always    text := 'granularity, bucket, tenant_id, tag_key, tag_value, status, error_code, reused';
    sums      text;
    sketches  text;
    names     text;
    sliced    record;
    kept_keys text;
    filled    text;
BEGIN
    SELECT string_agg(format('sum(%I)', attname), ', ' ORDER BY attnum) FILTER (WHERE atttypid <> 'bytea'::regtype),
           string_agg(format('string_agg(%I, ''''::bytea)', attname), ', ' ORDER BY attnum)
               FILTER (WHERE atttypid = 'bytea'::regtype),
           string_agg(quote_ident(attname), ', ' ORDER BY atttypid = 'bytea'::regtype, attnum)
    INTO sums, sketches, names
    FROM pg_attribute
    WHERE attrelid = 'analytics'::regclass AND attnum > 0 AND NOT attisdropped
      AND attname <> ALL (split) AND attname <> ALL (string_to_array(always, ', '));
    FOR sliced IN
        SELECT * FROM (VALUES
            (''), ('service_name'), ('model_id'), ('deployment_id'), ('category'),
            ('service_name,model_id,prompt_above_tokens'), ('service_name,deployment_id'), ('service_name,category'),
            ('model_id,category')) AS listed (kept)
    LOOP
        SELECT string_agg(quote_ident(name), ', ' ORDER BY place) FILTER (WHERE is_kept),
               string_agg(CASE WHEN is_kept THEN quote_ident(name)
                               WHEN name = 'prompt_above_tokens' THEN '0' ELSE '''''' END, ', ' ORDER BY place)
        INTO kept_keys, filled
        FROM (SELECT name, place, name = ANY (string_to_array(sliced.kept, ',')) AS is_kept
              FROM unnest(split) WITH ORDINALITY AS listed (name, place)) AS keys;
        EXECUTE format(
            'INSERT INTO analytics_slices (kept, %s, %s, %s) SELECT %L, %s, %s, %s, %s FROM analytics '
            'WHERE granularity <> ''minute'' AND (tag_key = '''' OR %L) GROUP BY %s',
            always, array_to_string(split, ', '), names,
            coalesce(nullif(sliced.kept, ''), 'all'), always, filled, sums, sketches,
            sliced.kept IN ('', 'service_name', 'model_id'), concat_ws(', ', always, kept_keys));
    END LOOP;
END
$$;
