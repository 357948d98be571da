"""A function app for the local host's tests; it is copied into a folder of its own and run there.

What happens in it is written to the file that HOST_TEST_LOG names, one JSON array per line, so that a test can see across processes.
Gates are files in the folder HOST_TEST_GATES: a function waits until its gate is there.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def note(*facts: object) -> None:
    """Append to the log: one write, so that lines of several processes do not mix."""
    with Path(os.environ["HOST_TEST_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps(facts) + "\n")


async def gate(name: str) -> None:
    """Wait for a file."""
    path = Path(os.environ["HOST_TEST_GATES"], name)
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - a file raises no event, and to look for one blocks for microseconds
        await asyncio.sleep(0.01)


@app.route(route="pid", methods=["GET"])
async def pid(req: Request) -> JSONResponse:
    return JSONResponse({"pid": os.getpid(), "setting": os.environ.get("HOST_TEST_SETTING")})


@app.route(route="echo/{name}", methods=["POST"])
async def echo(req: Request) -> JSONResponse:
    body = await req.body()
    return JSONResponse({"name": req.path_params["name"], "bytes": len(body), "query": dict(req.query_params)})


@app.route(route="wait/{name}", methods=["GET"])
async def wait(req: Request) -> Response:
    note("wait-started", req.path_params["name"])
    await gate(req.path_params["name"])
    note("wait-done", req.path_params["name"])
    return Response("done")


@app.route(route="stream/{name}", methods=["GET"])
async def stream(req: Request) -> StreamingResponse:
    name = req.path_params["name"]

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "one"
            await gate(name)
            yield "two"
        finally:
            note("stream-closed", name)

    return StreamingResponse(pieces(), media_type="text/event-stream")


@app.route(route="watch/{name}", methods=["GET"])
async def watch(req: Request) -> Response:
    note("watch-started", req.path_params["name"])
    while not await req.is_disconnected():  # noqa: ASYNC110 - this is how Starlette lets a handler notice
        await asyncio.sleep(0.01)
    note("watch-saw-disconnect", req.path_params["name"])
    return Response()


@app.route(route="guarded", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def guarded(req: Request) -> Response:
    return Response("open")


@app.queue_trigger(arg_name="message", queue_name="%HOST_TEST_QUEUE%", connection="AzureWebJobsStorage")
async def consume(message: func.QueueMessage) -> None:
    text = message.get_body().decode()
    note("message", text, message.dequeue_count)
    if text.startswith("gate:"):
        await gate(text.removeprefix("gate:"))
    if text == "bad":
        raise ValueError(text)
    note("message-done", text)


@app.timer_trigger(arg_name="timer", schedule="* * * * * *")
async def each_second(timer: func.TimerRequest) -> None:
    note("tick", os.getpid(), int(time.time()))
