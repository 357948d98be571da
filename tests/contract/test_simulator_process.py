"""The simulator as a process: its command line, its determinism, its end."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.contract.simulator_process import PARENT, ROOT, Simulated, chat, launch, running


def ask(simulated: Simulated, text: str = "hello") -> dict[str, Any]:
    path = f"{simulated.http}/v1/{PARENT}/endpoints/openapi/chat/completions"
    with urllib.request.urlopen(path, json.dumps(chat(text)).encode(), timeout=20) as answer:  # noqa: S310 - our own simulator
        found: dict[str, Any] = json.load(answer)
    return {**found, "created": 0}


def test_a_seed_gives_the_same_answers_in_every_process() -> None:
    with running("--seed", "11") as one, running("--seed", "11") as same, running("--seed", "12") as other:
        assert ask(one) == ask(same) != ask(other)
        assert one.control("GET", "health")["seed"] == 11


def test_a_file_sets_profiles_seed_and_faults(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(
        'seed = 5\n[models."meta/llama-9-maas"]\nanswer_tokens = 10\n[[faults]]\nfault = "truncated"\ntimes = 1\n',
        encoding="utf-8",
    )
    with running("--config", str(file)) as simulated:
        assert simulated.control("GET", "health")["seed"] == 5
        assert "meta/llama-9-maas" in simulated.control("GET", "health")["models"]
        assert [ask(simulated)["choices"][0]["finish_reason"] for _ in range(2)] == ["length", "stop"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('[models."m"]\nspeed = 1\n', "models.m.speed"),
        ("seed = 1.5\n", "seed must be a whole number"),
        ('[[faults]]\nfault = "x"\n', "[0].fault"),
        ("a = \n", "Invalid value"),
        (None, "No such file"),
    ],
)
def test_a_wrong_file_is_said_in_one_line(tmp_path: Path, content: str | None, named: str) -> None:
    file = tmp_path / "profiles.toml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with launch("--config", str(file)) as process:
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output == ""
    assert errors.startswith("simulator: ")
    assert named in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_calls_in_flight(number: signal.Signals) -> None:
    with (
        running() as simulated,
        socket.create_connection(("127.0.0.1", int(simulated.http.rsplit(":", 1)[1]))) as client,
    ):
        body = json.dumps(chat()).encode()
        head = f"POST /v1/{PARENT}/endpoints/openapi/chat/completions HTTP/1.1\r\nHost: x\r\nx-sim-fault: hang\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        end = time.monotonic() + 20
        while not simulated.control("GET", "calls")["calls"]:
            assert time.monotonic() < end, "the call never arrived"
            time.sleep(0.01)
        simulated.process.send_signal(number)
        _, errors = simulated.process.communicate(timeout=20)
        assert simulated.process.returncode == 0
        assert errors == ""


def test_a_taken_port_is_said_and_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for option in ("--http-port", "--grpc-port"):
            with launch(option, str(taken.getsockname()[1])) as process:
                try:
                    _, errors = process.communicate(timeout=60)
                finally:
                    process.kill()
            assert process.returncode == 1
            assert "simulator: " in errors


def test_it_starts_without_the_whole_client_library() -> None:
    program = (
        "import sys, infra.local.simulator.__main__\n"
        "assert not any(name.startswith('google.cloud.aiplatform_v1.services') for name in sys.modules)\n"
        "assert 'google.cloud.aiplatform_v1' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_its_messages_are_those_of_the_client_library() -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from infra.local.simulator import protos\n"
        "from google.cloud import aiplatform_v1 as v1\n"
        "assert v1.GenerateContentRequest.pb() is protos.GenerateContentRequest\n"
        "assert v1.PredictRequest.pb() is protos.PredictRequest\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=100)
