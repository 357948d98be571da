"""The door without a socket: a request's ASGI messages go in, the response's come out, and memory is behind it."""

import asyncio
import json
from dataclasses import dataclass, field, fields, replace
from urllib.parse import urlsplit

from azurefunctions.extensions.http.fastapi import Request

from functions._edge import entry
from functions.http import PREFIX, ROUTES
from infra.local.hosting.routes import Route, RouteTable
from shared.config import Settings
from shared.container import Container
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.services.audit import AuditTrail
from shared.services.bookkeeping import Bookkeeper
from shared.services.limits import Limits
from shared.services.readiness import ReadinessService
from shared.services.reconciling import Reconciler
from shared.services.self_test import SelfTest
from shared.services.till import Till
from shared.stores.audit import MemoryAuditStore
from shared.stores.memory import ManualClock, MemoryJournal, MemoryRecordStore, MemorySpill, SequentialIds
from shared.stores.memory_budgets import MemoryBudgetLedger, MemoryBudgetStore
from shared.stores.memory_limits import MemoryLimitStore
from shared.telemetry import RecordingTelemetry
from tests.oversight_world import OversightWorld
from tests.principals import TENANT, principal_header
from tests.service.routing_doubles import ScriptedProvider, service
from tests.unit.routing_builders import deployment, model, policy, registry

ENVIRON = {
    "POSTGRES_DSN": "postgresql://nowhere/router",
    "REDIS_URL": "redis://nowhere",
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "VERTEX_PROJECT": "project",
    "VERTEX_CREDENTIALS": "adc",
    "ROUTER_TENANT_ID": TENANT,
    "ROUTER_MAX_BODY_BYTES": "2048",
}
SHELF = registry((model("a", quality=0.9), deployment("a")), aliases={"a-latest": "a"})
PROVED = principal_header()
CHAT = {"model": "a", "messages": [{"role": "user", "content": "hello"}]}
TABLE = RouteTable(Route(r.name, f"api/{PREFIX}/{r.path}", frozenset({r.method}), r) for r in ROUTES)


@dataclass
class Answer:
    """A response as it left, message by message."""

    messages: list = field(default_factory=list)

    @property
    def status(self):
        return self.messages[0]["status"]

    @property
    def headers(self):
        pairs = [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]
        assert len(dict(pairs)) == len(pairs), "a header was sent twice"
        return dict(pairs)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def events(self):
        """Server-sent events as (name or None, payload), without comments; `[DONE]` stays a string."""
        found = []
        for block in self.body.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if lines:
                data = lines["data"]
                found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
        return found


class Caller:
    """The other end of the connection.

    Args:
        chunks: the request's body, as it arrives.
        vanishes: the connection breaks before the body is complete.
        leaves_after: the caller is gone once it has this many messages of the answer.
        spec_version: of ASGI; servers before 2.4 tell of a caller who left by `receive`, later ones by a failing `send`.
    """

    def __init__(self, chunks=(b"",), *, vanishes=False, leaves_after=None, spec_version="2.4"):
        self.spec_version = spec_version
        self.answer = Answer()
        self.chunks_read = 0
        self._chunks = list(chunks)
        self._vanishes = vanishes
        self._leaves_after = leaves_after
        self._left = asyncio.Event()
        if leaves_after == 0:
            self._left.set()

    async def receive(self):
        if self._chunks:
            self.chunks_read += 1
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks) or self._vanishes}
        if not self._vanishes:
            await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self._left.is_set():
            if self.spec_version >= "2.4":
                raise BrokenPipeError
            return
        self.answer.messages.append(message)
        if self._leaves_after == len(self.answer.messages):
            self._left.set()


class Edge:
    """Everything behind the door, and ways to knock at it."""

    def __init__(self, provider=None, *, environ=(), probes=(), authenticator=None, rules=()):
        self.clock = ManualClock()
        self.telemetry = RecordingTelemetry()
        self.store, self.spill, self.journal = MemoryRecordStore(), MemorySpill(), MemoryJournal()
        self.trails = MemoryAuditStore()
        self.provider = provider or ScriptedProvider()
        routing, self.writer = service(
            self.provider,
            SHELF,
            policy(**dict(rules)),
            clock=self.clock,
            store=self.store,
            spill=self.spill,
            journal=self.journal,
            telemetry=self.telemetry,
        )
        self.counts, self.money = MemoryLimitStore(self.clock), MemoryBudgetStore(self.clock, gather_s=0)
        shelf = routing._shelf
        self.limits = Limits(self.counts, lambda: shelf.policy, self.clock, self.telemetry)
        self.books = self.writer._books = Bookkeeper(self.money, self.telemetry)
        reconciler = Reconciler(self.money, MemoryBudgetLedger(self.store), self.clock, self.telemetry)
        self.till = routing._till = Till(
            self.money, self.books, reconciler, lambda: shelf.policy, self.clock, self.telemetry
        )
        trail, ids = AuditTrail(self.trails, self.clock, self.telemetry, writer="w"), SequentialIds()
        self.oversight = OversightWorld(trail, self.trails, lambda: shelf.policy, self.clock, ids, self.telemetry)
        self.writer._events = self.oversight.services.events
        readiness = ReadinessService(probes, self.clock)
        known = {
            "settings": Settings.from_env({**ENVIRON, **dict(environ)}),
            "clock": self.clock,
            "ids": ids,
            "telemetry": self.telemetry,
            "authenticator": authenticator or EasyAuthAuthenticator(enabled=True, tenant_id=TENANT),
            "shelf": routing._shelf,
            "routing": routing,
            "records": self.writer,
            "readiness": readiness,
            "self_test": SelfTest(readiness, routing, self.clock, ids, self.telemetry),
            "maintenance": self.store,
            "limits": self.limits,
            "till": self.till,
            "reconciler": reconciler,
            "audit": trail,
            "oversight": self.oversight.services,
            "close": self.writer.aclose,
        }
        # What the routes of these tests do not touch is not there.
        self.container = Container(**{f.name: known.get(f.name) for f in fields(Container)})

    async def records(self):
        """The ledger's rows, once the background writer has written them."""
        self.writer.start()
        await self.writer.aclose()
        return list(self.store.by_id.values())

    async def get(self, path, headers=PROVED):
        return await self.send("GET", path, headers=headers)

    async def post(self, path, body, headers=PROVED, **more):
        """Sends a body, a JSON value or bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **headers}
        return await self.send("POST", path, Caller([raw], **more), headers=headers)

    async def send(self, method, path, caller=None, *, headers=()):
        match = TABLE.match(method, f"/api/{PREFIX}/{urlsplit(path).path}")
        assert match is not None, f"{method} {path} is no route"
        query = urlsplit(path).query
        return await self.knock(match.target, caller, headers=headers, path_params=match.path_params, query=query)

    async def knock(self, route, caller=None, *, headers=(), path_params=(), handler=None, query=""):
        """Calls a route's function, as the runtime does, and its response, as the server does."""
        caller = caller or Caller()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": caller.spec_version},
            "method": route.method,
            "path": f"/api/{PREFIX}/{route.path}",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in dict(headers).items()],
            "path_params": dict(path_params),
        }
        respond = entry(route if handler is None else replace(route, handler=handler))
        response = await respond(Request(scope, caller.receive))
        await response(scope, caller.receive, caller.send)
        return caller.answer
