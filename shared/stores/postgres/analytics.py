"""Questions to the rollups in PostgreSQL. Nothing here reads the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow, dict_row

from shared.domain.analytics import Aggregate, AnalyticsQuery, Dimension, Freshness, Granularity, Spend, Subject
from shared.domain.replies import Usage
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollup_slices import SLICES, SPEND, slice_for, slice_name
from shared.stores.postgres.rollup_tables import SCORES, TOKENS

_COLUMNS = {
    Dimension.SERVICE: "service_name",
    Dimension.MODEL: "model_id",
    Dimension.DEPLOYMENT: "deployment_id",
    Dimension.CATEGORY: "category",
    Dimension.TAG: "tag_value",
}
_SKETCHES = {Subject.REQUESTS: ("latency", "ttft", "overhead"), Subject.ATTEMPTS: ("latency", "ttft")}
_USED = " FILTER (WHERE NOT reused)"
_SUMS = {
    Subject.REQUESTS: {
        "count": "sum(requests)",
        "succeeded": "coalesce(sum(requests) FILTER (WHERE status = 'success'), 0)",
        "cancelled": "coalesce(sum(requests) FILTER (WHERE status = 'cancelled'), 0)",
        "abandoned": "coalesce(sum(requests) FILTER (WHERE status = 'abandoned'), 0)",
        "hits": "coalesce(sum(requests) FILTER (WHERE reused), 0)",
        "late": "sum(late)",
        "usage_estimated": f"coalesce(sum(usage_estimated){_USED}, 0)",
        **{name: f"coalesce(sum({name}){_USED}, 0)" for name in TOKENS},
        "cost_usd": "sum(cost_usd)",
        "saved_usd": "sum(saved_usd)",
        "duration_ms": "sum(duration_ms)",
        **{name: f"sum({name})" for name in SCORES},
    },
    Subject.ATTEMPTS: {
        "count": "sum(attempts)",
        "succeeded": "coalesce(sum(attempts) FILTER (WHERE outcome = 'success'), 0)",
        "usage_estimated": "sum(usage_estimated)",
        **{name: f"sum({name})" for name in TOKENS},
        "cost_usd": "sum(cost_usd)",
        "duration_ms": "sum(duration_ms)",
        "generation_ms": "sum(generation_ms)",
        "generated_tokens": "sum(generated_tokens)",
    },
}
_FAILURE = {
    Subject.REQUESTS: ("error_code", "coalesce(sum(requests) FILTER (WHERE status = 'error'), 0)"),
    Subject.ATTEMPTS: ("outcome", "coalesce(sum(attempts) FILTER (WHERE outcome <> 'success'), 0)"),
}
_TABLE = {Subject.REQUESTS: "analytics", Subject.ATTEMPTS: "model_performance"}
_INTEGERS = frozenset(
    {"count", "succeeded", "cancelled", "abandoned", "hits", "late", "usage_estimated"}
    | {"ratings", "judged", "signalled"}
)
_FRESHNESS = b"SELECT coalesce(min(noted_at), now()), count(DISTINCT (granularity, bucket)) FROM rollup_pending"
_SPEND = f"""
    SELECT width_bucket(bucket, %(edges)s::timestamptz[]) AS place, service_name, model_id, reused,
           prompt_above_tokens, sum(requests) AS requests, sum(cost_usd) AS cost_usd,
           {", ".join(f"sum({name}) AS {name}" for name in TOKENS)}
    FROM {SLICES}
    WHERE granularity = %(granularity)s AND tenant_id = %(tenant_id)s AND tag_key = '' AND kept = '{slice_name(SPEND)}'
      AND bucket >= %(since)s AND bucket < %(until)s
      AND (%(services)s::text[] IS NULL OR service_name = ANY(%(services)s))
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY 1, 2, 3, 4, 5
""".encode()  # noqa: S608 - constants


class PostgresAnalytics:
    """`AnalyticsStore`.

    Args:
        pool: where the rollups are.
        deadline_s: seconds within which a call is done or fails.
    """

    def __init__(self, pool: PostgresPool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def rows(self, query: AnalyticsQuery) -> Sequence[Aggregate]:
        """The rows that a query takes, by start and group, and one more than its limit where there are more.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        statement, values = statement_of(query)
        rows = await self._rows(statement, values)
        return [_aggregate(row, query) for row in rows]

    async def spend(
        self, tenant_id: str, edges: Sequence[datetime], *, services: Sequence[str] | None = None
    ) -> Sequence[Spend]:
        """What was spent, by bucket, service and model, with the tokens that say why.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        query = AnalyticsQuery(tenant_id, tuple(edges))
        values = _window(query) | {"services": None if services is None else list(services)}
        return [
            Spend(
                start=edges[row["place"] - 1],
                service=row["service_name"],
                model_id=row["model_id"],
                reused=row["reused"],
                prompt_above_tokens=row["prompt_above_tokens"],
                requests=int(row["requests"]),
                usage=_usage(row),
                cost_usd=row["cost_usd"],
            )
            for row in await self._rows(_SPEND, values)
        ]

    async def freshness(self) -> Freshness:
        """Up to when the rollups are complete.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            row = await (await connection.execute(_FRESHNESS)).fetchone()
        as_of, pending = row or (datetime.min.replace(tzinfo=UTC), 0)
        return Freshness(as_of.astimezone(UTC), pending)

    async def _rows(self, statement: bytes, values: dict[str, Any]) -> list[DictRow]:
        async with self._pool.connection(timeout_s=self._deadline_s) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return await (await cursor.execute(statement, values)).fetchall()


def statement_of(query: AnalyticsQuery) -> tuple[bytes, dict[str, Any]]:
    """The statement of a query: what is put together are constants of this module, all else are values."""
    of = query.subject
    groups = [_COLUMNS[dimension] for dimension in query.group_by]
    failure, failed = _FAILURE[of]
    sketches = _SKETCHES[of] if query.sketches else ()
    values = _window(query) | {"limit": query.limit + 1}
    where = ["granularity = %(granularity)s", "tenant_id = %(tenant_id)s"]
    where += ["bucket >= %(since)s", "bucket < %(until)s"]
    table = _TABLE[of]
    if of is Subject.REQUESTS:
        where.append("tag_key = %(tag_key)s")
        values["tag_key"] = query.tag_key
        columns = {_COLUMNS[dimension] for dimension in (*query.group_by, *query.filters)}
        # Minutes are not sliced.
        is_sliced = query.granularity is not Granularity.MINUTE
        values["kept"] = slice_for(columns, by_tag=bool(query.tag_key)) if is_sliced else None
        if values["kept"] is not None:
            table = SLICES
            where.append("kept = %(kept)s")
    for number, (dimension, wanted) in enumerate(query.filters.items()):
        where.append(f"{_COLUMNS[dimension]} = ANY(%(wanted_{number})s)")
        values[f"wanted_{number}"] = list(wanted)
    keys = ["place", *(f"group_{number}" for number in range(len(groups)))]
    inner = [
        "width_bucket(bucket, %(edges)s::timestamptz[]) AS place",
        *(f'{column} COLLATE "C" AS {key}' for column, key in zip(groups, keys[1:], strict=True)),
        f"{failure} AS code",
        f"{failed} AS failed",
        *(f"{expression} AS {name}" for name, expression in _SUMS[of].items()),
        *(f"string_agg({name}, ''::bytea) AS {name}" for name in sketches),
    ]
    outer = [
        *keys,
        "coalesce(jsonb_object_agg(code, failed) FILTER (WHERE failed > 0), '{}') AS error_codes",
        *(f"sum({name}) AS {name}" for name in _SUMS[of]),
        *(f"string_agg({name}, ''::bytea) AS {name}" for name in sketches),
    ]
    beyond = ""
    if query.after is not None:
        start, group = query.after
        values |= {"after": query.edges.index(start) + 1} | {f"after_{n}": word for n, word in enumerate(group)}
        bounds = ["%(after)s", *(f"%(after_{number})s" for number in range(len(group)))]
        beyond = f"WHERE ({', '.join(keys)}) > ({', '.join(bounds)})"
    grouped = ", ".join(str(place) for place in range(1, len(keys) + 2))
    return (
        f"""
        SELECT {", ".join(outer)} FROM (
            SELECT {", ".join(inner)} FROM {table} WHERE {" AND ".join(where)} GROUP BY {grouped}
        ) AS part {beyond}
        GROUP BY {", ".join(keys)} ORDER BY {", ".join(keys)} LIMIT %(limit)s
        """.encode(),  # noqa: S608 - constants only
        values,
    )


def _window(query: AnalyticsQuery) -> dict[str, Any]:
    return {
        "granularity": query.granularity.value,
        "tenant_id": query.tenant_id,
        "since": query.edges[0],
        "until": query.edges[-1],
        "edges": list(query.edges[:-1]),
    }


def _aggregate(row: DictRow, query: AnalyticsQuery) -> Aggregate:
    fields: dict[str, Any] = {
        name: int(row[name]) if name in _INTEGERS or name == "generated_tokens" else row[name]
        for name in (*_SUMS[query.subject], *(_SKETCHES[query.subject] if query.sketches else ()))
        if name not in TOKENS
    }
    return Aggregate(
        start=query.edges[row["place"] - 1],
        group=tuple(row[f"group_{number}"] for number in range(len(query.group_by))),
        error_codes=row["error_codes"],
        usage=_usage(row),
        **fields,
    )


def _usage(row: DictRow) -> Usage:
    counts: dict[str, Any] = {name: int(row[name]) for name in TOKENS}
    return Usage(**counts)
