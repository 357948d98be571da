"""Clock and identifiers."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from uuid import RFC_4122, UUID

from shared.stores.memory import ManualClock, SequentialIds
from shared.stores.system import SystemClock, UuidIds

MS = 1_000_000


def _unix_ms(request_id: str) -> int:
    return UUID(request_id).int >> 80


def test_an_id_is_a_uuid_of_version_7_in_its_canonical_form() -> None:
    request_id = UuidIds(lambda: 0x0192_3456_789A * MS + 999_999).request_id()

    value = UUID(request_id)
    assert request_id == str(value)
    assert (value.version, value.variant) == (7, RFC_4122)
    assert _unix_ms(request_id) == 0x0192_3456_789A


def test_ids_of_one_millisecond_sort_as_they_were_made_and_borrow_from_the_next_when_it_is_full() -> None:
    ids = UuidIds(lambda: 5_000 * MS)

    made = [ids.request_id() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert _unix_ms(made[2_047]) == 5_000
    assert 5_000 < _unix_ms(made[-1]) <= 5_010


def test_a_clock_that_steps_back_does_not_turn_the_order() -> None:
    instants = itertools.chain([9_000 * MS, 1_000 * MS, 1_000 * MS, 9_001 * MS], itertools.repeat(9_001 * MS))
    ids = UuidIds(lambda: next(instants))

    made = [ids.request_id() for _ in range(5)]

    assert made == sorted(made)
    assert [_unix_ms(item) for item in made] == [9_000, 9_000, 9_000, 9_001, 9_001]


def test_threads_never_share_an_id() -> None:
    ids = UuidIds()
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [ids.request_id() for _ in range(500)], range(8)))

    assert len({item for items in made for item in items}) == 4_000
    assert all(items == sorted(items) for items in made)


def test_two_processes_in_the_same_millisecond_do_not_collide() -> None:
    left, right = UuidIds(lambda: 1), UuidIds(lambda: 1)

    assert {left.request_id() for _ in range(1_000)}.isdisjoint(right.request_id() for _ in range(1_000))


def test_the_system_clock_is_aware_and_does_not_go_back() -> None:
    clock = SystemClock()

    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()


def test_a_manual_clock_moves_when_it_is_told_to() -> None:
    clock = ManualClock()
    before = clock.now()

    clock.advance(1.5)

    assert clock.now() - before == timedelta(seconds=1.5)
    assert clock.monotonic() == 1.5


def test_sequential_ids_are_the_same_in_every_run_and_well_made() -> None:
    ids = SequentialIds()
    made = [ids.request_id() for _ in range(3)]

    assert made == [SequentialIds().request_id(), *made[1:]]
    assert made == sorted(set(made))
    assert all(UUID(item).version == 7 for item in made)
