"""A PredictionService of our own on a real port: each method does what the test put there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from shared.providers.vertex_protos import messages

Unary = Callable[[Any, Any], Awaitable[Any]]
Streaming = Callable[[Any, Any], AsyncIterator[Any]]


async def _not_set(_request: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not set")


async def _not_set_stream(_request: Any, context: Any) -> AsyncIterator[Any]:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not set")
    yield None


async def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds, for at most 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the other side is a server or a C library, without events
            await asyncio.sleep(0.005)


@dataclass
class PredictionServer:
    """What it was asked and what it answers.

    Attributes:
        calls: method name, request and metadata of each call.
        cancelled: methods whose call went away before its answer.
        peers: connections that calls came by.
    """

    generate: Unary = _not_set
    stream_generate: Streaming = _not_set_stream
    raw: Unary = _not_set
    stream_raw: Streaming = _not_set_stream
    predict: Unary = _not_set
    endpoint: str = ""
    calls: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    remaining_s: list[float] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)

    async def until_cancelled(self, method: str) -> None:
        """Wait, with a deadline, for the server to see that a call was cancelled."""
        await until(lambda: method in self.cancelled)

    def _note(self, name: str, request: Any, context: Any) -> None:
        self.calls.append((name, request, dict(context.invocation_metadata())))
        self.peers.add(context.peer())
        self.remaining_s.append(context.time_remaining())

    def _unary(self, name: str, attribute: str, request: Any, response: Any) -> Any:
        async def handle(message: Any, context: Any) -> Any:
            self._note(name, message, context)
            try:
                return await getattr(self, attribute)(message, context)
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return grpc.unary_unary_rpc_method_handler(handle, request.FromString, response.SerializeToString)

    def _streaming(self, name: str, attribute: str, request: Any, response: Any) -> Any:
        async def handle(message: Any, context: Any) -> AsyncIterator[Any]:
            self._note(name, message, context)
            try:
                async for piece in getattr(self, attribute)(message, context):
                    yield piece
            except (asyncio.CancelledError, GeneratorExit):
                self.cancelled.append(name)
                raise

        return grpc.unary_stream_rpc_method_handler(handle, request.FromString, response.SerializeToString)

    def handlers(self) -> dict[str, Any]:
        m = messages()
        return {
            "GenerateContent": self._unary(
                "GenerateContent", "generate", m.GenerateContentRequest, m.GenerateContentResponse
            ),
            "StreamGenerateContent": self._streaming(
                "StreamGenerateContent", "stream_generate", m.GenerateContentRequest, m.GenerateContentResponse
            ),
            "RawPredict": self._unary("RawPredict", "raw", m.RawPredictRequest, m.HttpBody),
            "StreamRawPredict": self._streaming(
                "StreamRawPredict", "stream_raw", m.StreamRawPredictRequest, m.HttpBody
            ),
            "Predict": self._unary("Predict", "predict", m.PredictRequest, m.PredictResponse),
        }


@asynccontextmanager
async def serving() -> AsyncIterator[PredictionServer]:
    """A server on a free port for the block."""
    fake = PredictionServer()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_registered_method_handlers("google.cloud.aiplatform.v1.PredictionService", fake.handlers())
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("google.cloud.aiplatform.v1.PredictionService", fake.handlers()),)
    )
    fake.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(grace=None)
