"""What telemetry costs per request, side by side: none, structured logs, Application Insights.

    python tests/bench/telemetry_cost.py [requests per round]

One request is what a routed one reports: a server span, three dependency spans, four counters, three measurements and a
log line. "request path" is the CPU time of the calling thread; "process" adds the exporting thread. The endpoint runs in
a process of its own. Rounds are interleaved; the median is printed. "late" is how much later than asked a timer fires on
an event loop that serves 200 requests/s: what the exporting thread does to others' latency.
"""

import asyncio
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared.ports import Telemetry
from shared.telemetry import LoggingTelemetry
from shared.telemetry.azure import AzureTelemetry
from shared.telemetry.ingestion import Ingestion

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUEST_ID = "01937d5c-7c5e-7b63-a2ab-7d1f5e5f0a11"
ROUNDS = 7
PACE_S = 0.005
PACED_REQUESTS = 1000
_SERVE = "--serve"


class _Accept(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Stay silent."""


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Accept)
    print(server.server_port, flush=True)
    server.serve_forever()


def report_one_request(telemetry: Telemetry) -> None:
    with telemetry.request("POST /api/v1/route", request_id=REQUEST_ID, traceparent=TRACEPARENT) as request:
        for name, kind, target in (
            ("EVALSHA", "Redis", "cache:6380"),
            ("streamGenerateContent", "GRPC", "europe-west4/gemini-flash"),
            ("settle", "Redis", "cache:6380"),
        ):
            with telemetry.dependency(name, kind=kind, target=target) as called:
                called.set(status="OK", attempt=1)
        telemetry.count("requests", service="billing", outcome="ok")
        telemetry.count("attempts", model="gemini-flash", outcome="ok")
        telemetry.count("input_tokens", 812, model="gemini-flash")
        telemetry.count("output_tokens", 240, model="gemini-flash")
        telemetry.observe("overhead_ms", 1.9, route="chat")
        telemetry.observe("latency_ms", 412.0, model="gemini-flash")
        telemetry.observe("cost_usd", 0.0004, model="gemini-flash")
        telemetry.log(logging.INFO, "decided", model="gemini-flash", margin=0.21, candidates=7)
        request.set(status=200, service="billing", model="gemini-flash", stream=False)


def drain(telemetry: Telemetry) -> None:
    if isinstance(telemetry, AzureTelemetry):
        exporter = telemetry._exporter
        while len(exporter._items) >= exporter._batch_size or exporter._in_flight:
            time.sleep(0.001)


def one_round(telemetry: Telemetry | None, requests: int) -> tuple[float, float]:
    """CPU microseconds per request: of this thread, and of the process."""
    path_s = time.thread_time()
    process_s = time.process_time()
    spent_s = 0.0
    for start in range(0, requests, 200):
        before_s = time.thread_time()
        for _ in range(start, min(start + 200, requests)):
            if telemetry is not None:
                report_one_request(telemetry)
        spent_s += time.thread_time() - before_s
        if telemetry is not None:
            drain(telemetry)
    waited_s = time.thread_time() - path_s - spent_s  # polling is not the telemetry's
    return spent_s / requests * 1e6, (time.process_time() - process_s - waited_s) / requests * 1e6


async def lateness_ms(telemetry: Telemetry | None) -> tuple[float, float]:
    late: list[float] = []
    for _ in range(PACED_REQUESTS):
        due_s = time.perf_counter() + PACE_S
        await asyncio.sleep(PACE_S)
        late.append((time.perf_counter() - due_s) * 1000)
        if telemetry is not None:
            report_one_request(telemetry)
    late.sort()
    return late[len(late) // 2], late[int(len(late) * 0.99)]


def measure(requests: int, endpoint: str, folder: str) -> None:
    logger = logging.getLogger("llm_router")
    logger.propagate = False
    sink = logging.StreamHandler(Path("/dev/null").open("w"))  # noqa: SIM115 -- lives as long as the process
    logger.addHandler(sink)

    def quiet() -> Telemetry:
        logger.setLevel(logging.WARNING)
        return LoggingTelemetry(role_name="bench")

    def lines() -> Telemetry:
        logger.setLevel(logging.INFO)
        return LoggingTelemetry(role_name="bench")

    azure = AzureTelemetry(Ingestion(endpoint, storage_path=folder), role_name="bench", queue_capacity=1_000_000)
    modes: dict[str, Callable[[], Telemetry | None]] = {
        "none": lambda: None,
        "logs, level WARNING": quiet,
        "logs, level INFO": lines,
        "Application Insights": lambda: azure,
    }
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in modes}
    for _ in range(ROUNDS):
        for name, build in modes.items():
            rounds[name].append(one_round(build(), requests))
    print(f"{'telemetry':<24}{'request path us':>16}{'process us':>12}{'late ms p50':>13}{'p99':>8}")
    for name, build in modes.items():
        path_us, process_us = (statistics.median(column) for column in zip(*rounds[name], strict=True))
        p50_ms, p99_ms = asyncio.run(lateness_ms(build()))
        print(f"{name:<24}{path_us:>16.1f}{process_us:>12.1f}{p50_ms:>13.2f}{p99_ms:>8.2f}")
    asyncio.run(azure.aclose())


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    endpoint = subprocess.Popen([sys.executable, __file__, _SERVE], stdout=subprocess.PIPE, text=True)
    try:
        port = endpoint.stdout.readline().strip() if endpoint.stdout else ""
        connection_string = (
            f"InstrumentationKey=11111111-2222-3333-4444-555555555555;IngestionEndpoint=http://127.0.0.1:{port}/"
        )
        with tempfile.TemporaryDirectory() as folder:
            measure(requests, connection_string, folder)
    finally:
        endpoint.kill()
        endpoint.wait()


if __name__ == "__main__":
    serve() if sys.argv[1:] == [_SERVE] else main()
