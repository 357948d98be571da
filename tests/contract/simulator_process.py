"""A simulator of one's own, on free ports and without delays, for tests that set its profiles, faults and seed."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
READY = re.compile(r"simulator ready: grpc (127\.0\.0\.1:\d+) http (127\.0\.0\.1:\d+)\n")
CLAUDE_VERSION = "vertex-2023-10-16"
PARENT = "projects/p/locations/us-central1"


@dataclass
class Simulated:
    """A running simulator."""

    process: subprocess.Popen[str]
    grpc: str
    http: str

    def control(self, method: str, page: str, document: Any = None) -> Any:
        """Ask the control API; raises urllib's HTTPError for refusals."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.http}/_sim/{page}", body, method=method)  # noqa: S310 - our own simulator
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own simulator
            return json.load(answer)

    def last_call(self) -> dict[str, Any]:
        """The newest entry of the call log."""
        return self.control("GET", "calls?last=1")["calls"][0]


def launch(*arguments: str) -> subprocess.Popen[str]:
    """Start the command on free ports."""
    command = [sys.executable, "-m", "infra.local.simulator", "--grpc-port", "0", "--http-port", "0", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(*arguments: str) -> Iterator[Simulated]:
    """A simulator that is ready, stopped at the end."""
    with launch("--time-scale", "0", *arguments) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            ready = READY.fullmatch(line)
            assert ready, line
            yield Simulated(process, ready.group(1), f"http://{ready.group(2)}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)


def user(text: str) -> list[dict[str, str]]:
    """One user message, as OpenAI and Anthropic write it."""
    return [{"role": "user", "content": text}]


def claude(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A Messages body."""
    return {"anthropic_version": CLAUDE_VERSION, "max_tokens": 2_000, "messages": user(text), **fields}


def chat(text: str = "hello", model: str = "openai/gpt-oss-120b-maas", **fields: Any) -> dict[str, Any]:
    """A chat completion body."""
    return {"model": model, "messages": user(text), **fields}


def contents(text: str = "hello", **config: Any) -> dict[str, Any]:
    """A GenerateContent body in JSON."""
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}


def events(body: str) -> list[Any]:
    """The JSON of a server-sent event stream; `[DONE]` stays text."""
    found = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
    return [item if item == "[DONE]" else json.loads(item) for item in found]
