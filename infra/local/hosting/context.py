"""The invocation context that a function may take as its parameter `context`."""

import threading
from uuid import uuid4

from azure.functions import Context
from azure.functions._abc import RetryContext, TraceContext


class Trace(TraceContext):
    """The caller's W3C trace headers."""

    def __init__(self, trace_parent: str = "", trace_state: str = "") -> None:
        self._trace_parent = trace_parent
        self._trace_state = trace_state

    @property
    def trace_parent(self) -> str:
        """The header `traceparent`; empty without one."""
        return self._trace_parent

    @property
    def trace_state(self) -> str:
        """The header `tracestate`; empty without one."""
        return self._trace_state

    @property
    def attributes(self) -> dict[str, str]:
        """Always empty: this host starts no spans of its own."""
        return {}


class InvocationContext(Context):
    """One invocation of one function."""

    def __init__(self, function_name: str, function_directory: str, trace: TraceContext) -> None:
        self._invocation_id = str(uuid4())
        self._function_name = function_name
        self._function_directory = function_directory
        self._trace = trace

    @property
    def invocation_id(self) -> str:
        """A UUID, new for each invocation."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> type[threading.local]:
        """Where the Functions worker notes the invocation for its log handler; this host reads nothing from it."""
        return threading.local

    @property
    def function_name(self) -> str:
        """The name the function was registered under."""
        return self._function_name

    @property
    def function_directory(self) -> str:
        """The app's folder."""
        return self._function_directory

    @property
    def trace_context(self) -> TraceContext:
        """The caller's trace."""
        return self._trace

    @property
    def retry_context(self) -> RetryContext | None:  # type: ignore[override]  # the worker, too, gives None without a retry policy
        """None: retries happen here without telling the function."""
        return None
