"""What the database's tables take up, and how much of that is waste."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TableStorage:
    """One table, all its partitions together.

    Attributes:
        partitions: how many; 0: it is not partitioned.
        oldest, newest: names of the first and last partition, which say its month; None without partitions by month.
        table_bytes, index_bytes: on disk; the rest of `total_bytes` is long values (TOAST).
        rows, dead_rows: as the statistics have it, nearly. Dead ones are old versions that VACUUM will make room of.
        bloat_bytes: estimate of what a rewritten table would save, from the rows' average width; None: never analysed.
        vacuumed_at, analyzed_at: the longest ago of its partitions that hold rows; None: of one never.
    """

    name: str
    partitions: int
    oldest: str | None
    newest: str | None
    total_bytes: int
    table_bytes: int
    index_bytes: int
    rows: int
    dead_rows: int
    bloat_bytes: int | None
    vacuumed_at: datetime | None
    analyzed_at: datetime | None
