"""The two tables of rollups and the statements that compute them; all that is put together here are constants."""

from dataclasses import dataclass, fields

from shared.analytics.sketches import LEAST, LOG_GAMMA, MOST, ZERO_BIN
from shared.domain.analytics import MAX_TAG_VALUE_CHARS, OTHER
from shared.domain.replies import Usage

TOKENS = tuple(field.name for field in fields(Usage) if field.name != "estimated")
SCORES = (
    "ratings", "rating_sum", "rating_squares", "judged", "judged_sum", "judged_squares",
    "signalled", "signalled_sum", "signalled_squares",
)  # fmt: skip
"""Requests by who scored them (a request has one score), with the sum of the scores and of their squares."""


@dataclass(frozen=True, slots=True)
class RollupTable:
    """A table of rollups beside ``granularity`` and ``bucket``.

    Attributes:
        keys: what a row's requests have in common.
        sums: added up when buckets are merged.
        sketches: joined end to end and made compact.
        fold: computes the minutes given from the ledger.
    """

    name: str
    keys: tuple[str, ...]
    sums: tuple[str, ...]
    sketches: tuple[str, ...]
    fold: bytes

    @property
    def has_tags(self) -> bool:
        """Whether some of its rows are kept by tag."""
        return "tag_value" in self.keys

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, in the order of `merge`."""
        return ("granularity", "bucket", *self.keys, *self.sums, *self.sketches)

    @property
    def merge(self) -> bytes:
        """Adds the buckets of one granularity up to one row for each key, bounded by tag."""
        source = self.name
        ranks, rows = "", f"{source} AS rolled"
        keys = [f"rolled.{key}" for key in self.keys]
        if self.has_tags:
            ranks = f"""WITH ranked AS MATERIALIZED (
                SELECT tenant_id, tag_key, tag_value,
                       row_number() OVER (
                           PARTITION BY tenant_id, tag_key ORDER BY sum(requests) DESC, tag_value) AS rank
                FROM {source} WHERE {_WITHIN} AND tag_key <> '' AND tag_value <> '{OTHER}' GROUP BY 1, 2, 3
            )"""  # noqa: S608 - constants
            rows += " LEFT JOIN ranked USING (tenant_id, tag_key, tag_value)"
            keys[self.keys.index("tag_value")] = _bounded("rolled.tag_value")
        sums = ", ".join(f"sum({name})" for name in self.sums)
        sketches = ", ".join(f"string_agg({name}, ''::bytea)" for name in self.sketches)
        places = ", ".join(str(place) for place in range(1, len(keys) + 1))
        return f"""
            {ranks} SELECT {", ".join(keys)}, {sums}, {sketches} FROM {rows} WHERE {_WITHIN} GROUP BY {places}
        """.encode()  # noqa: S608 - constants


_WITHIN = "granularity = %(source)s AND bucket >= %(since)s AND bucket < %(until)s"


def _bounded(column: str) -> str:
    return f"CASE WHEN coalesce(rank, 1) <= %(most)s THEN {column} ELSE '{OTHER}' END"


def _pair(column: str) -> str:
    """A sketch of one value (`shared.analytics.sketches`)."""
    return (
        f"int2send((CASE WHEN {column} <= {LEAST!r} THEN {ZERO_BIN} "
        f"ELSE ceil(ln(least({column}, {MOST!r}::float8)) / {LOG_GAMMA!r}::float8) END)::int2) || int4send(1)"
    )


def _joined(column: str) -> str:
    return f"coalesce(string_agg({column}, ''::bytea), ''::bytea)"


def _scores(column: str) -> str:
    """How many, their sum, and the sum of their squares. PostgreSQL refuses squares that are too small for a float."""
    square = f"CASE WHEN {column} > 1e-150 THEN {column} * {column} ELSE 0 * {column} END"
    return f"count({column}), coalesce(sum({column}), 0), coalesce(sum({square}), 0)"


def _sums(names: tuple[str, ...]) -> str:
    return ", ".join(f"sum({name})" for name in names)


_MINUTES = """{time} >= %(since)s AND {time} < %(until)s
              AND date_trunc('minute', {time}, 'UTC') = ANY(%(minutes)s::timestamptz[])"""
_PROMPT = (
    "input_tokens::numeric + input_audio_tokens + cache_read_tokens + cache_write_tokens + cache_write_long_tokens"
)

_REQUEST_KEYS = (
    "tenant_id", "service_name", "model_id", "deployment_id", "category", "tag_key", "tag_value", "status",
    "error_code", "reused", "prompt_above_tokens",
)  # fmt: skip
_REQUEST_SUMS = (
    "requests", "late", "usage_estimated", *TOKENS, "cost_usd", "saved_usd", "duration_ms", *SCORES,
)  # fmt: skip
_REQUEST_SKETCHES = ("latency", "ttft", "overhead")
_FOLD_REQUESTS = f"""
    WITH rated AS (
        SELECT request_id, request_start_time, tenant_id, avg(score) AS rating FROM feedback
        WHERE request_start_time >= %(since)s AND request_start_time < %(until)s
        GROUP BY 1, 2, 3
    ), ledger AS MATERIALIZED (
        SELECT date_trunc('minute', start_time, 'UTC') AS bucket, requests.tenant_id, service_name,
               coalesce(model_used, '') AS model_id, coalesce(deployment_used, '') AS deployment_id,
               request_type AS category, status, coalesce(error_code, '') AS error_code,
               cache IN ('hit', 'semantic_hit') AS reused,
               coalesce((SELECT max(tier) FROM unnest(%(tiers)s::bigint[]) AS tier WHERE tier < {_PROMPT}), 0)
                   AS prompt_above_tokens,
               (created_at > end_time + %(grace)s)::int AS late, usage_estimated::int, {", ".join(TOKENS)},
               cost_exact AS cost_usd, saved_usd,
               CASE WHEN status = 'success' THEN requests.duration_ms END AS duration_ms,
               CASE WHEN status = 'success' THEN {_pair("requests.duration_ms")} END AS latency,
               CASE WHEN status = 'success' AND ttft_ms IS NOT NULL THEN {_pair("ttft_ms")} END AS ttft,
               CASE WHEN status <> 'abandoned' THEN {_pair("overhead_ms")} END AS overhead,
               rating, tags,
               CASE WHEN rating IS NULL AND quality_source = 'judge' THEN quality_score END AS verdict,
               CASE WHEN rating IS NULL AND quality_source = 'signals' THEN quality_score END AS signal
        FROM requests LEFT JOIN rated
          ON request_id = id AND request_start_time = start_time AND rated.tenant_id = requests.tenant_id
        WHERE {_MINUTES.format(time="start_time")}
    ), tagged AS (
        SELECT ledger.*, '' AS tag_key, '' AS tag_value FROM ledger
        UNION ALL
        SELECT ledger.*, tag.key, left(tag.value, {MAX_TAG_VALUE_CHARS})
        FROM ledger CROSS JOIN LATERAL jsonb_each_text(tags) AS tag WHERE tag.key = ANY(%(tag_keys)s)
    ), ranked AS MATERIALIZED (
        SELECT bucket, tenant_id, tag_key, tag_value,
               row_number() OVER (PARTITION BY bucket, tenant_id, tag_key ORDER BY count(*) DESC, tag_value) AS rank
        FROM tagged WHERE tag_key <> '' GROUP BY 1, 2, 3, 4
    )
    INSERT INTO analytics
        (granularity, bucket, tenant_id, service_name, model_id, deployment_id, category, tag_key, tag_value, status,
         error_code, reused, prompt_above_tokens, requests, late, usage_estimated, {", ".join(TOKENS)},
         cost_usd, saved_usd, duration_ms, {", ".join(SCORES)}, latency, ttft, overhead)
    SELECT 'minute', bucket, tenant_id, service_name, model_id, deployment_id, category, tag_key,
           {_bounded("tag_value")}, status, error_code, reused, prompt_above_tokens,
           count(*), sum(late), sum(usage_estimated), {_sums(TOKENS)}, sum(cost_usd), sum(saved_usd),
           coalesce(sum(duration_ms), 0), {_scores("rating")}, {_scores("verdict")}, {_scores("signal")},
           {_joined("latency")}, {_joined("ttft")}, {_joined("overhead")}
    FROM tagged LEFT JOIN ranked USING (bucket, tenant_id, tag_key, tag_value)
    GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
""".encode()  # noqa: S608 - constants

_ATTEMPT_KEYS = ("tenant_id", "model_id", "deployment_id", "provider", "region", "outcome")
_ATTEMPT_SUMS = (
    "attempts", "late", "usage_estimated", *TOKENS, "cost_usd", "duration_ms", "generation_ms", "generated_tokens",
)  # fmt: skip
_STREAMED = "outcome = 'success' AND ttft_ms IS NOT NULL AND duration_ms > ttft_ms"
_FOLD_ATTEMPTS = f"""
    INSERT INTO model_performance
        (granularity, bucket, tenant_id, model_id, deployment_id, provider, region, outcome, attempts, late,
         usage_estimated, {", ".join(TOKENS)}, cost_usd, duration_ms, generation_ms, generated_tokens, latency, ttft)
    SELECT 'minute', date_trunc('minute', request_start_time, 'UTC'), tenant_id, model_id, deployment_id, provider,
           region, outcome, count(*), 0, sum(usage_estimated::int), {_sums(TOKENS)}, sum(cost_exact),
           coalesce(sum(duration_ms) FILTER (WHERE outcome = 'success'), 0),
           coalesce(sum(duration_ms - ttft_ms) FILTER (WHERE {_STREAMED}), 0),
           coalesce(sum(output_tokens::numeric + thinking_tokens) FILTER (WHERE {_STREAMED}), 0),
           coalesce(string_agg({_pair("duration_ms")}, ''::bytea) FILTER (WHERE outcome = 'success'), ''::bytea),
           coalesce(string_agg({_pair("ttft_ms")}, ''::bytea)
                    FILTER (WHERE outcome = 'success' AND ttft_ms IS NOT NULL), ''::bytea)
    FROM attempts
    WHERE {_MINUTES.format(time="request_start_time")}
    GROUP BY 2, 3, 4, 5, 6, 7, 8
""".encode()  # noqa: S608 - constants

ANALYTICS = RollupTable("analytics", _REQUEST_KEYS, _REQUEST_SUMS, _REQUEST_SKETCHES, _FOLD_REQUESTS)
MODEL_PERFORMANCE = RollupTable("model_performance", _ATTEMPT_KEYS, _ATTEMPT_SUMS, ("latency", "ttft"), _FOLD_ATTEMPTS)
TABLES = (ANALYTICS, MODEL_PERFORMANCE)
