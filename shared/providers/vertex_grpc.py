"""Vertex AI's PredictionService over gRPC: channels, deadlines, credentials, cancellation and errors.

Plain `grpc.aio` method callables on protobuf classes: half the CPU per call of the generated client, and a start that
does not import it (`vertex_protos`).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from shared.domain.errors import DependencyUnavailable, ProviderError, ProviderUnavailable
from shared.domain.models import Deployment
from shared.ports import Clock, ProviderCall
from shared.providers import errors, vertex_protos
from shared.providers.credentials import TokenSource
from shared.providers.idle_watch import IdleWatch
from shared.providers.json_struct import plain_value, set_value

VENDOR = "Vertex AI"
_SERVICE = "/google.cloud.aiplatform.v1.PredictionService/"
_MULTI_REGIONS = frozenset({"us", "eu"})
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_WARM_DEADLINE_S = 10.0
_PASSED_ON = ("traceparent", "tracestate")

_CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    # Channels with the same target share one connection otherwise, and a connection carries about 100 calls.
    ("grpc.use_local_subchannel_pool", 1),
    # Answers with inline media pass the default of 4 MiB; requests have no limit here, Vertex has its own.
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # Azure forgets outbound flows that were silent for 4 minutes: leave before that, and find dead ones under load.
    ("grpc.client_idle_timeout_ms", 180_000),
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class _Pool:
    """The channels to one host; a call takes the one with the fewest calls in flight."""

    __slots__ = ("channels",)

    def __init__(self, target: str, size: int, *, secure: bool) -> None:
        self.channels = [_Channel(_open(target, index, secure=secure)) for index in range(size)]

    def pick(self) -> "_Channel":
        return min(self.channels, key=_in_flight)


class _Channel:
    """A channel with its method callables and the number of calls in flight on it."""

    __slots__ = ("channel", "generate", "in_flight", "predict", "raw", "stream_generate", "stream_raw")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        m = vertex_protos.messages()
        self.channel = channel
        self.in_flight = 0
        generated = m.GenerateContentResponse.FromString
        self.generate = _unary(channel, "GenerateContent", m.GenerateContentRequest, generated)
        self.stream_generate = _streaming(channel, "StreamGenerateContent", m.GenerateContentRequest, generated)
        self.raw = _unary(channel, "RawPredict", m.RawPredictRequest, _body)
        self.stream_raw = _streaming(channel, "StreamRawPredict", m.StreamRawPredictRequest, _body)
        self.predict = _unary(channel, "Predict", m.PredictRequest, m.PredictResponse.FromString)


class VertexGrpc:
    """Calls to Vertex AI models and endpoints.

    Every call has a timeout (what is left until `ProviderCall.deadline_s`), a bearer token and a routing header. When
    the awaiting task is cancelled, or a stream's iterator closed, the remote call is cancelled with it. Errors are
    `ProviderError`s; gRPC's own never leave this class.

    Args:
        project: Google Cloud project for deployments that name none.
        tokens: bearer tokens; closed with this transport.
        endpoint_override: ``host:port`` that takes all calls in plaintext, or None for Google's regional hosts.
        clock: time; its monotonic scale is that of `ProviderCall.deadline_s`.
        channels_per_host: connections per host; one carries about 100 calls at once.
    """

    def __init__(
        self,
        *,
        project: str,
        tokens: TokenSource,
        endpoint_override: str | None,
        clock: Clock,
        channels_per_host: int = 4,
    ) -> None:
        self._project = project
        self._tokens = tokens
        self._override = endpoint_override
        self._clock = clock
        self._channels_per_host = channels_per_host
        self._pools: dict[str, _Pool] = {}

    # --- names ---

    def publisher_model(self, deployment: Deployment, publisher: str) -> str:
        """Resource name of a publisher's model (``projects/.../publishers/{publisher}/models/{target}``)."""
        return f"{self._location(deployment)}/publishers/{publisher}/models/{deployment.target}"

    def endpoint(self, deployment: Deployment) -> str:
        """Resource name of a deployed endpoint (``projects/.../endpoints/{target}``)."""
        return f"{self._location(deployment)}/endpoints/{deployment.target}"

    def host_of(self, deployment: Deployment) -> str:
        """``host:port`` that serves a deployment; what `warm` takes."""
        if self._override is not None:
            return self._override
        if deployment.dedicated_host is not None:
            return f"{deployment.dedicated_host}:443"
        if deployment.region == "global":
            return "aiplatform.googleapis.com:443"
        if deployment.region in _MULTI_REGIONS:
            return f"aiplatform.{deployment.region}.rep.googleapis.com:443"
        return f"{deployment.region}-aiplatform.googleapis.com:443"

    # --- calls ---

    async def generate_content(self, request: Any, call: ProviderCall) -> Any:
        """GenerateContent: protobuf request -> protobuf response.

        Raises:
            ProviderError: as `errors.from_grpc` maps it.
        """
        channel = self._channel(call)
        return await self._once(channel, channel.generate, request, call, f"model={_routed(request.model)}")

    def stream_generate_content(self, request: Any, call: ProviderCall) -> AsyncGenerator[Any, None]:
        """StreamGenerateContent: protobuf responses as they come.

        Raises:
            ProviderError: before or between responses.
        """
        channel = self._channel(call)
        return self._pieces(channel, channel.stream_generate, request, call, f"model={_routed(request.model)}")

    async def raw_predict(self, call: ProviderCall, resource: str, body: bytes) -> bytes:
        """RawPredict: a JSON body to a publisher model or an endpoint -> the model server's own body.

        Raises:
            ProviderError: as `errors.from_grpc` maps it.
        """
        m = vertex_protos.messages()
        request = m.RawPredictRequest(
            endpoint=resource, http_body=m.HttpBody(content_type="application/json", data=body)
        )
        channel = self._channel(call)
        answer: bytes = await self._once(channel, channel.raw, request, call, f"endpoint={_routed(resource)}")
        return answer

    def stream_raw_predict(self, call: ProviderCall, resource: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """StreamRawPredict: pieces of the model server's body; their boundaries mean nothing.

        Raises:
            ProviderError: before or between pieces.
        """
        m = vertex_protos.messages()
        request = m.StreamRawPredictRequest(
            endpoint=resource, http_body=m.HttpBody(content_type="application/json", data=body)
        )
        channel = self._channel(call)
        return self._pieces(channel, channel.stream_raw, request, call, f"endpoint={_routed(resource)}")

    async def predict(
        self, call: ProviderCall, resource: str, instances: Sequence[Any], parameters: Mapping[str, Any] | None
    ) -> Any:
        """Predict: JSON instances -> the list of predictions as plain JSON values.

        Protobuf carries numbers as doubles; whole ones come back as ints.

        Raises:
            ProviderError: as `errors.from_grpc` maps it.
        """
        predictions = await self.predict_values(call, resource, instances, parameters)
        return [plain_value(prediction) for prediction in predictions]

    async def predict_values(
        self, call: ProviderCall, resource: str, instances: Sequence[Any], parameters: Mapping[str, Any] | None
    ) -> Sequence[Any]:
        """Predict, with the predictions as protobuf Values: for those too long to take apart number by number.

        Raises:
            ProviderError: as `errors.from_grpc` maps it.
        """
        request = vertex_protos.messages().PredictRequest(endpoint=resource)
        for instance in instances:
            set_value(request.instances.add(), instance)
        if parameters is not None:
            set_value(request.parameters, parameters)
        channel = self._channel(call)
        answer = await self._once(channel, channel.predict, request, call, f"endpoint={_routed(resource)}")
        predictions: Sequence[Any] = answer.predictions
        return predictions

    # --- life ---

    async def warm(self, hosts: Iterable[str] = ()) -> None:
        """Import the messages, start connecting to hosts and fetch a token; failures are left to the first call.

        Args:
            hosts: as `host_of` gives them.
        """
        await asyncio.to_thread(vertex_protos.messages)
        for host in hosts:
            for channel in self._pool(host).channels:
                channel.channel.get_state(try_to_connect=True)
        with suppress(ProviderError, DependencyUnavailable, TimeoutError):
            async with asyncio.timeout(_WARM_DEADLINE_S):
                await self._tokens.token()

    async def aclose(self) -> None:
        """Close the channels, ending the calls on them, and the token source."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            for channel in pool.channels:
                await channel.channel.close()
        await self._tokens.aclose()

    # --- pieces ---

    def _location(self, deployment: Deployment) -> str:
        return f"projects/{deployment.project or self._project}/locations/{deployment.region}"

    def _pool(self, host: str) -> _Pool:
        pool = self._pools.get(host)
        if pool is None:
            pool = self._pools[host] = _Pool(host, self._channels_per_host, secure=self._override is None)
        return pool

    def _channel(self, call: ProviderCall) -> _Channel:
        return self._pool(self.host_of(call.deployment)).pick()

    def _remaining_s(self, call: ProviderCall) -> float:
        remaining = call.deadline_s - self._clock.monotonic()
        if remaining <= 0:
            raise errors.no_answer_in_time(VENDOR, "deadline")
        return remaining

    async def _metadata(self, call: ProviderCall, routing: str) -> tuple[tuple[str, str], ...]:
        entries = [("x-goog-request-params", routing), ("x-request-id", call.request_id)]
        try:
            async with asyncio.timeout(self._remaining_s(call)):
                token = await self._tokens.token()
        except DependencyUnavailable:
            raise ProviderUnavailable(
                f"{VENDOR} could not be called without a token", code="credentials_unavailable", vendor_status="token"
            ) from None
        except TimeoutError:
            raise errors.no_answer_in_time(VENDOR, "deadline") from None
        if token is not None:
            entries.append(("authorization", f"Bearer {token}"))
        if call.deployment.dedicated_host is not None:
            entries.append(("x-vertex-ai-endpoint-id", call.deployment.target))
        entries.extend((name, call.headers[name]) for name in _PASSED_ON if name in call.headers)
        return tuple(entries)

    async def _once(self, channel: _Channel, method: Any, request: Any, call: ProviderCall, routing: str) -> Any:
        channel.in_flight += 1
        try:
            metadata = await self._metadata(call, routing)
            return await method(request, timeout=self._remaining_s(call), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise errors.from_grpc(error, vendor=VENDOR) from None
        except asyncio.CancelledError:
            _reraise_if_ours()
            raise errors.connection_failed(VENDOR, "closed") from None
        finally:
            channel.in_flight -= 1

    async def _pieces(
        self, channel: _Channel, method: Any, request: Any, call: ProviderCall, routing: str
    ) -> AsyncGenerator[Any, None]:
        channel.in_flight += 1
        rpc, watch = None, None
        try:
            metadata = await self._metadata(call, routing)
            rpc = method(request, timeout=self._remaining_s(call), metadata=metadata)
            watch = IdleWatch(rpc.cancel, call.idle_timeout_s)
            while True:
                watch.waiting()
                piece = await rpc.read()
                watch.arrived()
                if piece is grpc.aio.EOF:
                    return
                yield piece
        except grpc.aio.AioRpcError as error:
            raise errors.from_grpc(error, vendor=VENDOR) from None
        except asyncio.CancelledError:
            _reraise_if_ours()
            if watch is not None and watch.expired:
                raise errors.no_answer_in_time(VENDOR, "idle") from None
            raise errors.connection_failed(VENDOR, "closed") from None
        finally:
            channel.in_flight -= 1
            if watch is not None:
                watch.stop()
            if rpc is not None:
                rpc.cancel()  # nothing, once it is done


def _reraise_if_ours() -> None:
    """Tell our caller going away from a call that ended as cancelled by itself (a closed channel, the idle watch)."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise asyncio.CancelledError


def _routed(resource: str) -> str:
    return quote(resource, safe="/")


def _in_flight(channel: _Channel) -> int:
    return channel.in_flight


def _body(serialised: bytes) -> bytes:
    data: bytes = vertex_protos.messages().HttpBody.FromString(serialised).data
    return data


def _open(target: str, index: int, *, secure: bool) -> grpc.aio.Channel:
    options = (*_CHANNEL_OPTIONS, ("llm_router.channel_index", index))
    if secure:
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
    return grpc.aio.insecure_channel(target, options=options)


def _unary(channel: grpc.aio.Channel, name: str, request: Any, read: Any) -> Any:
    return channel.unary_unary(
        _SERVICE + name, request_serializer=request.SerializeToString, response_deserializer=read
    )


def _streaming(channel: grpc.aio.Channel, name: str, request: Any, read: Any) -> Any:
    return channel.unary_stream(
        _SERVICE + name, request_serializer=request.SerializeToString, response_deserializer=read
    )
