"""The only place that knows every adapter. Built lazily, once per worker process, never at import."""

import asyncio

from shared.config import Settings
from shared.container.building import build
from shared.container.contents import Container, Identity, Ingestion

__all__ = ["Container", "Identity", "Ingestion", "build", "get", "override"]

_building: asyncio.Task[Container] | None = None
_override: Container | None = None


async def get() -> Container:
    """The process's container, built by the first caller.

    Callers share one build: a cancelled caller does not cancel it for the others, and a failed one is tried again by
    the next caller.
    """
    global _building  # noqa: PLW0603 - one container per process is the point
    if _override is not None:
        return _override
    if _building is None or (_building.done() and (_building.cancelled() or _building.exception() is not None)):
        _building = asyncio.create_task(build(Settings.from_env()))
    return await asyncio.shield(_building)


def override(container: Container | None) -> None:
    """Serve another container, in tests; None goes back to the built one."""
    global _override  # noqa: PLW0603 - see get
    _override = container
