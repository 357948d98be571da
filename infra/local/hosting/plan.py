"""What the supervisor and its workers tell each other: JSON lines over a socket, so no secret is on a command line."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Plan:
    """How one host is to be run.

    Attributes:
        root: the app's folder: host.json, local.settings.json, the app's module.
        app: `module:attribute`.
        storage: connection string for `AzureWebJobsStorage`; empty leaves the environment's.
        function_key: what functions of level FUNCTION ask for; empty for none.
        master_key: opens every function, and `/admin`; empty for none.
        response_timeout_s: see `HttpLimits`.
        grace_s: time for work under way when the host is told to stop.
        access_log: one line per request.
        verbose: log at INFO.
    """

    root: str
    app: str
    storage: str = ""
    function_key: str = ""
    master_key: str = ""
    response_timeout_s: float = 230.0
    grace_s: float = 30.0
    access_log: bool = False
    verbose: bool = False

    def to_line(self) -> bytes:
        """One line, ended by a newline."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `to_line` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's one answer: it serves, or why it cannot.

    Attributes:
        failure: one sentence; empty when the worker serves.
        functions: one line per function, for `--verbose`.
        notices: what the person at the terminal should know.
    """

    failure: str = ""
    functions: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def to_line(self) -> bytes:
        """One line, ended by a newline."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `to_line` wrote."""
        document = json.loads(line)
        return cls(document["failure"], tuple(document["functions"]), tuple(document["notices"]))
