"""The journal: what `RecordJournal` promises, held by files and by its twin; then processes that die at any point."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.domain.records import RequestRecord, RequestStatus
from shared.ports import RecordJournal
from shared.stores.journal import FileJournal
from shared.stores.memory import ManualClock, MemoryJournal, MemoryMachine
from shared.stores.system import SystemClock
from tests.stores_builders import IDS, bare_record, record

NOW = SystemClock().now
ROOT = Path(__file__).parents[2]


@dataclass
class Machine:
    """A machine on which processes with journals come and go."""

    start: Callable[[], RecordJournal]
    kill: Callable[[RecordJournal], None]


def _lose_files(journal: RecordJournal) -> None:
    """What the kernel does to the files of a process that dies."""
    assert isinstance(journal, FileJournal)
    for fd in (journal._fd, *(claim[1] for claim in journal._claimed)):
        os.close(fd)


def _die(journal: RecordJournal) -> None:
    assert isinstance(journal, MemoryJournal)
    journal.die()


@pytest.fixture(params=["memory", "file"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if request.param == "file":
        return Machine(lambda: FileJournal(tmp_path), _lose_files)
    shared_by_all = MemoryMachine(ManualClock(NOW()))
    return Machine(lambda: MemoryJournal(shared_by_all), _die)


def open_record() -> RequestRecord:
    now = NOW()
    return bare_record(start_time=now, end_time=now, status=RequestStatus.ABANDONED)


def test_a_dead_process_leaves_open_requests_as_abandoned_and_finished_ones_as_they_were(machine: Machine) -> None:
    dead, opened, finished = machine.start(), open_record(), record()
    dead.opened(opened)
    dead.opened(replace(finished, status=RequestStatus.ABANDONED, attempts=()))
    dead.finished(finished)
    machine.kill(dead)

    recovered = {item.id: item for item in machine.start().recover()}

    assert recovered.keys() == {opened.id, finished.id}
    assert recovered[finished.id] == finished
    abandoned = recovered[opened.id]
    assert abandoned.status is RequestStatus.ABANDONED
    assert opened.start_time <= abandoned.end_time <= NOW() + timedelta(seconds=1)
    assert replace(abandoned, end_time=opened.end_time) == opened


def test_an_open_request_is_abandoned_whatever_it_said_of_itself(machine: Machine) -> None:
    dead = machine.start()
    dead.opened(replace(open_record(), status=RequestStatus.SUCCESS))
    machine.kill(dead)

    assert [item.status for item in machine.start().recover()] == [RequestStatus.ABANDONED]


def test_an_abandoned_request_never_ends_before_it_starts(machine: Machine) -> None:
    dead, ahead = machine.start(), NOW() + timedelta(days=1)
    dead.opened(bare_record(start_time=ahead, end_time=ahead))
    machine.kill(dead)

    assert [item.end_time for item in machine.start().recover()] == [ahead]


def test_the_last_word_on_an_open_request_counts(machine: Machine) -> None:
    dead, first = machine.start(), open_record()
    dead.opened(first)
    dead.opened(replace(first, model_used="gemini-2.5-pro"))
    machine.kill(dead)

    assert [item.model_used for item in machine.start().recover()] == ["gemini-2.5-pro"]


def test_what_is_stored_is_forgotten(machine: Machine) -> None:
    dead, kept, gone = machine.start(), record(), record()
    for item in (kept, gone):
        dead.opened(item)
        dead.finished(item)
    dead.stored([gone.id, IDS.request_id()])
    machine.kill(dead)

    assert machine.start().recover() == [kept]


def test_the_living_are_left_alone(machine: Machine) -> None:
    living = machine.start()
    living.opened(open_record())

    assert machine.start().recover() == []
    assert living.recover() == []


def test_of_many_callers_one_gets_a_journal(machine: Machine) -> None:
    dead = machine.start()
    dead.opened(open_record())
    machine.kill(dead)
    finders = [machine.start() for _ in range(4)]

    found = [len(finder.recover()) for finder in finders]

    assert sorted(found) == [0, 0, 0, 1]
    # Nor does the one that got it get it twice.
    assert [list(finder.recover()) for finder in finders] == [[], [], [], []]


def test_a_finder_that_dies_before_it_stored_loses_nothing(machine: Machine) -> None:
    dead, left = machine.start(), record()
    dead.finished(left)
    machine.kill(dead)
    finder = machine.start()
    assert finder.recover() == [left]
    machine.kill(finder)

    second = machine.start()
    assert second.recover() == [left]
    second.discard()
    machine.kill(second)
    assert machine.start().recover() == []


def test_discarding_leaves_what_was_not_recovered(machine: Machine) -> None:
    one = machine.start()
    other, left = machine.start(), record()
    other.finished(left)
    one.finished(own := record())
    one.discard()
    machine.kill(other)
    assert one.recover() == [left]
    one.discard()
    machine.kill(one)

    assert machine.start().recover() == [own]


# Real processes

_WORKER = """
import random, sys
from pathlib import Path
from shared.stores.journal import FileJournal
from tests.stores_builders import record

# It says what it is about to do, and that it is done, so that its killer knows all but the deed it dies in.
rng, journal, alive = random.Random(int(sys.argv[2])), FileJournal(Path(sys.argv[1]), max_bytes=20_000), {}
def say(*words):
    print(*words, flush=True)
while True:
    deed = rng.choice(("opened", "finished", "stored")) if alive else "opened"
    item = record() if deed == "opened" else rng.choice(list(alive.values()))
    say("about", deed, item.id)
    if deed == "opened":
        alive[item.id] = item
        journal.opened(item)
    elif deed == "finished":
        journal.finished(item)
    else:
        del alive[item.id]
        journal.stored([item.id])
    say("done", deed, item.id)
"""

_FINDER = """
import sys
from pathlib import Path
from shared.stores.journal import FileJournal

journal = FileJournal(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for item in journal.recover():
    print(item.id, item.status.value, flush=True)
print("end", flush=True)
sys.stdin.readline()
journal.discard()
journal.close()
"""


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _kill_after(process: subprocess.Popen[str], lines: int) -> tuple[dict[str, str], str | None]:
    """Kill a worker mid-deed: the state of each request that must be recovered, and the one that is in doubt."""
    assert process.stdout is not None
    said = [process.stdout.readline().split() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += [line.split() for line in process.stdout]
    process.wait()
    left: dict[str, str] = {}
    in_doubt = None
    for step, deed, request_id in (words for words in said if len(words) == 3):
        in_doubt = request_id if step == "about" else None
        if step == "done" and deed == "stored":
            del left[request_id]
        elif step == "done" and (deed == "finished" or request_id not in left):
            left[request_id] = "success" if deed == "finished" else "abandoned"
    return left, in_doubt


def test_whatever_dies_whenever_each_open_request_is_recovered_once(
    tmp_path: Path, run: Callable[..., subprocess.Popen[str]]
) -> None:
    rng = random.Random(20_261_105)
    workers = [run(_WORKER, tmp_path, seed) for seed in range(5)]
    expected: dict[str, str] = {}
    in_doubt: set[str] = set()
    for worker in workers:
        left, doubtful = _kill_after(worker, rng.randrange(1, 600))
        expected |= left
        in_doubt |= {doubtful} if doubtful else set()

    # One finder takes journals and dies before it stored them; then many at once.
    _ask(doomed := run(_FINDER, tmp_path))
    assert _answer(doomed)
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    finders = [run(_FINDER, tmp_path) for _ in range(4)]
    for finder in finders:
        _ask(finder)
    recovered = [line for finder in finders for line in _answer(finder)]

    ids = [request_id for request_id, _ in recovered]
    assert len(ids) == len(set(ids))
    assert {(i, status) for i, status in recovered if i not in in_doubt} == {
        (i, status) for i, status in expected.items() if i not in in_doubt
    }
    assert set(ids) - expected.keys() <= in_doubt
    for finder in finders:
        finder.communicate("\n")
        assert finder.returncode == 0
    assert list(tmp_path.glob("*.journal")) == []


def _ask(finder: subprocess.Popen[str]) -> None:
    assert finder.stdin is not None
    assert finder.stdout is not None
    assert finder.stdout.readline() == "ready\n"
    finder.stdin.write("\n")
    finder.stdin.flush()


def _answer(finder: subprocess.Popen[str]) -> list[tuple[str, str]]:
    assert finder.stdout is not None
    found = []
    while (line := finder.stdout.readline()) != "end\n":
        request_id, status = line.split()
        found.append((request_id, status))
    return found
