"""GET /admin/storage, and the timer that builds indexes anew."""

from datetime import UTC, datetime

import azure.functions as func
import pytest

from functions import timers
from shared.domain.errors import DependencyUnavailable
from shared.domain.identity import RouterRole
from shared.domain.storage import TableStorage
from tests.edge.edge_harness import PROVED
from tests.principals import principal_header

ADMIN = principal_header("console", roles=(RouterRole.ADMIN,))
AT = datetime(2026, 11, 5, tzinfo=UTC)
TABLES = [
    TableStorage("requests", 4, "requests_2026_09", "requests_2026_11", 900, 500, 300, 40, 2, 100, AT, AT),
    TableStorage("feedback", 0, None, None, 100, 60, 40, 3, 0, None, None, None),
]


class FakeStorage:
    def __init__(self):
        self.rebuilt = 0
        self.away = False

    async def tables(self):
        if self.away:
            raise DependencyUnavailable("the database does not answer")
        return TABLES

    async def rebuild_index(self):
        self.rebuilt += 1


@pytest.fixture
def storage(edge):
    storage = FakeStorage()
    object.__setattr__(edge.container, "storage", storage)
    return storage


async def test_tables_are_told_with_their_total(edge, storage):
    answer = await edge.get("admin/storage", headers=ADMIN)
    assert answer.status == 200
    assert answer.json["total_bytes"] == 1000
    first, second = answer.json["tables"]
    assert first == {
        "name": "requests",
        "partitions": 4,
        "oldest": "requests_2026_09",
        "newest": "requests_2026_11",
        "total_bytes": 900,
        "table_bytes": 500,
        "index_bytes": 300,
        "rows": 40,
        "dead_rows": 2,
        "bloat_bytes": 100,
        "vacuumed_at": "2026-11-05T00:00:00+00:00",
        "analyzed_at": "2026-11-05T00:00:00+00:00",
    }
    assert second["vacuumed_at"] is None is second["bloat_bytes"]


async def test_only_administrators_see_them_and_parameters_are_refused(edge, storage):
    assert (await edge.get("admin/storage", headers=PROVED)).status == 403
    answer = await edge.get("admin/storage?tables=all", headers=ADMIN)
    assert (answer.status, answer.error["param"]) == (400, "tables")


async def test_a_database_that_is_away_is_said_to_be(edge, storage):
    storage.away = True
    assert (await edge.get("admin/storage", headers=ADMIN)).status == 503


async def test_the_timer_builds_one_index_anew(edge, storage):
    await timers.entry(timers.rebuild_indexes)(timer=func.timer.TimerRequest())
    assert storage.rebuilt == 1
