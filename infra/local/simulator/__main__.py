"""`python -m infra.local.simulator`: start the Vertex AI simulator and run until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import sys
import tomllib
from pathlib import Path

import uvloop

from infra.local.simulator import grpc_server, http_server, minilm
from infra.local.simulator.embedding import HashedVectors, Vectors
from infra.local.simulator.engine import Engine
from infra.local.simulator.profiles import Profiles

_DEFAULT_SEED = 7


def _arguments(values: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.simulator", description=__doc__)
    parser.add_argument("--grpc-port", type=int, default=18090, help="0 takes a free port")
    parser.add_argument("--http-port", type=int, default=18091, help="0 takes a free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, help="of answers, latencies and drawn faults (default 7, or the file's)")
    parser.add_argument("--config", type=Path, help="TOML laid over the shipped profiles; may hold seed and [[faults]]")
    parser.add_argument("--time-scale", type=float, help="multiplies every delay; 0 disables them")
    parser.add_argument(
        "--embeddings",
        choices=("auto", "hashed", "minilm"),
        default="auto",
        help="where vectors come from; auto takes all-MiniLM-L6-v2 where its package is installed",
    )
    return parser.parse_args(values)


def build(arguments: argparse.Namespace) -> Engine:
    """The engine that the arguments describe.

    Raises:
        ValueError: the file is not valid; the message names the field.
        OSError: the file cannot be read.
    """
    settings = tomllib.loads(arguments.config.read_text(encoding="utf-8")) if arguments.config else {}
    profiles = Profiles.load(arguments.config)
    if arguments.time_scale is not None:
        profiles.merge({"time_scale": arguments.time_scale})
    seed = arguments.seed if arguments.seed is not None else settings.get("seed", _DEFAULT_SEED)
    if not isinstance(seed, int):
        raise ValueError("seed must be a whole number")  # noqa: TRY004 - a file's content, not a caller's type
    engine = Engine(profiles, seed=seed, vectors=_vectors(arguments.embeddings))
    engine.faults.replace(settings.get("faults", []))
    return engine


def _vectors(wanted: str) -> Vectors:
    folder = None if wanted == "hashed" else minilm.installed()
    if folder is None:
        if wanted == "minilm":
            raise ValueError(f"--embeddings minilm needs the package {minilm.PACKAGE}")
        return HashedVectors()
    return minilm.MiniLmVectors(folder)


async def _run(engine: Engine, host: str, grpc_port: int, http_port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    grpc_service, grpc_bound = await grpc_server.serve(engine, host, grpc_port)
    try:
        runner, http_bound = await http_server.serve(engine, host, http_port)
    except OSError:
        # A loop that closes over a serving gRPC server may never end.
        await grpc_service.stop(grace=0)
        raise
    print(f"simulator ready: grpc {host}:{grpc_bound} http {host}:{http_bound}", flush=True)
    await stop.wait()
    await asyncio.gather(grpc_service.stop(grace=0.5), runner.cleanup())


def main() -> int:
    """Run the command; returns the exit status."""
    arguments = _arguments()
    try:
        engine = build(arguments)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(engine, arguments.host, arguments.grpc_port, arguments.http_port))
    except (OSError, RuntimeError, ValueError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
