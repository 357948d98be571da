"""host.json and local.settings.json as the local host reads them."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.local.host import main
from infra.local.hosting.errors import ConfigurationInvalid
from infra.local.hosting.settings import (
    HostFile,
    QueueSettings,
    apply_local_settings,
    parse_time_span,
    read_host_file,
    read_local_settings,
    resolve_setting_references,
)


def write(root: Path, document: Any, name: str = "host.json") -> Path:
    (root / name).write_text(json.dumps(document))
    return root


def test_absent_fields_have_the_defaults(tmp_path: Path):
    assert read_host_file(write(tmp_path, {"version": "2.0"})) == HostFile(
        "api", 1800.0, 15, QueueSettings(16, 8, 5, 0.0, 2.0, base64=True)
    )


def test_every_field_is_read(tmp_path: Path):
    document = {
        "version": "2.0",
        "functionTimeout": "00:10:00",
        "singleton": {"listenerLockPeriod": "00:00:30"},
        "extensions": {
            "http": {"routePrefix": "/v1/"},
            "queues": {
                "batchSize": 4,
                "newBatchThreshold": 1,
                "maxDequeueCount": 3,
                "visibilityTimeout": "00:00:10",
                "maxPollingInterval": "00:00:05",
                "messageEncoding": "none",
            },
        },
    }
    assert read_host_file(write(tmp_path, document)) == HostFile(
        "v1", 600.0, 30, QueueSettings(4, 1, 3, 10.0, 5.0, base64=False)
    )


def test_the_projects_own_host_file_is_read():
    settings = read_host_file(Path(__file__).parents[2])
    assert settings.route_prefix == "api"
    assert settings.function_timeout_s == 600.0


def test_the_new_batch_threshold_follows_the_batch_size(tmp_path: Path):
    document = {"extensions": {"queues": {"batchSize": 10}}}
    assert read_host_file(write(tmp_path, document)).queues.new_batch_threshold == 5


def test_minus_one_means_no_function_timeout(tmp_path: Path):
    assert read_host_file(write(tmp_path, {"functionTimeout": "-1"})).function_timeout_s is None


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"extensions": {"queues": {"batchSize": 33}}}, "extensions.queues.batchSize"),
        ({"extensions": {"queues": {"batchSize": True}}}, "extensions.queues.batchSize"),
        ({"extensions": {"queues": {"maxDequeueCount": 0}}}, "extensions.queues.maxDequeueCount"),
        ({"extensions": {"queues": {"visibilityTimeout": 10}}}, "extensions.queues.visibilityTimeout"),
        ({"extensions": {"queues": {"visibilityTimeout": "ten"}}}, "extensions.queues.visibilityTimeout"),
        ({"extensions": {"queues": {"messageEncoding": "gzip"}}}, "extensions.queues.messageEncoding"),
        ({"extensions": {"queues": []}}, "extensions.queues"),
        ({"extensions": {"http": {"routePrefix": 1}}}, "extensions.http.routePrefix"),
        ({"functionTimeout": "00:00:00"}, "functionTimeout"),
        ({"singleton": {"listenerLockPeriod": "00:02:00"}}, "singleton.listenerLockPeriod"),
        ([], "host.json"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, document: Any, named: str):
    with pytest.raises(ConfigurationInvalid, match=named):
        read_host_file(write(tmp_path, document))


def test_a_missing_or_broken_host_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationInvalid, match=r"no host\.json"):
        read_host_file(tmp_path)
    (tmp_path / "host.json").write_text("{")
    with pytest.raises(ConfigurationInvalid, match=r"host\.json cannot be read"):
        read_host_file(tmp_path)


def test_local_settings_are_optional_and_lose_against_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert read_local_settings(tmp_path) == {}
    write(tmp_path, {"IsEncrypted": False, "Values": {"HOST_A": "file", "HOST_B": "file"}}, "local.settings.json")
    monkeypatch.setenv("HOST_A", "environment")
    monkeypatch.setenv("HOST_B", "to be removed again")
    monkeypatch.delenv("HOST_B")
    apply_local_settings(read_local_settings(tmp_path))
    assert (os.environ["HOST_A"], os.environ["HOST_B"]) == ("environment", "file")


@pytest.mark.parametrize(
    ("document", "named"),
    [({"IsEncrypted": True}, "encrypted"), ({"Values": {"A": 1}}, r"Values\.A"), ({"Values": []}, "Values")],
)
def test_wrong_local_settings_are_named(tmp_path: Path, document: Any, named: str):
    with pytest.raises(ConfigurationInvalid, match=named):
        read_local_settings(write(tmp_path, document, "local.settings.json"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:10", timedelta(seconds=10)),
        ("10:30", timedelta(hours=10, minutes=30)),
        ("2.03:04:05", timedelta(days=2, hours=3, minutes=4, seconds=5)),
        ("00:00:00.1234567", timedelta(microseconds=123456)),
        ("-00:00:01", timedelta(seconds=-1)),
        ("7", timedelta(days=7)),
    ],
)
def test_time_spans(text: str, expected: timedelta):
    assert parse_time_span(text) == expected


@pytest.mark.parametrize("text", ["", "1:2:3:4", "24:00:00", "00:60", "00:00:60", "1.5", "ten", "00:00:01.12345678"])
def test_what_is_no_time_span(text: str):
    with pytest.raises(ValueError, match="time span"):
        parse_time_span(text)


def test_setting_references_are_resolved():
    assert resolve_setting_references("%A%-%B%", {"A": "x", "B": "y"}, "queue") == "x-y"
    with pytest.raises(ConfigurationInvalid, match="queue refers to the setting C"):
        resolve_setting_references("%C%", {}, "queue")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "65536"], "--port"),
        (["--port", "-1"], "--port"),
        (["--workers", "0"], "--workers"),
        (["--grace-s", "-1"], "--grace-s"),
        (["--response-timeout-s", "nan"], "--response-timeout-s"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"argument {named}" in capsys.readouterr().err


def test_without_a_host_file_the_host_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--root", str(tmp_path), "--port", "0"]) == 1
    assert f"There is no host.json in {tmp_path}" in capsys.readouterr().err
