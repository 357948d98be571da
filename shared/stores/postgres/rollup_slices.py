"""Rollups by fewer things at once, so that a dashboard's question reads as many rows as it shows.

Rollups are kept by all that requests have in common, for questions that nobody foresaw. The usual ones name one or two
things, and would add up some hundred rows, with distributions, for each one they show. Slices are those sums, made when
a bucket is computed: docs/decisions/0025-slices.md.
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
_PLAIN = (("service_name", "model_id", "category"),)
"""Kept without distributions, which would make them as dear to read as the rollups."""
_MINUTES = ((), ("service_name",), ("model_id",))
"""What is asked of the last minutes."""
SPEND = ("service_name", "model_id", "prompt_above_tokens")
COLUMNS = ("granularity", "bucket", "kept", *ANALYTICS.keys, *ANALYTICS.sums, *ANALYTICS.sketches)
"""In the order of `STATEMENT`, but that `kept` comes before the bucket in `FOLD`."""


def slice_for(columns: Collection[str], *, by_tag: bool, of_minutes: bool = False, sketches: bool = True) -> str | None:
    """The name of the smallest slice that keeps these columns; None: only the rollups themselves do.

    Args:
        columns: that the question names.
        by_tag: whether it is about a tag.
        of_minutes: whether it is about minutes.
        sketches: whether it wants distributions.
    """
    needed = set(columns) - {"tag_value"}
    sets: Sequence[Sequence[str]] = _EVERY_REQUEST if sketches else (*_EVERY_REQUEST, *_PLAIN)
    if of_minutes:
        sets = _MINUTES
    if by_tag:
        sets = () if of_minutes else _BY_TAG
    fitting = [kept for kept in sets if needed <= set(kept)]
    return slice_name(min(fitting, key=len)) if fitting else None


def slice_name(kept: Sequence[str]) -> str:
    """What a slice is called in the table."""
    return ",".join(kept) or "all"


def _part(sets: Sequence[Sequence[str]], where: str, own: Sequence[str] = (), *, sketches: bool = True) -> str:
    """Slices of some rollups, after their name the columns of `own`."""
    joined = "string_agg({}, ''::bytea)" if sketches else "''::bytea"
    split = [column for column in _SPLIT if any(column in kept for kept in sets)]
    always = [key for key in ANALYTICS.keys if key not in _SPLIT]

    def key(column: str) -> str:
        empty = "0" if column == "prompt_above_tokens" else "''"
        return column if column in always else f"coalesce({column}, {empty})" if column in split else empty

    # A bit for each column that is not in the set, the first one the highest.
    masks = {slice_name(kept): sum(2**n for n, c in enumerate(reversed(split)) if c not in kept) for kept in sets}
    return f"""
        SELECT CASE GROUPING({", ".join(split)}) {" ".join(f"WHEN {m} THEN '{name}'" for name, m in masks.items())} END,
               {", ".join((*own, *(key(column) for column in ANALYTICS.keys)))},
               {", ".join(f"sum({name})" for name in ANALYTICS.sums)},
               {", ".join(joined.format(name) for name in ANALYTICS.sketches)}
        FROM {ANALYTICS.name}
        WHERE {where}
        GROUP BY {", ".join((*own, *always))}, GROUPING SETS ({", ".join(f"({', '.join(kept)})" for kept in sets)})
    """  # noqa: S608 - constants


_BUCKET = "granularity = %(granularity)s AND bucket = %(bucket)s AND tag_key"
STATEMENT = " UNION ALL ".join((_part(_EVERY_REQUEST, f"{_BUCKET} = ''"), _part(_BY_TAG, f"{_BUCKET} <> ''"))).encode()
"""Computes the slices of an hour or a day from its rollups; distributions are joined end to end."""
PLAIN = f"""
    INSERT INTO {SLICES} (granularity, bucket, {", ".join(COLUMNS[2:])})
    SELECT %(granularity)s, %(bucket)s, sliced.*
    FROM ({_part(_PLAIN, f"{_BUCKET} = ''", sketches=False)}) AS sliced
""".encode()  # noqa: S608 - constants
"""Computes those that have no distributions, of which nothing has to be made compact."""
_FOLDED = _part(_MINUTES, "granularity = 'minute' AND bucket = ANY(%(minutes)s) AND tag_key = ''", ("bucket",))
FOLD = f"""
    INSERT INTO {SLICES} (granularity, kept, bucket, {", ".join(COLUMNS[3:])})
    SELECT 'minute', sliced.* FROM ({_FOLDED}) AS sliced
""".encode()  # noqa: S608 - constants
"""Computes the slices of the minutes given from their rollups. Distributions stay joined: minutes hold few values."""
