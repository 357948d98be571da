"""An ingestion endpoint on loopback, and telemetry that sends to it. Fixtures for the telemetry contract tests."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.telemetry.azure import AzureTelemetry
from shared.telemetry.ingestion import Ingestion

KEY = "11111111-2222-3333-4444-555555555555"
CANARY = "canary-7f3a"
DEADLINE_S = 20.0

Json = dict[str, Any]


class Endpoint:
    """An ingestion endpoint that answers with the status it is told, or hangs."""

    def __init__(self) -> None:
        self.status = 200
        self.partial_answers: list[Json] = []
        self.release = threading.Event()
        self.release.set()
        self.posts: list[tuple[int, list[Json]]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status = endpoint.status if self.path == "/v2.1/track" else 404
                partial = endpoint.partial_answers.pop() if endpoint.partial_answers else None
                status = 206 if partial else status
                endpoint.posts.append((status, json.loads(body)))
                endpoint.release.wait(DEADLINE_S)
                answer = json.dumps(partial or {}).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    self.close_connection = True  # the client gave up waiting, as it should

            def log_message(self, *args: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.connection_string = (
            f"InstrumentationKey={KEY};IngestionEndpoint=http://127.0.0.1:{self._server.server_port}/;"
        )

    @property
    def accepted(self) -> list[Json]:
        return [envelope for status, batch in list(self.posts) if status == 200 for envelope in batch]

    def of(self, kind: str) -> list[Json]:
        return [one["data"]["baseData"] for one in self.accepted if one["data"]["baseType"] == f"{kind}Data"]

    def metric(self, name: str) -> list[tuple[Json, Json]]:
        found = [(data["metrics"][0], data["properties"]) for data in self.of("Metric")]
        return [(point, properties) for point, properties in found if point["name"] == name]

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", raising=False)
    served = Endpoint()
    yield served
    served.close()


@pytest.fixture
async def make(endpoint, tmp_path):
    made: list[AzureTelemetry] = []

    def build(*, connection_string: str | None = None, timeout_s: float = 5.0, **options: Any) -> AzureTelemetry:
        ingestion = Ingestion(
            connection_string or endpoint.connection_string,
            storage_path=str(tmp_path / "kept"),
            timeout_s=timeout_s,
            retry_interval_s=0.05,
            first_backoff_s=0.01,
        )
        options = {"flush_interval_s": 0.02, "metrics_interval_s": 0.02} | options
        made.append(AzureTelemetry(ingestion, role_name="llm-router", **options))
        return made[-1]

    yield build
    endpoint.release.set()
    for telemetry in made:
        await telemetry.aclose()


async def eventually(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen before the deadline"
        await asyncio.sleep(0.01)
