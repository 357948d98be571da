"""Indexing: what the local host takes from an app, and what it refuses as Azure would."""

import importlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import azure.functions as func
import pytest
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response

from infra.local.hosting.errors import AppImportFailed, ConfigurationInvalid, IndexingFailed
from infra.local.hosting.indexing import RetryPolicy, index_app, load_app


def app() -> func.FunctionApp:
    return func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


async def test_all_three_triggers_are_found():
    tested = app()
    ran = []

    @tested.route(route="items/{id:int}", methods=["GET", "DELETE"], auth_level=func.AuthLevel.FUNCTION)
    async def item(req: Request) -> Response:
        ran.append(req)
        return Response()

    @tested.queue_trigger(arg_name="message", queue_name="%PREFIX%-items", connection="Storage")
    async def consume(message: func.QueueMessage) -> None:
        ran.append(message)

    @tested.timer_trigger(arg_name="timer", schedule="0 0 3 * * *", run_on_startup=True, use_monitor=False)
    @tested.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:10")
    def nightly(timer: func.TimerRequest) -> None:
        ran.append(timer)

    indexed = index_app(tested, Path(), {"PREFIX": "dev"})
    (http,), (queue,), (timer,) = indexed.http, indexed.queues, indexed.timers
    assert (http.name, http.template, http.methods, http.auth_level) == (
        "item", "items/{id:int}", {"GET", "DELETE"}, "function"
    )  # fmt: skip
    assert (queue.name, queue.queue_name, queue.connection) == ("consume", "dev-items", "Storage")
    assert (timer.name, timer.run_on_startup, timer.use_monitor, timer.retry) == (
        "nightly", True, False, RetryPolicy(3, 10.0, 10.0)
    )  # fmt: skip
    assert timer.schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, 3, tzinfo=UTC)
    assert indexed.unsupported == ()
    await http.invoke("request")
    await queue.invoke("message")
    await timer.invoke("timer")
    assert ran == ["request", "message", "timer"]


async def test_a_function_may_take_the_context():
    tested = app()
    seen: list[func.Context] = []

    @tested.route(route="a")
    async def with_context(req: Request, context: func.Context) -> JSONResponse:
        seen.append(context)
        return JSONResponse({})

    @tested.queue_trigger(arg_name="message", queue_name="q", connection="Storage")
    def plain_with_context(message: func.QueueMessage, context: func.Context) -> None:
        seen.append(context)

    indexed = index_app(tested, Path("/app"), {})
    headers = [(b"traceparent", b"00-1-2-01"), (b"tracestate", b"a=b")]
    await indexed.http[0].invoke(Request({"type": "http", "headers": headers}))
    await indexed.queues[0].invoke(object())
    http, queue = seen
    assert (http.function_name, http.function_directory) == ("with_context", "/app")
    assert (http.trace_context.trace_parent, http.trace_context.trace_state) == ("00-1-2-01", "a=b")
    assert (queue.function_name, queue.trace_context.trace_parent) == ("plain_with_context", "")
    assert http.invocation_id != queue.invocation_id


async def test_a_result_that_no_binding_takes_fails_the_invocation():
    tested = app()

    @tested.timer_trigger(arg_name="timer", schedule="0 0 3 * * *")
    async def nightly(timer: func.TimerRequest):
        return 1

    with pytest.raises(TypeError, match="nightly"):
        await index_app(tested, Path(), {}).timers[0].invoke("timer")


def test_an_exponential_retry_pauses_longer_each_time():
    policy = RetryPolicy(-1, 1.0, 10.0)
    assert [policy.pause_s(retry) for retry in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert policy.pause_s(10_000) == 10.0


def test_further_bindings_and_other_triggers_are_reported_as_unsupported():
    tested = app()

    @tested.route(route="a")
    @tested.queue_output(arg_name="out", queue_name="q", connection="Storage")
    async def sends(req: Request, out: func.Out[str]) -> Response:
        return Response()

    @tested.blob_trigger(arg_name="blob", path="c/{name}", connection="Storage")
    async def on_blob(blob: func.InputStream) -> None: ...

    indexed = index_app(tested, Path(), {})
    assert indexed.unsupported == ("sends (queue)", "on_blob (blobTrigger)")
    assert (indexed.http, indexed.queues) == ((), ())


async def http_v1(req: func.HttpRequest) -> Response:
    return Response()


async def undeclared_parameter(req: Request, clock: object) -> Response:
    return Response()


async def no_parameter() -> Response:
    return Response()


async def union_result(req: Request) -> Response | str:
    return Response()


async def unresolvable(req: "Missing") -> Response:  # type: ignore[name-defined]  # noqa: F821 - that is what is tested
    return Response()


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (http_v1, "http_v1: the parameter req must be annotated .*fastapi"),
        (undeclared_parameter, "undeclared_parameter: the parameter clock is no declared binding"),
        (no_parameter, "no_parameter: its trigger is named req"),
        (union_result, "union_result: its return annotation"),
        (unresolvable, "unresolvable: its annotations cannot be resolved"),
    ],
)
def test_what_azure_refuses_is_refused_by_name(function: object, named: str):
    tested = app()
    tested.route(route="a")(function)
    with pytest.raises(IndexingFailed, match=named):
        index_app(tested, Path(), {})


def test_two_functions_of_one_name_are_refused():
    tested = app()
    tested.route(route="a")(no_parameter)
    tested.route(route="b")(no_parameter)
    with pytest.raises(IndexingFailed, match="no_parameter"):
        index_app(tested, Path(), {})


def test_a_wrong_schedule_names_its_function():
    tested = app()

    @tested.timer_trigger(arg_name="timer", schedule="0 0 25 * * *")
    async def nightly(timer: func.TimerRequest) -> None: ...

    with pytest.raises(IndexingFailed, match=r"nightly: .*hour"):
        index_app(tested, Path(), {})


def test_a_queue_name_from_a_missing_setting_names_both():
    tested = app()

    @tested.queue_trigger(arg_name="message", queue_name="%NOWHERE%", connection="Storage")
    async def consume(message: func.QueueMessage) -> None: ...

    with pytest.raises(ConfigurationInvalid, match="consume: the queue name refers to the setting NOWHERE"):
        index_app(tested, Path(), {})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that can be imported as `host_loaded_app`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield tmp_path / "host_loaded_app.py"
    sys.modules.pop("host_loaded_app", None)


def test_an_app_is_loaded(module: Path):
    module.write_text("import azure.functions as func\napp = func.FunctionApp()\n")
    assert isinstance(load_app("host_loaded_app:app", module.parent), func.FunctionApp)


@pytest.mark.parametrize(
    ("source", "kind", "named"),
    [
        ("\nimport not_there_at_all\n", AppImportFailed, r"not_there_at_all.*\(host_loaded_app\.py, line 2\)"),
        ("1 +\n", AppImportFailed, "SyntaxError"),
        ("raise SystemExit(3)\n", AppImportFailed, "SystemExit"),
        ("app = 1\n", AppImportFailed, "no azure.functions.FunctionApp named app"),
        (
            "import azure.functions as func\napp = func.FunctionApp()\nother = func.FunctionApp()\n",
            IndexingFailed,
            r"several function apps \(app, other\)",
        ),
    ],
)
def test_an_app_that_cannot_be_loaded_is_explained(module: Path, source: str, kind: type[Exception], named: str):
    module.write_text(source)
    with pytest.raises(kind, match=named):
        load_app("host_loaded_app:app", module.parent)


def test_the_location_must_name_module_and_attribute(tmp_path: Path):
    with pytest.raises(ConfigurationInvalid, match="module:attribute"):
        load_app("function_app", tmp_path)
