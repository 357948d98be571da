"""Rollups by fewer things at once, so that a dashboard's question reads as many rows as it shows.

Rollups are kept by all that requests have in common, for questions that nobody foresaw. The usual ones name one or two
things, and would add up some hundred rows, with distributions, for each one they show. Slices are those sums, made when
an hour or a day is computed: docs/decisions/0025-slices.md.
"""

from collections.abc import Collection, Sequence

from shared.stores.postgres.rollup_tables import ANALYTICS

SLICES = "analytics_slices"
"""The table: the columns of `ANALYTICS`, and ``kept``, the slice's name. What a slice does not keep is empty or 0."""
_SPLIT = ("service_name", "model_id", "deployment_id", "category", "prompt_above_tokens")
"""What slices may do without. Tag, status and the like are always kept."""
_EVERY_REQUEST = (
    (),
    ("service_name",),
    ("model_id",),
    ("deployment_id",),
    ("category",),
    ("service_name", "model_id", "prompt_above_tokens"),
    ("service_name", "deployment_id"),
    ("service_name", "category"),
    ("model_id", "category"),
)
_BY_TAG = ((), ("service_name",), ("model_id",))
"""Tags have many values: fewer slices of each."""
SPEND = ("service_name", "model_id", "prompt_above_tokens")
COLUMNS = ("granularity", "bucket", "kept", *ANALYTICS.keys, *ANALYTICS.sums, *ANALYTICS.sketches)
"""In the order of `STATEMENT`."""


def slice_for(columns: Collection[str], *, by_tag: bool) -> str | None:
    """The name of the smallest slice that keeps these columns; None: only the rollups themselves do."""
    needed = set(columns) - {"tag_value"}
    fitting = [kept for kept in (_BY_TAG if by_tag else _EVERY_REQUEST) if needed <= set(kept)]
    return slice_name(min(fitting, key=len)) if fitting else None


def slice_name(kept: Sequence[str]) -> str:
    """What a slice is called in the table."""
    return ",".join(kept) or "all"


def _part(sets: Sequence[Sequence[str]], tag_keys: str) -> str:
    """Slices of the rollups with such tag keys."""
    split = [column for column in _SPLIT if any(column in kept for kept in sets)]
    always = [key for key in ANALYTICS.keys if key not in _SPLIT]

    def key(column: str) -> str:
        empty = "0" if column == "prompt_above_tokens" else "''"
        return column if column in always else f"coalesce({column}, {empty})" if column in split else empty

    # A bit for each column that is not in the set, the first one the highest.
    masks = {slice_name(kept): sum(2**n for n, c in enumerate(reversed(split)) if c not in kept) for kept in sets}
    return f"""
        SELECT CASE GROUPING({", ".join(split)}) {" ".join(f"WHEN {m} THEN '{name}'" for name, m in masks.items())} END,
               {", ".join(key(column) for column in ANALYTICS.keys)},
               {", ".join(f"sum({name})" for name in ANALYTICS.sums)},
               {", ".join(f"string_agg({name}, ''::bytea)" for name in ANALYTICS.sketches)}
        FROM {ANALYTICS.name}
        WHERE granularity = %(granularity)s AND bucket = %(bucket)s AND {tag_keys}
        GROUP BY {", ".join(always)}, GROUPING SETS ({", ".join(f"({', '.join(kept)})" for kept in sets)})
    """  # noqa: S608 - constants


STATEMENT = " UNION ALL ".join((_part(_EVERY_REQUEST, "tag_key = ''"), _part(_BY_TAG, "tag_key <> ''"))).encode()
"""Computes the slices of a bucket from its rollups; distributions are joined end to end."""
