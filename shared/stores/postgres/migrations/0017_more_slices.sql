-- More slices: minutes in all, by service and by model; hours and days by service, model and category, without
-- distributions. They are made with their buckets; those of buckets that are there already are made here. See shared/stores/postgres/rollup_slices.py.

COMMENT ON TABLE analytics_slices IS 'Buckets of analytics by fewer columns; computed and replaced with them, in one transaction. See shared/stores/postgres/rollup_slices.py.';

INSERT INTO analytics_slices
    (kept, granularity, bucket, tenant_id, service_name, model_id, deployment_id, category, tag_key, tag_value, status,
     error_code, reused, prompt_above_tokens, requests, late, usage_estimated, input_tokens, input_audio_tokens,
     cache_read_tokens, cache_write_tokens, cache_write_long_tokens, output_tokens, thinking_tokens, cost_usd, saved_usd,
     duration_ms, ratings, rating_sum, rating_squares, judged, judged_sum, judged_squares, signalled, signalled_sum,
     signalled_squares, latency, ttft, overhead)
SELECT CASE GROUPING(service_name, model_id) WHEN 3 THEN 'all' WHEN 1 THEN 'service_name' ELSE 'model_id' END,
       granularity, bucket, tenant_id, coalesce(service_name, ''), coalesce(model_id, ''), '', '', tag_key, tag_value, status,
       error_code, reused, 0, sum(requests), sum(late), sum(usage_estimated), sum(input_tokens), sum(input_audio_tokens),
       sum(cache_read_tokens), sum(cache_write_tokens), sum(cache_write_long_tokens), sum(output_tokens),
       sum(thinking_tokens), sum(cost_usd), sum(saved_usd), sum(duration_ms), sum(ratings), sum(rating_sum),
       sum(rating_squares), sum(judged), sum(judged_sum), sum(judged_squares), sum(signalled), sum(signalled_sum),
       sum(signalled_squares), string_agg(latency, ''), string_agg(ttft, ''), string_agg(overhead, '')
FROM analytics
WHERE granularity = 'minute' AND tag_key = ''
GROUP BY granularity, bucket, tenant_id, tag_key, tag_value, status, error_code, reused,
         GROUPING SETS ((), (service_name), (model_id));

INSERT INTO analytics_slices
    (kept, granularity, bucket, tenant_id, service_name, model_id, deployment_id, category, tag_key, tag_value, status,
     error_code, reused, prompt_above_tokens, requests, late, usage_estimated, input_tokens, input_audio_tokens,
     cache_read_tokens, cache_write_tokens, cache_write_long_tokens, output_tokens, thinking_tokens, cost_usd, saved_usd,
     duration_ms, ratings, rating_sum, rating_squares, judged, judged_sum, judged_squares, signalled, signalled_sum,
     signalled_squares, latency, ttft, overhead)
SELECT 'service_name,model_id,category',
       granularity, bucket, tenant_id, service_name, model_id, '', category, tag_key, tag_value, status,
       error_code, reused, 0, sum(requests), sum(late), sum(usage_estimated), sum(input_tokens), sum(input_audio_tokens),
       sum(cache_read_tokens), sum(cache_write_tokens), sum(cache_write_long_tokens), sum(output_tokens),
       sum(thinking_tokens), sum(cost_usd), sum(saved_usd), sum(duration_ms), sum(ratings), sum(rating_sum),
       sum(rating_squares), sum(judged), sum(judged_sum), sum(judged_squares), sum(signalled), sum(signalled_sum),
       sum(signalled_squares), '', '', ''
FROM analytics
WHERE granularity <> 'minute' AND tag_key = ''
GROUP BY granularity, bucket, tenant_id, tag_key, tag_value, status, error_code, reused,
         service_name, model_id, category;
