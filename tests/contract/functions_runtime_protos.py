"""The messages of the Functions host's gRPC protocol, as far as the worker's runtime library touches them.

The library is given its messages as a module (`request.properties["protos"]`), so that it does not care which build of
protobuf is there; these stand-ins have the same names and fields
(https://github.com/Azure/azure-functions-language-worker-protobuf).
"""

from enum import IntEnum
from types import SimpleNamespace
from typing import Any


class Message(SimpleNamespace):
    """A message with the fields that its constructor was given."""


class OneOf(Message):
    """A message of which exactly one field is set."""

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 - protobuf's name
        return next(iter(vars(self)), None)


class TypedData(OneOf):
    pass


class ParameterBinding(Message):
    """`name` and `data`, the only kind of value that is used here."""

    def WhichOneof(self, group: str) -> str:  # noqa: N802 - protobuf's name
        return "data"


class Direction(IntEnum):
    IN = 0
    OUT = 1
    INOUT = 2


class BindingInfo(Message):
    undefined = 0
    inout = Direction.INOUT
    out = Direction.OUT


class StatusResult(Message):
    Failure = "failure"
    Success = "success"


class RpcHttpCookie(Message):
    pass


class WorkerInitResponse(Message):
    pass


class WorkerMetadata(Message):
    pass


class FunctionMetadataResponse(Message):
    pass


class FunctionLoadResponse(Message):
    pass


class InvocationResponse(Message):
    pass


class RpcException(Message):
    pass


class RpcFunctionMetadata(Message):
    pass


class RpcRetryOptions(Message):
    pass


class RpcHttp(Message):
    """An HTTP request as the invocation carries it: with HTTP v2 only the route's values count."""


def http_request(params: dict[str, str]) -> TypedData:
    body = TypedData(bytes=b"")
    return TypedData(http=RpcHttp(method="", url="", headers={}, body=body, params=params, query={}))


def invocation(invocation_id: str, function_id: str, name: str, data: TypedData, metadata: dict[str, Any]) -> Message:
    """An InvocationRequest in its StreamingMessage."""
    request = Message(
        invocation_id=invocation_id,
        function_id=function_id,
        input_data=[ParameterBinding(name=name, data=data)],
        trigger_metadata={key: TypedData(**{kind: value}) for key, (kind, value) in metadata.items()},
        trace_context=Message(trace_parent="", trace_state="", attributes={}),
        retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
    )
    return Message(request=Message(invocation_request=request))
