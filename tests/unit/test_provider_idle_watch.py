"""The idle watch counts silence of the vendor only, on a clock of the test's own."""

import asyncio
from collections.abc import Callable

import pytest

from shared.providers.idle_watch import IdleWatch


class FakeHandle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None], FakeHandle]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle()
        self.timers.append((self.now + delay, callback, handle))
        return handle

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted(timer for timer in self.timers if timer[0] <= end and not timer[2].cancelled):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = end


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    fake = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: fake)
    return fake


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
def watch(loop: FakeLoop, ended: list[str]) -> IdleWatch:
    return IdleWatch(lambda: ended.append("cancelled"), 10)


def test_silence_before_the_first_piece_ends_the_call(loop: FakeLoop, watch: IdleWatch, ended: list[str]):
    watch.waiting()
    loop.advance(9.9)
    assert not watch.expired
    loop.advance(0.2)
    assert watch.expired
    assert ended == ["cancelled"]
    assert not loop.timers


def test_each_piece_starts_the_wait_anew(loop: FakeLoop, watch: IdleWatch, ended: list[str]):
    for _ in range(8):
        watch.waiting()
        loop.advance(6)
        watch.arrived()
    watch.waiting()
    loop.advance(9.9)
    assert ended == []
    loop.advance(0.2)
    assert ended == ["cancelled"]


def test_a_slow_reader_is_not_a_silent_vendor(loop: FakeLoop, watch: IdleWatch, ended: list[str]):
    watch.waiting()
    watch.arrived()
    loop.advance(1000)
    watch.waiting()
    loop.advance(9.9)
    assert ended == []
    loop.advance(0.2)
    assert ended == ["cancelled"]


def test_one_timer_serves_any_number_of_pieces(loop: FakeLoop, watch: IdleWatch):
    for _ in range(1000):
        watch.waiting()
        watch.arrived()
    assert len(loop.timers) == 1


def test_nothing_happens_after_stop(loop: FakeLoop, watch: IdleWatch, ended: list[str]):
    watch.waiting()
    watch.stop()
    watch.stop()
    loop.advance(1000)
    assert ended == []
