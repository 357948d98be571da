"""Each test of the door has a world of its own behind it."""

from collections.abc import Callable, Iterator

import pytest

from shared import container
from tests.edge.edge_harness import Edge


@pytest.fixture
def build_edge() -> Iterator[Callable[..., Edge]]:
    """Builds the world behind the door; the functions get its container."""

    def build(*args: object, **fields: object) -> Edge:
        edge = Edge(*args, **fields)
        container.override(edge.container)
        return edge

    yield build
    container.override(None)


@pytest.fixture
def edge(build_edge: Callable[..., Edge]) -> Edge:
    return build_edge()
