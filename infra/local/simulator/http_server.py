"""The HTTP surface: OpenAI-style MaaS, dedicated endpoints, the REST forms of publisher models, and the control API.

Built on aiohttp's low-level server, without routing table and middlewares: the simulator must never be what a benchmark
measures.
"""

import asyncio
from typing import Any, NamedTuple
from urllib.parse import unquote

from aiohttp import web
from google.protobuf import json_format

from infra.local.simulator import raw
from infra.local.simulator.calls import Call
from infra.local.simulator.control import PREFIX, Control
from infra.local.simulator.engine import Cut, Engine, Target, Wire
from infra.local.simulator.faults import HEADER
from infra.local.simulator.grpc_server import predict_on_endpoint
from infra.local.simulator.problems import Problem
from infra.local.simulator.profiles import Profile
from infra.local.simulator.protos import CountTokensRequest
from infra.local.simulator.wires import counting, embeddings, gemini, openai, ranking

_JSON = "application/json; charset=utf-8"
_MAX_BODY_BYTES = 64 * 1024 * 1024
_VERSIONS = frozenset({"v1", "v1beta1"})
_RANKING = "rankingConfigs"
_USUAL_RANKER = "semantic-ranker-default-004"
_STREAM_VERBS = frozenset({"streamGenerateContent", "streamRawPredict"})


class Route(NamedTuple):
    """Where a path leads: a target and what is to be done there."""

    target: Target
    verb: str


def parse_route(path: str) -> Route | None:
    """Read a path below /v1/projects/, or None when there is nothing at it."""
    steps = unquote(path).strip("/").split("/")
    if len(steps) < 7 or steps[0] not in _VERSIONS or steps[1] != "projects" or steps[3] != "locations":  # noqa: PLR2004
        return None
    project, region = steps[2], steps[4]
    if steps[5] == "endpoints":
        endpoint, _, verb = steps[6].partition(":")
        rest = "/".join(steps[7:])
        if endpoint == "openapi":
            return Route(Target(project, region), f"openapi/{rest}")
        return Route(Target(project, region, endpoint=endpoint), verb or rest)
    if steps[5] == "rankingConfigs" and len(steps) == 7:  # noqa: PLR2004
        return Route(Target(project, region, "google"), f"rankingConfigs:{steps[6].partition(':')[2]}")
    if steps[5] == "publishers" and len(steps) == 9 and steps[7] == "models":  # noqa: PLR2004
        model, _, verb = steps[8].partition(":")
        return Route(Target(project, region, steps[6], model), verb)
    return None


async def serve(engine: Engine, host: str, port: int) -> tuple[web.ServerRunner, int]:
    """Start the HTTP server.

    Returns:
        The runner, whose `cleanup` stops it, and the port that it listens on.

    Raises:
        OSError: the port is taken.
    """
    handler = _Handler(engine)
    loop = asyncio.get_running_loop()

    def request_of(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_BYTES)

    server = web.Server(
        handler.handle, request_factory=request_of, handler_cancellation=True, access_log=None, keepalive_timeout=75
    )
    runner = web.ServerRunner(server, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024)
    await site.start()
    return runner, runner.addresses[0][1]


class _Handler:
    """Answers one request after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._control = Control(engine)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        path, _, query = request.raw_path.partition("?")
        body = await request.read()
        if path.startswith(PREFIX):
            status, document = self._control.answer(request.method, path, query, body)
            return _response(raw.dump_json(document), status)
        route = parse_route(path)
        if route is None or request.method != "POST":
            return _response(Problem(404, "The requested URL was not found on this server.").google_body(), 404)
        errors = _Errors()
        try:
            return await self._call(request, route, query, body, errors)
        except Problem as problem:
            return _response(errors.wire.problem(problem) if errors.wire else problem.google_body(), problem.status,
                             problem.http_headers())  # fmt: skip
        except Cut:
            transport = request.transport
            if transport is not None:
                # close() after a stream began lets what was sent arrive; before it, abort() resets the connection.
                (transport.close if errors.began else transport.abort)()
            return web.Response()  # never sent: the transport is gone, which aiohttp takes for a client that left
        except ConnectionError:
            return web.Response()  # the client left while the stream was written; its call says so already

    async def _call(
        self, request: web.BaseRequest, route: Route, query: str, body: bytes, errors: "_Errors"
    ) -> web.StreamResponse:
        target, verb = route
        chat = verb.endswith("chat/completions")
        document = raw.parse_json(body)
        names_model = verb.startswith(("openapi/", _RANKING)) and isinstance(document, dict)
        model = str(document.get("model", "")) if names_model else ""
        stream = verb in _STREAM_VERBS or (chat and isinstance(document, dict) and document.get("stream") is True)
        with self._engine.call(
            verb,
            target,
            model=model,
            stream=stream,
            request_bytes=len(body),
            fault_header=request.headers.get(HEADER),
            traceparent=request.headers.get("traceparent"),
        ) as call:
            if verb == "openapi/chat/completions":
                errors.wire = openai.MAAS
                return await self._exchange(request, call, openai.MAAS, self._maas(target, model), document, errors)
            if verb == "chat/completions":
                errors.wire = openai.SERVER
                profile = self._endpoint_profile(target)
                return await self._exchange(request, call, openai.SERVER, profile, document, errors)
            if verb in {"generateContent", "streamGenerateContent"}:
                wire = gemini.REST_SSE if "alt=sse" in query else gemini.REST_ARRAY
                return await self._exchange(request, call, wire, self._gemini(target), document, errors, stream=stream)
            if verb in {"rawPredict", "streamRawPredict"}:
                return await self._raw(request, call, target, document, errors)
            return _response(await self._other(call, target, verb, document))

    async def _raw(
        self, request: web.BaseRequest, call: Call, target: Target, document: Any, errors: "_Errors"
    ) -> web.StreamResponse:
        if target.publisher == "anthropic" and target.model == raw.COUNT_TOKENS:
            return _response(counting.count_messages(self._engine, call, target, document))
        wire, profile = raw.resolve(self._engine, target, document)
        errors.wire = wire
        return await self._exchange(request, call, wire, profile, document, errors)

    async def _exchange(
        self,
        request: web.BaseRequest,
        call: Call,
        wire: Wire[bytes],
        profile: Profile,
        document: Any,
        errors: "_Errors",
        *,
        stream: bool | None = None,
    ) -> web.StreamResponse:
        plan, inquiry = self._engine.prepare(call, wire, profile, document)
        if not (inquiry.stream if stream is None else stream):
            await self._engine.wait(call, plan.duration_s)
            return _response(self._engine.plain(call, wire, plan, inquiry))
        response = web.StreamResponse(
            headers={"Content-Type": wire.stream_type, "Cache-Control": "no-cache", "x-simulator": "1"}
        )
        async for piece in self._engine.frames(call, wire, plan, inquiry):
            if not errors.began:
                errors.began = True
                await response.prepare(request)
            await response.write(piece)
        await response.write_eof()
        return response

    async def _other(self, call: Call, target: Target, verb: str, document: Any) -> bytes:
        if verb == "countTokens":
            counted = counting.count_contents(_parsed(document, CountTokensRequest()), self._engine.model(target))
            self._engine.refuse(call)
            return gemini.to_json(counted)
        if verb == "predict":
            return await self._predict(call, target, document)
        if verb == "openapi/embeddings":
            profile = self._embedder(self._maas(target, call.model))
            texts = embeddings.read_openai(document, profile)
            self._engine.refuse(call)
            embedded = await asyncio.to_thread(embeddings.compute, texts, profile, self._engine.vectors)
            await self._engine.wait(call, profile.ttft_p50_ms / 1000)
            return embeddings.openai_body(
                embedded, f"{profile.id}-simulated", str(document.get("encoding_format", "float"))
            )
        if verb == f"{_RANKING}:rank":
            return await self._rank(call, target, document)
        raise Problem(404, "The requested URL was not found on this server.", platform=True)

    async def _rank(self, call: Call, target: Target, document: Any) -> bytes:
        profile = self._engine.model(target, "google", call.model or _USUAL_RANKER)
        if profile.dialect != "ranking":
            raise Problem(400, f"{profile.id} is not a ranking model.", platform=True)
        asked = ranking.read(document)
        self._engine.refuse(call)
        ranked = await asyncio.to_thread(ranking.compute, asked, profile, self._engine.vectors)
        await self._engine.wait(call, profile.ttft_p50_ms / 1000)
        return raw.dump_json(ranked)

    async def _predict(self, call: Call, target: Target, document: Any) -> bytes:
        instances = document.get("instances") if isinstance(document, dict) else None
        if not isinstance(instances, list):
            raise Problem(400, "instances: a list is required.", platform=True)
        parameters = document.get("parameters")
        predictions: Any
        name = "simulated"
        if target.endpoint:
            predictions = await predict_on_endpoint(self._engine, call, target, instances, parameters)
        else:
            profile = self._embedder(self._engine.model(target))
            texts = embeddings.read_predict(instances, parameters, profile)
            self._engine.refuse(call)
            embedded = await asyncio.to_thread(embeddings.compute, texts, profile, self._engine.vectors)
            predictions, name = embeddings.predictions(embedded), f"simulated: {self._engine.vectors.name}"
            await self._engine.wait(call, profile.ttft_p50_ms / 1000)
        return raw.dump_json({"predictions": predictions, "deployedModelId": "simulated", "modelDisplayName": name})

    def _maas(self, target: Target, model: str) -> Profile:
        publisher, _, name = model.partition("/")
        if not name:
            raise Problem(400, "Malformed publisher model: expected `publisher/model`.", platform=True)
        return self._engine.model(target, publisher, model if self._engine.profiles.model(publisher, model) else name)

    def _gemini(self, target: Target) -> Profile:
        profile = self._engine.model(target)
        if profile.dialect != "gemini":
            raise Problem(400, f"{profile.id} is not supported in the generateContent API.", platform=True)
        return profile

    def _embedder(self, profile: Profile) -> Profile:
        if profile.dialect != "embedding":
            raise Problem(400, f"{profile.id} is not an embedding model.", platform=True)
        return profile

    def _endpoint_profile(self, target: Target) -> Profile:
        listed = self._engine.profiles.endpoint(target.endpoint)
        if listed is None:
            return self._engine.profiles.fallback_profile(target.endpoint)
        if listed.format not in {"openai", "vllm"}:
            raise Problem(
                404, f"The container of endpoint {target.endpoint} has no chat/completions route.", platform=True
            )
        return listed.profile


class _Errors:
    """What the error path must know of the call: its wire form, and whether bytes were sent already."""

    __slots__ = ("began", "wire")

    def __init__(self) -> None:
        self.wire: Wire[bytes] | None = None
        self.began = False


def _response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=body, status=status, headers={"Content-Type": _JSON, "x-simulator": "1", **(headers or {})}
    )


def _parsed(document: Any, message: Any) -> Any:
    try:
        return json_format.ParseDict(document, message)
    except json_format.ParseError as error:
        raise Problem(400, f"Invalid JSON payload received. {error}", platform=True) from error
