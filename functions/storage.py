"""GET /admin/storage: what the database's tables take up."""

from dataclasses import asdict

from functions._edge import Call, Reply
from functions._wire.query import only


async def show(call: Call) -> Reply:
    """All tables, the largest first. Sizes are of the whole database: tables know no tenants."""
    only(call.query, frozenset())
    tables = await call.container.storage.tables()
    return Reply(
        {
            "total_bytes": sum(table.total_bytes for table in tables),
            "tables": [
                asdict(table)
                | {
                    "vacuumed_at": None if table.vacuumed_at is None else table.vacuumed_at.isoformat(),
                    "analyzed_at": None if table.analyzed_at is None else table.analyzed_at.isoformat(),
                }
                for table in tables
            ],
        }
    )
