"""Questions to the rollups in PostgreSQL. Nothing here reads the ledger."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow, dict_row

from shared.analytics.totals import parts_of
from shared.domain.analytics import (
    SPENT_BY,
    Aggregate,
    AnalyticsQuery,
    Dimension,
    Freshness,
    Granularity,
    Spend,
    SpendQuery,
    Subject,
)
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
_BY_CODE = "coalesce(jsonb_object_agg(code, failed) FILTER (WHERE failed > 0), '{}') AS error_codes"
_TABLE = {Subject.REQUESTS: "analytics", Subject.ATTEMPTS: "model_performance"}
_INTEGERS = frozenset(
    {"count", "succeeded", "cancelled", "abandoned", "hits", "late", "usage_estimated"}
    | {"ratings", "judged", "signalled", "generated_tokens"}
)
_FRESHNESS = b"SELECT coalesce(min(noted_at), now()), count(DISTINCT (granularity, bucket)) FROM rollup_pending"
_SPENT = (
    "tenant_id = %(tenant_id)s",
    "tag_key = ''",
    f"kept = '{slice_name(SPEND)}'",
    "(%(services)s::text[] IS NULL OR service_name = ANY(%(services)s))",
    "service_name <> ALL(%(without_services)s)",
    "model_id <> ALL(%(without_models)s)",
)


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
        return [*map(_reader(query), rows)]

    async def spend(self, query: SpendQuery) -> Sequence[Spend]:
        """What was spent, by bucket and what the query groups by, with the tokens that say why.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        statement, values = spend_statement_of(query)
        edges = query.edges
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
            for row in await self._rows(statement, values)
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
    has_codes = query.wants("error_codes")
    sums, sketches = _sums(query), _sketches(query)
    values: dict[str, Any] = {"tenant_id": query.tenant_id, "limit": query.limit + 1}
    where = ["tenant_id = %(tenant_id)s"]
    table = _TABLE[of]
    of_minutes = query.granularity is Granularity.MINUTE
    if of is Subject.REQUESTS:
        where.append("tag_key = %(tag_key)s")
        values["tag_key"] = query.tag_key
        columns = {_COLUMNS[dimension] for dimension in (*query.group_by, *query.filters)}
        values["kept"] = slice_for(columns, by_tag=bool(query.tag_key), of_minutes=of_minutes, sketches=bool(sketches))
        if values["kept"] is not None:
            table = SLICES
            where.append("kept = %(kept)s")
    for number, (dimension, wanted) in enumerate(query.filters.items()):
        where.append(f"{_COLUMNS[dimension]} = ANY(%(wanted_{number})s)")
        values[f"wanted_{number}"] = list(wanted)
    source, window = _source(table, where, query.edges, of_minutes=of_minutes)
    values |= window
    keys = ["place", *(f"group_{number}" for number in range(len(groups)))]
    inner = [
        "width_bucket(bucket, %(edges)s::timestamptz[]) AS place",
        *(f'{column} COLLATE "C" AS {key}' for column, key in zip(groups, keys[1:], strict=True)),
        *([f"{failure} AS code", f"{failed} AS failed"] if has_codes else []),
        *(f"{expression} AS {name}" for name, expression in sums.items()),
        *(f"string_agg({name}, ''::bytea) AS {name}" for name in sketches),
    ]
    # Errors are counted by code first, where they are wanted: two steps, of which one will do otherwise.
    outer = [
        *keys,
        _BY_CODE,
        *(f"sum({name}) AS {name}" for name in sums),
        *(f"string_agg({name}, ''::bytea) AS {name}" for name in sketches),
    ]
    beyond = ""
    if query.after is not None:
        start, group = query.after
        values |= {"after": query.edges.index(start) + 1} | {f"after_{n}": word for n, word in enumerate(group)}
        bounds = ["%(after)s", *(f"%(after_{number})s" for number in range(len(group)))]
        beyond = f"WHERE ({', '.join(keys)}) > ({', '.join(bounds)})"
    grouped = ", ".join(str(place) for place in range(1, len(keys) + 1 + has_codes))
    return (
        f"""
        SELECT {", ".join(outer) if has_codes else "*"} FROM (
            SELECT {", ".join(inner)} FROM {source} GROUP BY {grouped}
        ) AS part {beyond}
        {f"GROUP BY {', '.join(keys)}" if has_codes else ""} ORDER BY {", ".join(keys)} LIMIT %(limit)s
        """.encode(),  # noqa: S608 - constants only
        values,
    )


def spend_statement_of(query: SpendQuery) -> tuple[bytes, dict[str, Any]]:
    """The statement of a question about spend, likewise."""
    source, window = _source(SLICES, _SPENT, query.edges)
    kept = [_COLUMNS[dimension] if dimension in query.group_by else "''" for dimension in SPENT_BY]
    return (
        f"""
        SELECT width_bucket(bucket, %(edges)s::timestamptz[]) AS place,
               {kept[0]} AS service_name, {kept[1]} AS model_id, reused, prompt_above_tokens,
               sum(requests) AS requests, sum(cost_usd) AS cost_usd,
               {", ".join(f"sum({name}) AS {name}" for name in TOKENS)}
        FROM {source}
        GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        """.encode(),  # noqa: S608 - constants only
        window
        | {
            "tenant_id": query.tenant_id,
            "services": None if query.services is None else list(query.services),
            "without_services": list(query.without_services),
            "without_models": list(query.without_models),
        },
    )


def _source(
    table: str, where: Sequence[str], edges: Sequence[datetime], *, of_minutes: bool = False
) -> tuple[str, dict[str, Any]]:
    """The rows of buckets, each from the coarsest rollups that have it, and the values that their conditions need."""
    parts = [(Granularity.MINUTE, edges[0], edges[-1])] if of_minutes else parts_of(edges)
    values: dict[str, Any] = {"edges": list(edges[:-1])}
    selected = []
    for number, (granularity, since, until) in enumerate(parts):
        values |= {f"since_{number}": since, f"until_{number}": until}
        within = f"granularity = '{granularity.value}' AND bucket >= %(since_{number})s AND bucket < %(until_{number})s"
        selected.append(f"SELECT * FROM {table} WHERE {' AND '.join((within, *where))}")  # noqa: S608 - constants
    return f"({' UNION ALL '.join(selected)}) AS rolled", values


def _sums(query: AnalyticsQuery) -> dict[str, str]:
    """What is added up, and how."""
    return {
        name: expression
        for name, expression in _SUMS[query.subject].items()
        if query.wants("usage" if name in TOKENS else name)
    }


def _sketches(query: AnalyticsQuery) -> list[str]:
    return [name for name in _SKETCHES[query.subject] if query.wants(name)]


def _reader(query: AnalyticsQuery) -> Callable[[DictRow], Aggregate]:
    """Makes aggregates of the rows of a query."""
    names = [name for name in (*_sums(query), *_sketches(query)) if name not in TOKENS]
    groups = [f"group_{number}" for number in range(len(query.group_by))]
    has_usage, has_codes = query.wants("usage"), query.wants("error_codes")

    def read(row: DictRow) -> Aggregate:
        fields: dict[str, Any] = {name: int(row[name]) if name in _INTEGERS else row[name] for name in names}
        return Aggregate(
            start=query.edges[row["place"] - 1],
            group=tuple(row[group] for group in groups),
            error_codes=row["error_codes"] if has_codes else {},
            usage=_usage(row) if has_usage else Usage(),
            **fields,
        )

    return read


def _usage(row: DictRow) -> Usage:
    counts: dict[str, Any] = {name: int(row[name]) for name in TOKENS}
    return Usage(**counts)
