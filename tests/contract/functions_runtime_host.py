"""A child process: the host's side of a conversation with the real Functions runtime library, one order a line.

    python functions_runtime_host.py FUNCTION_APP_DIRECTORY

It first answers what indexing found. Then each line of standard input is an order, a JSON object with the function's
name as `function`, and each line of standard output says how that invocation ended:

    {"function": ..., "http": {"method": ..., "path": ..., "params": {...}, "body": ..., "headers": {...}}}
    {"function": ..., "http": {..., "leave_after": TEXT}}     closes the connection as soon as TEXT has come
    {"function": ..., "queue": TEXT}
    {"function": ..., "timer": {"IsPastDue": false, ...}}

A process of its own, because the library keeps one app per process and importing it must not touch the test session.
"""

import asyncio
import json
import os
import sys
import uuid
from typing import Any

import aiohttp

_DEADLINE_S = 60.0


async def converse(directory: str, replies: Any) -> None:
    sys.path.insert(0, directory)
    import azure_functions_runtime as runtime  # noqa: PLC0415 - the app's directory comes first, as in the worker
    import functions_runtime_protos as protos  # noqa: PLC0415 - a sibling, found because this is a script

    def say(document: dict[str, Any]) -> None:
        replies.write(json.dumps(document) + "\n")
        replies.flush()

    runtime.start_threadpool_executor()
    init = protos.Message(worker_init_request=protos.Message(capabilities={}, function_app_directory=directory))
    properties = {"host": "127.0.0.1", "protos": protos}
    started = await runtime.worker_init_request(protos.Message(request=init, properties=properties))
    if started.result.status != protos.StatusResult.Success:
        say({"error": started.result.exception.message, "trace": started.result.exception.stack_trace})
        return
    found = await runtime.functions_metadata_request(None)
    functions = {entry.name: entry for entry in found.function_metadata_results}
    say({"capabilities": started.capabilities, "functions": {name: _described(f) for name, f in functions.items()}})
    uri = started.capabilities["HttpUri"]
    await _until_listening(uri)
    async with aiohttp.ClientSession(uri, timeout=aiohttp.ClientTimeout(_DEADLINE_S)) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            say(await _obey(order, functions[order["function"]], runtime, protos, client))
    runtime.stop_threadpool_executor()
    from shared import container  # noqa: PLC0415 - known only once the app's directory is on the path

    await (await container.get()).close()


def _described(function: Any) -> dict[str, Any]:
    return {
        "bindings": [json.loads(raw) for raw in function.raw_bindings],
        "worker_indexed": function.properties["worker_indexed"],
    }


async def _until_listening(uri: str) -> None:
    host, _, port = uri.removeprefix("http://").partition(":")
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def _obey(order: dict[str, Any], function: Any, runtime: Any, protos: Any, client: Any) -> dict[str, Any]:
    invocation_id = str(uuid.uuid4())
    metadata: dict[str, tuple[str, Any]] = {}
    forwarded = None
    if "http" in order:
        data = protos.http_request(order["http"].get("params", {}))
        # The host proxies the request itself, and tells of it on the side: the two meet by the invocation's id.
        forwarded = asyncio.create_task(_forward(order["http"], invocation_id, client))
    elif "queue" in order:
        data = protos.TypedData(string=order["queue"])
        metadata = {"Id": ("string", "message-1"), "DequeueCount": ("json", "1"), "PopReceipt": ("string", "receipt")}
    else:
        data = protos.TypedData(json=json.dumps(order["timer"]))
    (trigger,) = [raw for raw in map(json.loads, function.raw_bindings) if raw["type"].endswith("Trigger")]
    message = protos.invocation(invocation_id, function.function_id, trigger["name"], data, metadata)
    ended = await runtime.invocation_request(message)
    answer: dict[str, Any] = {"status": ended.result.status, "http": await forwarded if forwarded else None}
    if ended.result.status != protos.StatusResult.Success:
        answer["error"] = ended.result.exception.message
    return answer


async def _forward(request: dict[str, Any], invocation_id: str, client: Any) -> dict[str, Any]:
    headers = {"x-ms-invocation-id": invocation_id, **request.get("headers", {})}
    leave_after = request.get("leave_after")
    body = b""
    async with client.request(request["method"], request["path"], data=request.get("body"), headers=headers) as answer:
        async for piece in answer.content.iter_any():
            body += piece
            if leave_after is not None and leave_after.encode() in body:
                answer.close()
                break
        named = {name.lower(): value for name, value in answer.headers.items()}
        return {"status": answer.status, "headers": named, "body": body.decode()}


if __name__ == "__main__":
    # uvicorn's access log and whatever else prints go to standard error: standard output is the conversation.
    with os.fdopen(os.dup(1), "w") as conversation:
        os.dup2(2, 1)
        asyncio.run(converse(sys.argv[1], conversation))
