"""A worker that is killed at a chosen await of one request: ``python -m tests.e2e.mortal_worker``, told what to do by lines.

Each line is a JSON object: ``path``, ``body``, ``request_id`` and ``kill_at`` (0: live). The application is imported once;
a fork serves each request, and dies by SIGKILL when the request's task has been resumed for the `kill_at`-th time. The answer
is a line with ``killed``, or with the ``steps`` that the request took and the ``status`` of its response.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace

from azurefunctions.extensions.http.fastapi import Request

import function_app  # noqa: F401 - what is forked has it all
from functions._edge import entry
from functions.http import PREFIX, ROUTES
from shared import container as containers

BY_PATH = {route.path: route for route in ROUTES}
SETTLE_S = 0.3
"""Longer than the writer lingers: what a living worker owes the ledger is written before it ends."""


class Mortal(Coroutine):
    """A coroutine whose resumptions are counted, and whose process ends with one of them."""

    def __init__(self, inner, kill_at):
        self.inner, self.kill_at, self.steps = inner, kill_at, 0

    def send(self, value):
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.send(value)

    def throw(self, *error):
        return self.inner.throw(*error)

    def close(self):
        return self.inner.close()

    def __await__(self):
        return self.inner.__await__()


class FixedIds:
    def __init__(self, request_id):
        self._request_id = request_id

    def request_id(self):
        return self._request_id


async def knock(order):
    """Send the request as the runtime does; what is streamed is read to its end."""
    body, sent = json.dumps(order["body"]).encode(), []
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if pending:
            return pending.pop()
        return await asyncio.Future()  # the caller stays

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "POST",
        "path": f"/api/{PREFIX}/{order['path']}",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            *((k.encode(), v.encode()) for k, v in order["headers"].items()),
        ],
        "path_params": {},
    }
    response = await entry(BY_PATH[order["path"]])(Request(scope, receive))
    await response(scope, receive, send)
    return sent[0]["status"]


async def serve(order):
    container = replace(await containers.get(), ids=FixedIds(order["request_id"]))
    containers.override(container)
    mortal = Mortal(knock(order), order["kill_at"])
    status = await asyncio.create_task(mortal)
    await asyncio.sleep(SETTLE_S)
    await container.close()
    return {"steps": mortal.steps, "status": status}


def answer(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main():
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            outcome = asyncio.run(serve(json.loads(line)))
            os.write(writing, json.dumps(outcome).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            text = told.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            answer(json.dumps({"killed": True}))
        else:
            answer(text.decode() or json.dumps({"failed": status}))


if __name__ == "__main__":
    main()
