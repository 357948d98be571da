"""host.json and local.settings.json, read as the Azure Functions host reads them.

Fields and defaults: https://learn.microsoft.com/azure/azure-functions/functions-host-json and
https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue (host.json settings).
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from infra.local.hosting.errors import ConfigurationInvalid

_TIME_SPAN = re.compile(
    r"(?P<sign>-)?(?:(?P<days>\d{1,8})\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2})"
    r"(?::(?P<seconds>\d{1,2})(?:\.(?P<fraction>\d{1,7}))?)?"
)
_MAX_HOURS, _MAX_MINUTES = 23, 59
_SETTING_REFERENCE = re.compile(r"%([^%\s]+)%")


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How queue triggers take messages.

    Attributes:
        batch_size: messages taken at once, 1 to 32.
        new_batch_threshold: the next batch is taken when no more than this many messages are being processed.
        max_dequeue_count: attempts before a message goes to `<queue>-poison`.
        visibility_timeout_s: how long a message stays hidden after a failed attempt.
        max_polling_interval_s: longest pause between two looks into an empty queue. Azure's default is one minute; two
            seconds suit the person who waits for a message at their own machine.
        base64: whether message text is base64 (`messageEncoding`).
    """

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout_s: float = 0.0
    max_polling_interval_s: float = 2.0
    base64: bool = True


@dataclass(frozen=True, slots=True)
class HostFile:
    """What host.json says.

    Attributes:
        route_prefix: first segments of every HTTP route; empty for none.
        function_timeout_s: longest run of one invocation; None for no limit.
        timer_lock_s: length of the blob lease that makes a timer fire on one instance only. Azure's default is 60 s;
            the shortest lease there is, 15 s, lets a killed local host start its timers again sooner.
    """

    route_prefix: str = "api"
    function_timeout_s: float | None = 1800.0
    timer_lock_s: int = 15
    queues: QueueSettings = field(default_factory=QueueSettings)


def parse_time_span(text: str) -> timedelta:
    """A .NET `TimeSpan` in its constant form: `[-][d.]hh:mm[:ss[.fffffff]]`, or whole days.

    Source: https://learn.microsoft.com/dotnet/api/system.timespan.parse

    Raises:
        ValueError: it is no time span.
    """
    text = text.strip()
    if re.fullmatch(r"-?\d{1,8}", text):
        return timedelta(days=int(text))
    match = _TIME_SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time span; write hh:mm:ss")
    hours, minutes, seconds = (int(match[part] or 0) for part in ("hours", "minutes", "seconds"))
    if hours > _MAX_HOURS or minutes > _MAX_MINUTES or seconds > _MAX_MINUTES:
        raise ValueError(f"{text!r} is no time span; hours end at 23, minutes and seconds at 59")
    microseconds = int((match["fraction"] or "0").ljust(7, "0")) // 10
    span = timedelta(
        days=int(match["days"] or 0), hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds
    )
    return -span if match["sign"] else span


def read_host_file(root: Path) -> HostFile:
    """Read `root/host.json`; absent fields have Azure's defaults.

    Raises:
        ConfigurationInvalid: the file is missing, is no JSON object, or a field has a value the host cannot use.
    """
    document = _json_object(root / "host.json")
    extensions = _section(document, "extensions")
    return HostFile(
        route_prefix=_text(_section(extensions, "http", "extensions."), "extensions.http.routePrefix", "api").strip(
            "/"
        ),
        function_timeout_s=_function_timeout_s(document),
        timer_lock_s=int(_span_s(_section(document, "singleton"), "singleton.listenerLockPeriod", 15.0, 15.0, 60.0)),
        queues=_queue_settings(_section(extensions, "queues", "extensions.")),
    )


def read_local_settings(root: Path) -> dict[str, str]:
    """The `Values` of `root/local.settings.json`; empty when there is no such file.

    Raises:
        ConfigurationInvalid: the file is no JSON object, is encrypted, or a value is no string.
    """
    path = root / "local.settings.json"
    if not path.is_file():
        return {}
    document = _json_object(path)
    if document.get("IsEncrypted") is True:
        raise ConfigurationInvalid(
            "local.settings.json is encrypted (IsEncrypted): decrypt it with `func settings decrypt`."
        )
    values = _section(document, "Values", file="local.settings.json")
    for name, value in values.items():
        if not isinstance(value, str):
            raise ConfigurationInvalid(f"local.settings.json: Values.{name} must be a string.")
    return values


def apply_local_settings(values: Mapping[str, str]) -> None:
    """Add settings to the environment of this process; what the environment already holds wins."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def resolve_setting_references(text: str, environment: Mapping[str, str], field_name: str) -> str:
    """Replace each `%NAME%` by the app setting of that name, as Azure does in queue names and schedules.

    Raises:
        ConfigurationInvalid: no such setting; the message names `field_name` and the setting.
    """

    def value_of(match: re.Match[str]) -> str:
        value = environment.get(match[1])
        if value is None:
            raise ConfigurationInvalid(f"{field_name} refers to the setting {match[1]}, which is not set.")
        return value

    return _SETTING_REFERENCE.sub(value_of, text)


def _queue_settings(section: dict[str, Any]) -> QueueSettings:
    at = "extensions.queues."
    batch_size = _whole(section, at + "batchSize", 16, 1, 32)
    encoding = _text(section, at + "messageEncoding", "base64").lower()
    if encoding not in {"base64", "none"}:
        raise ConfigurationInvalid("host.json: extensions.queues.messageEncoding must be base64 or none.")
    return QueueSettings(
        batch_size=batch_size,
        new_batch_threshold=_whole(section, at + "newBatchThreshold", batch_size // 2, 0, 1000),
        max_dequeue_count=_whole(section, at + "maxDequeueCount", 5, 1, 1000),
        visibility_timeout_s=_span_s(section, at + "visibilityTimeout", 0.0, 0.0, 7 * 86400.0),
        max_polling_interval_s=_span_s(section, at + "maxPollingInterval", 2.0, 0.1, 60.0),
        base64=encoding == "base64",
    )


def _function_timeout_s(document: dict[str, Any]) -> float | None:
    if document.get("functionTimeout") == "-1":
        return None
    return _span_s(document, "functionTimeout", 1800.0, 1.0, 10 * 86400.0)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationInvalid(
            f"There is no {path.name} in {path.parent}: start the host in the app's folder."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(f"{path.name} cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise ConfigurationInvalid(f"{path.name} must hold a JSON object.")
    return document


def _section(document: dict[str, Any], name: str, at: str = "", file: str = "host.json") -> dict[str, Any]:
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationInvalid(f"{file}: {at}{name} must be an object.")
    return section


def _text(section: dict[str, Any], path: str, default: str) -> str:
    value = section.get(path.rpartition(".")[2], default)
    if not isinstance(value, str):
        raise ConfigurationInvalid(f"host.json: {path} must be a string.")
    return value


def _whole(section: dict[str, Any], path: str, default: int, least: int, most: int) -> int:
    value = section.get(path.rpartition(".")[2], default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigurationInvalid(f"host.json: {path} must be a whole number from {least} to {most}.")
    return value


def _span_s(section: dict[str, Any], path: str, default_s: float, least_s: float, most_s: float) -> float:
    value = section.get(path.rpartition(".")[2])
    if value is None:
        return default_s
    try:
        seconds = parse_time_span(value).total_seconds()
    except (TypeError, AttributeError, ValueError):
        raise ConfigurationInvalid(f"host.json: {path} must be a time span such as 00:00:30.") from None
    if not least_s <= seconds <= most_s:
        raise ConfigurationInvalid(f"host.json: {path} must lie between {least_s:g} and {most_s:g} seconds.")
    return seconds
