-- Tables of which rows are replaced all the time: by default VACUUM comes when a fifth of a table has changed, which for
-- those that were large once is too late, and for notes that come and go within a minute too seldom.

ALTER TABLE rollup_pending  SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE quality_pending SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

DO $$
DECLARE
    name text;
BEGIN
    -- An hour's rows are written anew each minute while it lasts, and a day's each hour.
    FOREACH name IN ARRAY '{analytics_minute, analytics_hour, analytics_day, analytics_slices,
                            model_performance_minute, model_performance_hour, model_performance_day}'::text[] LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02)',
                       name);
    END LOOP;
    -- Few rows, updated with each batch of records: room on their pages keeps the new versions out of the indexes.
    FOREACH name IN ARRAY '{budget_spend, receipt_chains}'::text[] LOOP
        EXECUTE format('ALTER TABLE %I SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, '
                       'autovacuum_vacuum_threshold = 1000)', name);
    END LOOP;
END
$$;
