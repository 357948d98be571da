"""PredictionService and LlmUtilityService of google.cloud.aiplatform.v1, over gRPC."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import any_pb2, duration_pb2, json_format
from google.rpc import error_details_pb2, status_pb2

from infra.local.simulator import protos, raw
from infra.local.simulator.calls import Call
from infra.local.simulator.engine import Cut, Engine, Target, Wire
from infra.local.simulator.faults import HEADER
from infra.local.simulator.problems import Problem
from infra.local.simulator.wires import counting, embeddings, gemini

_MARK = ("x-simulator", "1")
_JSON = "application/json"
_PREDICTION, _UTILITY = "google.cloud.aiplatform.v1.PredictionService", "google.cloud.aiplatform.v1.LlmUtilityService"
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 100),  # as Google's front ends
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}

Context = Any
"""grpc.aio.ServicerContext, whose library ships no types."""


async def serve(engine: Engine, host: str, port: int) -> tuple[Any, int]:
    """Start the gRPC server.

    Returns:
        The server, and the port that it listens on.

    Raises:
        RuntimeError: the port is taken.
    """
    server = grpc.aio.server(options=_OPTIONS)
    service = _Service(engine)
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    prediction = {
        "GenerateContent": _method(
            one, service.generate, protos.GenerateContentRequest, protos.GenerateContentResponse
        ),
        "StreamGenerateContent": _method(
            many, service.stream_generate, protos.GenerateContentRequest, protos.GenerateContentResponse
        ),
        "RawPredict": _method(one, service.raw_predict, protos.RawPredictRequest, HttpBody),
        "StreamRawPredict": _method(many, service.stream_raw_predict, protos.StreamRawPredictRequest, HttpBody),
        "Predict": _method(one, service.predict, protos.PredictRequest, protos.PredictResponse),
        "EmbedContent": _method(one, service.embed, protos.EmbedContentRequest, protos.EmbedContentResponse),
    }
    utility = {"CountTokens": _method(one, service.count, protos.CountTokensRequest, protos.CountTokensResponse)}
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(_PREDICTION, prediction),
        grpc.method_handlers_generic_handler(_UTILITY, utility),
    ))  # fmt: skip
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server, bound


def _method(handler: Callable[..., Any], function: Any, request: Any, response: Any) -> Any:
    return handler(function, request_deserializer=request.FromString, response_serializer=response.SerializeToString)


class _Service:
    """The methods. Each reads its target, records the call, and answers or aborts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def generate(self, request: Any, context: Context) -> Any:
        """GenerateContent."""

        async def work(call: Call, target: Target) -> Any:
            profile = self._generator(target)
            plan, inquiry = self._engine.prepare(call, gemini.WIRE, profile, request)
            await self._engine.wait(call, plan.duration_s)
            return self._engine.plain(call, gemini.WIRE, plan, inquiry)

        return await self._answer("GenerateContent", request.model, request, context, work)

    async def stream_generate(self, request: Any, context: Context) -> None:
        """StreamGenerateContent."""

        async def work(call: Call, target: Target) -> None:
            profile = self._generator(target)
            plan, inquiry = self._engine.prepare(call, gemini.WIRE, profile, request)
            async for message in self._engine.frames(call, gemini.WIRE, plan, inquiry):
                await context.write(message)

        await self._answer("StreamGenerateContent", request.model, request, context, work, stream=True)

    async def raw_predict(self, request: Any, context: Context) -> Any:
        """RawPredict: bodies of Claude, Mistral and deployed endpoints."""

        async def work(call: Call, target: Target) -> Any:
            body = raw.parse_json(request.http_body.data)
            if target.publisher == "anthropic" and target.model == raw.COUNT_TOKENS:
                return HttpBody(content_type=_JSON, data=counting.count_messages(self._engine, call, target, body))
            wire, profile = raw.resolve(self._engine, target, body)
            with _worded(wire):
                plan, inquiry = self._engine.prepare(call, wire, profile, body)
            if inquiry.stream:
                # A body that asks for a stream gets it whole: rawPredict has one message only.
                pieces = [piece async for piece in self._engine.frames(call, wire, plan, inquiry)]
                return HttpBody(content_type=wire.stream_type, data=b"".join(pieces))
            await self._engine.wait(call, plan.duration_s)
            return HttpBody(content_type=_JSON, data=self._engine.plain(call, wire, plan, inquiry))

        return await self._answer("RawPredict", request.endpoint, request, context, work)

    async def stream_raw_predict(self, request: Any, context: Context) -> None:
        """StreamRawPredict: events in HttpBody messages; a body that asks for no stream gets one message."""

        async def work(call: Call, target: Target) -> None:
            body = raw.parse_json(request.http_body.data)
            wire, profile = raw.resolve(self._engine, target, body)
            with _worded(wire):
                plan, inquiry = self._engine.prepare(call, wire, profile, body)
            if not inquiry.stream:
                await self._engine.wait(call, plan.duration_s)
                await context.write(HttpBody(content_type=_JSON, data=self._engine.plain(call, wire, plan, inquiry)))
                return
            kind: str = wire.stream_type
            async for piece in self._engine.frames(call, wire, plan, inquiry):
                # Only the first message says what the bytes are (google/api/httpbody.proto).
                await context.write(HttpBody(content_type=kind, data=piece))
                kind = ""

        await self._answer("StreamRawPredict", request.endpoint, request, context, work, stream=True)

    async def predict(self, request: Any, context: Context) -> Any:
        """Predict: text embeddings, and endpoints that take instances."""

        async def work(call: Call, target: Target) -> Any:
            instances = [json_format.MessageToDict(instance) for instance in request.instances]
            parameters = json_format.MessageToDict(request.parameters) if request.HasField("parameters") else None
            response = protos.PredictResponse(deployed_model_id="simulated", model_display_name="simulated")
            if not target.endpoint:
                profile = self._embedder(target)
                texts = embeddings.read_predict(instances, parameters, profile)
                self._engine.refuse(call)
                embedded = await asyncio.to_thread(embeddings.compute, texts, profile, self._engine.vectors)
                embeddings.add_predictions(response, embedded)
                response.model_display_name = f"simulated: {self._engine.vectors.name}"
                await self._engine.wait(call, profile.ttft_p50_ms / 1000)
                return response
            predictions = await predict_on_endpoint(self._engine, call, target, instances, parameters)
            for value in predictions if isinstance(predictions, list) else [predictions]:
                json_format.ParseDict(value, response.predictions.add())
            return response

        return await self._answer("Predict", request.endpoint, request, context, work)

    async def embed(self, request: Any, context: Context) -> Any:
        """EmbedContent."""

        async def work(call: Call, target: Target) -> Any:
            profile = self._embedder(target)
            texts = embeddings.read_content(request, profile)
            self._engine.refuse(call)
            (embedded,) = await asyncio.to_thread(embeddings.compute, texts, profile, self._engine.vectors)
            await self._engine.wait(call, profile.ttft_p50_ms / 1000)
            response = protos.EmbedContentResponse(truncated=embedded.truncated)
            response.embedding.values.extend(embedded.vector.tolist())
            response.usage_metadata.prompt_token_count = embedded.tokens
            response.usage_metadata.total_token_count = embedded.tokens
            return response

        return await self._answer("EmbedContent", request.model, request, context, work)

    async def count(self, request: Any, context: Context) -> Any:
        """LlmUtilityService.CountTokens."""

        async def work(call: Call, target: Target) -> Any:
            profile = self._engine.model(target)
            self._engine.refuse(call)
            return counting.count_contents(request, profile)

        return await self._answer("CountTokens", request.endpoint, request, context, work)

    async def _answer(
        self,
        method: str,
        name: str,
        request: Any,
        context: Context,
        work: Callable[[Call, Target], Awaitable[Any]],
        *,
        stream: bool = False,
    ) -> Any:
        metadata = dict(context.invocation_metadata() or ())
        context.set_trailing_metadata((_MARK,))
        try:
            target = Target.parse(name)
            with self._engine.call(
                method,
                target,
                stream=stream,
                request_bytes=request.ByteSize(),
                fault_header=metadata.get(HEADER),
                traceparent=metadata.get("traceparent"),
            ) as call:
                return await work(call, target)
        except Problem as problem:
            await _abort(context, problem)
        except Cut:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Connection reset by peer", (_MARK,))

    def _generator(self, target: Target) -> Any:
        profile = self._engine.model(target)
        if profile.dialect != "gemini":
            raise Problem(400, f"{profile.id} is not supported in the generateContent API.", platform=True)
        return profile

    def _embedder(self, target: Target) -> Any:
        profile = self._engine.model(target)
        if profile.dialect != "embedding":
            raise Problem(400, f"{profile.id} is not supported in the predict API.", platform=True)
        return profile


async def predict_on_endpoint(engine: Engine, call: Call, target: Target, instances: list[Any], parameters: Any) -> Any:
    """The predictions of an endpoint for instances: a list, or the one object of a chat instance.

    Raises:
        Problem: as the container words it.
        Cut: the connection must break now.
    """
    body: dict[str, Any] = {"instances": instances}
    if parameters is not None:
        body["parameters"] = parameters
    chat = raw.chat_instance(body)
    wire, profile = raw.resolve(engine, target, body)
    with _worded(wire):
        plan, inquiry = engine.prepare(call, wire, profile, body if chat is None else chat)
    await engine.wait(call, plan.duration_s)
    if call.fault is not None and call.fault.name == "malformed_json":
        return [{"malformed": True}]
    answer = orjson.loads(engine.plain(call, wire, plan, inquiry))
    return answer if chat is not None else answer["predictions"]


class _worded:  # noqa: N801 - reads as the statement it is
    """Within it, problems of the model's server are worded in its own form, as gRPC carries them: in the message."""

    def __init__(self, wire: Wire[bytes]) -> None:
        self._wire = wire

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Problem) and not error.platform:
            error.message = self._wire.problem(error).decode()


async def _abort(context: Context, problem: Problem) -> None:
    code = _CODES[_NUMBERS.get(problem.code, grpc.StatusCode.UNKNOWN.value[0])]
    trailing: tuple[tuple[str, str | bytes], ...] = (_MARK,)
    if problem.retry_after_s is not None:
        status = status_pb2.Status(code=code.value[0], message=problem.message)
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(problem.retry_after_s * 1e9))
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status.details.append(packed)
        trailing = (_MARK, ("grpc-status-details-bin", status.SerializeToString()))
    await context.abort(code, problem.message, trailing)
