"""What the router adds, on the real stack: latency over a direct call, throughput, CPU per request.

    python tests/bench/overhead.py [--seconds 10] [--workers 1]

Starts PostgreSQL, Redis, Azurite, the simulator without delays and the Function App, all of them on free ports, and
drives them from this process, so client, upstream and router share the machine: compare ratios, not absolutes. "direct"
is the same chat completion sent straight to the simulator's OpenAI-compatible endpoint. Arrivals are open loop at fixed
rates (latency counts from the intended start, so a stall is not hidden), then closed loop at 16 connections. Records,
journal, telemetry (structured logs) and the decision over all deployments are on.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infra.local import services
from infra.local.application import FunctionApp, migrate
from infra.local.environment import Directories, Ports, function_app_environment
from infra.local.stack import wait_serving

MESSAGES = [{"role": "user", "content": "Explain why the sky is blue in one sentence. " * 8}]
MODEL, TARGET = "deepseek-v4.1-flash", "deepseek-ai/deepseek-v4.1-flash-maas"
HEADERS = {"content-type": "application/json"}


def percentiles(values: Sequence[float]) -> str:
    """p50/p95/p99 in milliseconds."""
    ordered = sorted(values)
    return "/".join(f"{1000 * ordered[min(len(ordered) - 1, int(len(ordered) * q))]:.2f}" for q in (0.50, 0.95, 0.99))


class Target:
    """One address under load, with the processes whose CPU it costs."""

    def __init__(self, name: str, url: str, body: dict, pid: int) -> None:
        self.name = name
        self.url = url
        self.body = json.dumps(body).encode()
        self.process = psutil.Process(pid)
        self.overheads: list[float] = []
        self.errors = 0

    async def once(self, session: aiohttp.ClientSession) -> None:
        async with session.post(self.url, data=self.body, headers=HEADERS) as response:
            await response.read()
            if response.status != 200:
                self.errors += 1
            if (overhead := response.headers.get("x-router-overhead-ms")) is not None:
                self.overheads.append(float(overhead) / 1000)

    def cpu_s(self) -> float:
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(p.cpu_times()[:2]) for p in family)


async def open_loop(target: Target, session: aiohttp.ClientSession, rate: float, seconds: float) -> list[float]:
    """Latencies from the intended start of each request."""
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.05

    async def one(at: float) -> None:
        await asyncio.sleep(max(0.0, at - loop.time()))
        await target.once(session)
        latencies.append(loop.time() - at)

    await asyncio.gather(*(one(start + n / rate) for n in range(int(rate * seconds))))
    return latencies


async def closed_loop(target: Target, session: aiohttp.ClientSession, connections: int, seconds: float) -> int:
    """How many requests `connections` callers without pause get through."""
    done = 0
    end = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < end:
            await target.once(session)
            done += 1

    await asyncio.gather(*(caller() for _ in range(connections)))
    return done


async def measure(targets: Sequence[Target], seconds: float) -> None:
    """Interleaved rounds over the targets, printed as they come."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        for target in targets:
            await closed_loop(target, session, 4, 2.0)
            target.overheads.clear()
        for rate in (50, 100, 200):
            for target in targets:
                before = target.cpu_s()
                latencies = await open_loop(target, session, rate, seconds)
                cpu = 1000 * (target.cpu_s() - before) / len(latencies)
                own = f"  own overhead ms {percentiles(target.overheads)}" if target.overheads else ""
                target.overheads.clear()
                print(
                    f"{rate:>4} rps  {target.name:<8} ms p50/p95/p99 {percentiles(latencies):<18} CPU s/1k {cpu:.2f}{own}"
                )
        for target in targets:
            before = target.cpu_s()
            done = await closed_loop(target, session, 16, seconds)
            cpu = 1000 * (target.cpu_s() - before) / done
            print(f"c=16      {target.name:<8} {done / seconds:>8.0f} rps  CPU s/1k {cpu:.2f}  errors {target.errors}")


def main() -> None:
    """Start, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        directories, ports = Directories(Path(root)), Ports.free()
        running = [*services.backing_services(ports, directories, durable=False, time_scale=0.0)]
        try:
            for service in running:
                service.start()
            migrate(settings_dsn := function_app_environment(ports, directories)["POSTGRES_DSN"])
            settings = function_app_environment(ports, directories, workers=arguments.workers, dsn=settings_dsn)
            app = FunctionApp(
                directories.journal, directories.logs, ports.function_app, settings, workers=arguments.workers
            )
            app.start()
            running.append(app)
            ready, answer = wait_serving(ports.function_app, 60.0)
            if not ready:
                sys.exit(f"{answer}\n{app.log_tail(40)}")
            simulator = next(s for s in running if isinstance(s, services.Simulator))
            upstream = f"http://127.0.0.1:{ports.simulator_http}/v1/projects/p/locations/global/endpoints/openapi"
            targets = [
                Target(
                    "direct", f"{upstream}/chat/completions", {"model": TARGET, "messages": MESSAGES}, simulator.pid
                ),
                Target(
                    "router", f"{app.base_url}/api/v1/chat/completions", {"model": MODEL, "messages": MESSAGES}, app.pid
                ),
                Target(
                    "auto", f"{app.base_url}/api/v1/chat/completions", {"model": "auto", "messages": MESSAGES}, app.pid
                ),
            ]
            asyncio.run(measure(targets, arguments.seconds))
        finally:
            for service in reversed(running):
                service.stop()


if __name__ == "__main__":
    main()
