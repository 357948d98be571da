"""Indexing: from the imported app to the functions this host can run.

Checks what the Azure Functions worker checks when it indexes (azure_functions_worker/functions.py), so that an app
which starts here also starts there.
"""

import asyncio
import importlib
import inspect
import sys
import traceback
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import azure.functions as func
from azurefunctions.extensions.base import RequestTrackerMeta, ResponseTrackerMeta

from infra.local.hosting.context import InvocationContext, Trace
from infra.local.hosting.cron import Schedule, parse_schedule
from infra.local.hosting.errors import AppImportFailed, ConfigurationInvalid, IndexingFailed
from infra.local.hosting.settings import parse_time_span, resolve_setting_references

Invoke = Callable[[Any], Awaitable[object]]
"""Runs the user's function on its trigger's value; a plain function runs in a thread."""


@dataclass(frozen=True, slots=True)
class HttpFunction:
    """A function behind a route.

    Attributes:
        auth_level: `anonymous`, `function` or `admin`.
    """

    name: str
    template: str
    methods: frozenset[str]
    auth_level: str
    invoke: Invoke


@dataclass(frozen=True, slots=True)
class QueueFunction:
    """A function that takes messages; `connection` is the name of the setting with the connection string."""

    name: str
    queue_name: str
    connection: str
    invoke: Invoke


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a failed timer run is tried again.

    Attributes:
        retries: after the first attempt; -1 for no end.
        shortest_s: pause before the first retry; doubled each time up to `longest_s`.
    """

    retries: int = 0
    shortest_s: float = 0.0
    longest_s: float = 0.0

    def pause_s(self, retry: int) -> float:
        """Seconds before retry number `retry`, counted from 0."""
        return min(self.shortest_s * 2.0 ** min(retry, 30), self.longest_s)


@dataclass(frozen=True, slots=True)
class TimerFunction:
    """A function on a schedule; `use_monitor` None leaves it to the schedule's frequency."""

    name: str
    schedule: Schedule
    schedule_text: str
    run_on_startup: bool
    use_monitor: bool | None
    retry: RetryPolicy
    invoke: Invoke


@dataclass(frozen=True, slots=True)
class IndexedApp:
    """Everything one app declares; `unsupported` says what this host does not run."""

    http: tuple[HttpFunction, ...]
    queues: tuple[QueueFunction, ...]
    timers: tuple[TimerFunction, ...]
    unsupported: tuple[str, ...]


def load_app(location: str, root: Path) -> func.FunctionRegister:
    """Import the app from `root`; `location` is `module:attribute`.

    Raises:
        ConfigurationInvalid: `location` has another form.
        AppImportFailed: the import raised, or the attribute is no function app.
    """
    module_name, colon, attribute = location.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigurationInvalid(f"--app must be module:attribute, not {location!r}.")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise AppImportFailed(f"Cannot import {module_name}: {_where(error, root)}") from error
    app = getattr(module, attribute, None)
    if not isinstance(app, func.FunctionRegister):
        raise AppImportFailed(f"{module_name} has no azure.functions.FunctionApp named {attribute}.")
    names = [name for name, value in vars(module).items() if isinstance(value, func.FunctionRegister)]
    if len(names) > 1:
        raise IndexingFailed(f"{module_name} holds several function apps ({', '.join(names)}); Azure accepts one.")
    return app


def index_app(app: func.FunctionRegister, root: Path, environment: Mapping[str, str]) -> IndexedApp:
    """Enumerate the app's functions. May be called once per app, as `get_functions` may.

    Raises:
        IndexingFailed: a function that Azure would refuse.
        ConfigurationInvalid: a `%SETTING%` in a binding is not set.
    """
    try:
        functions = app.get_functions()
    except (ValueError, TypeError) as error:
        raise IndexingFailed(f"The app's functions cannot be indexed: {error}") from error
    http: list[HttpFunction] = []
    queues: list[QueueFunction] = []
    timers: list[TimerFunction] = []
    unsupported: list[str] = []
    for function in functions:
        name = str(function.get_function_name())
        trigger: dict[str, Any] = function.get_trigger().get_dict_repr()  # type: ignore[union-attr]  # get_functions refuses one without a trigger
        extra = [str(b.type) for b in function.get_bindings() if b.type not in {trigger["type"], "http"}]
        if extra or trigger["type"] not in _TRIGGER_TYPES:
            unsupported.append(f"{name} ({', '.join(extra) or trigger['type']})")
            continue
        invoke = _invocation(name, function.get_user_function(), trigger, root)
        if trigger["type"] == "httpTrigger":
            http.append(_http_function(name, trigger, invoke))
        elif trigger["type"] == "queueTrigger":
            queue_name = resolve_setting_references(
                trigger["queueName"], environment, f"Function {name}: the queue name"
            )
            queues.append(QueueFunction(name, queue_name, trigger["connection"], _without_result(name, invoke)))
        else:
            timers.append(_timer_function(function, name, trigger, _without_result(name, invoke), environment))
    return IndexedApp(tuple(http), tuple(queues), tuple(timers), tuple(unsupported))


_TRIGGER_TYPES = {
    "httpTrigger": RequestTrackerMeta.get_request_type,
    "queueTrigger": lambda: func.QueueMessage,
    "timerTrigger": lambda: func.TimerRequest,
}


def _http_function(name: str, trigger: dict[str, Any], invoke: Invoke) -> HttpFunction:
    methods = frozenset(str(method).upper() for method in trigger.get("methods") or ())
    return HttpFunction(name, trigger["route"], methods, str(trigger.get("authLevel") or "function").lower(), invoke)


def _timer_function(
    function: func.Function, name: str, trigger: dict[str, Any], invoke: Invoke, environment: Mapping[str, str]
) -> TimerFunction:
    text = resolve_setting_references(trigger["schedule"], environment, f"Function {name}: the schedule")
    try:
        schedule = parse_schedule(text)
        retry = _retry_policy(function.get_settings_dict("retry_policy") or {})
    except ValueError as error:
        raise IndexingFailed(f"Function {name}: {error}.") from error
    return TimerFunction(
        name, schedule, text, bool(trigger.get("runOnStartup")), trigger.get("useMonitor"), retry, invoke
    )


def _retry_policy(setting: dict[str, Any]) -> RetryPolicy:
    """Source: https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages (retry policies)."""
    if not setting:
        return RetryPolicy()
    retries = int(setting["max_retry_count"])
    if setting["strategy"] == "exponential_backoff":
        shortest, longest = setting["minimum_interval"], setting["maximum_interval"]
    else:
        shortest = longest = setting["delay_interval"]
    return RetryPolicy(retries, parse_time_span(shortest).total_seconds(), parse_time_span(longest).total_seconds())


def _invocation(name: str, function: Callable[..., Any], trigger: dict[str, Any], root: Path) -> Invoke:
    wants_context = _check_signature(name, function, trigger)
    argument = trigger["name"]
    is_async = inspect.iscoroutinefunction(function)

    def arguments(value: Any) -> dict[str, Any]:
        headers = getattr(value, "headers", None) or {}
        trace = Trace(headers.get("traceparent", ""), headers.get("tracestate", ""))
        return {argument: value, "context": InvocationContext(name, str(root), trace)}

    if is_async and not wants_context:
        return lambda value: typing.cast("Awaitable[object]", function(**{argument: value}))
    if is_async:
        return lambda value: typing.cast("Awaitable[object]", function(**arguments(value)))
    if wants_context:
        return lambda value: asyncio.to_thread(function, **arguments(value))
    return lambda value: asyncio.to_thread(function, **{argument: value})


def _without_result(name: str, invoke: Invoke) -> Invoke:
    """The worker fails an invocation that returns something no output binding takes."""

    async def run(value: Any) -> object:
        if await invoke(value) is not None:
            raise TypeError(f"function {name} without a return binding returned a value")
        return None

    return run


def _check_signature(name: str, function: Callable[..., Any], trigger: dict[str, Any]) -> bool:
    """Hold a function to what the worker accepts; returns whether it wants the context."""
    parameters = set(inspect.signature(function).parameters)
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError) as error:
        raise IndexingFailed(f"Function {name}: its annotations cannot be resolved: {error}.") from error
    argument = trigger["name"]
    if argument not in parameters:
        raise IndexingFailed(f"Function {name}: its trigger is named {argument}, but it has no such parameter.")
    if undeclared := sorted(parameters - {argument, "context"}):
        raise IndexingFailed(f"Function {name}: the parameter {undeclared[0]} is no declared binding.")
    expected = _TRIGGER_TYPES[trigger["type"]]()
    annotation = hints.get(argument, expected)
    if not (inspect.isclass(annotation) and inspect.isclass(expected) and issubclass(annotation, expected)):
        wanted = "azurefunctions.extensions.http.fastapi.Request" if trigger["type"] == "httpTrigger" else expected
        raise IndexingFailed(f"Function {name}: the parameter {argument} must be annotated {wanted}, not {annotation}.")
    if trigger["type"] == "httpTrigger" and "return" in hints and not ResponseTrackerMeta.check_type(hints["return"]):
        raise IndexingFailed(
            f"Function {name}: its return annotation {hints['return']} is no response class of"
            " azurefunctions.extensions.http.fastapi (a union is none either)."
        )
    return "context" in parameters and argument != "context"


def _where(error: BaseException, root: Path) -> str:
    """One line: what was raised, and the deepest line of the app's own code that led there."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(root))]
    place = f" ({Path(own[-1].filename).relative_to(root)}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"
