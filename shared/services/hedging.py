"""Hedged calls: when a deployment is slower than it nearly always is, a second one is asked too; the first answer wins.

Source: Dean and Barroso, "The Tail at Scale" (2013), https://doi.org/10.1145/2408776.2408794: a second request after
the 95th percentile costs about 5% more load and takes away most of the tail.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from shared.services.attempt_log import HEDGE_LOST, Attempt


class Discardable(Protocol):
    """An answer that may turn out to be one too many."""

    async def discard(self, outcome: str) -> None:
        """End the call; the outcome goes to its record."""
        ...


T = TypeVar("T", bound=Discardable)


@dataclass(frozen=True, slots=True)
class Runner(Generic[T]):
    """A call in a task of its own; its result is None when it failed."""

    attempt: Attempt
    task: "asyncio.Task[T | None]"

    @classmethod
    def start(cls, attempt: Attempt, call: Coroutine[None, None, T | None]) -> "Runner[T]":
        """Begin the call."""
        return cls(attempt, asyncio.create_task(call))


async def race(first: Runner[T], delay_s: float, second: Callable[[], Awaitable[Runner[T] | None]]) -> T | None:
    """The answer that comes first; None when every call failed. The other call is cancelled and ends as `HEDGE_LOST`.

    Args:
        first: under way.
        delay_s: how long it runs alone.
        second: starts another, or says that there is none to start.
    """
    runners = [first]
    winner: Runner[T] | None = None
    try:
        await asyncio.wait({first.task}, timeout=delay_s)
        if not first.task.done() and (other := await second()) is not None:
            runners.append(other)
        pending = {runner.task for runner in runners}
        while winner is None and pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            winner = next((r for r in runners if r.task.done() and r.task.result() is not None), None)
        return None if winner is None else winner.task.result()
    finally:
        for runner in runners:
            if runner is not winner:
                await _stop(runner, lost=winner is not None)


async def _stop(runner: Runner[T], *, lost: bool) -> None:
    attempt = runner.attempt
    if lost:
        attempt.if_cancelled = HEDGE_LOST
    runner.task.cancel()
    # Its failure was noted where it happened; only an answer that nobody takes is left to end.
    (answer,) = await asyncio.gather(runner.task, return_exceptions=True)
    if answer is not None and not isinstance(answer, BaseException):
        await answer.discard(attempt.if_cancelled)
