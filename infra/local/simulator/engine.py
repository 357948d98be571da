"""The simulator behind both servers: finds the model, plans the answer, injects the fault and keeps the pace."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from infra.local.simulator import faults
from infra.local.simulator.ask import Ask
from infra.local.simulator.calls import Call, CallLog
from infra.local.simulator.embedding import HashedVectors, Vectors
from infra.local.simulator.plan import Plan, PromptTokens, make_plan, measure
from infra.local.simulator.problems import Problem, unknown_model
from infra.local.simulator.profiles import Profile, Profiles
from infra.local.simulator.prompt_cache import PromptCache

Payload = TypeVar("Payload")


class Cut(Exception):
    """The connection or stream must be broken here, as a network would."""


class Frame(NamedTuple, Generic[Payload]):
    """One message of a stream; `tokens` is 0 for frames that carry no content (openings, usage, ends)."""

    payload: Payload
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource name points at: a publisher model or an endpoint."""

    project: str
    region: str
    publisher: str = ""
    model: str = ""
    endpoint: str = ""

    @classmethod
    def parse(cls, name: str) -> "Target":
        """Read ``projects/P/locations/L/publishers/PUB/models/M`` or ``projects/P/locations/L/endpoints/E``.

        Raises:
            Problem: 400, as Vertex words it.
        """
        steps = name.split("/")
        match steps:
            case ["projects", project, "locations", region, "publishers", publisher, "models", model]:
                return cls(project, region, publisher, model)
            case ["projects", project, "locations", region, "endpoints", endpoint]:
                return cls(project, region, endpoint=endpoint)
        raise Problem(400, f"Invalid resource name: {name[:200]}", platform=True)


@dataclass(slots=True)
class Inquiry:
    """A request as its wire reads it. `options` are what only the wire itself needs to write the answer."""

    ask: Ask
    stream: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wire(Generic[Payload]):
    """A wire form.

    Attributes:
        read: body to inquiry.
        check: raises the vendor's 400 for what this model does not take.
        plain, frames: the answer whole and in pieces.
        problem: body of an error answer.
        broken_plain, broken_chunk: what malformed_json sends.
        failed_chunk: what stream_error sends in mid-stream; None when the wire breaks the connection instead.
    """

    name: str
    read: Callable[[Any, Profile], Inquiry]
    check: Callable[[Profile, Ask, PromptTokens], None]
    plain: Callable[[Plan, Inquiry], Payload]
    frames: Callable[[Plan, Inquiry], list[Frame[Payload]]]
    broken_plain: Callable[[Plan], Payload]
    broken_chunk: Callable[[Plan], Payload]
    problem: Callable[[Problem], bytes]
    failed_chunk: Callable[[Plan], Payload | None]
    stream_type: str = "text/event-stream; charset=utf-8"


class Engine:
    """State that all requests share.

    Args:
        profiles: models and endpoints.
        seed: of every draw.
        vectors: where embeddings come from.
    """

    def __init__(self, profiles: Profiles, *, seed: int, vectors: Vectors | None = None) -> None:
        self.profiles = profiles
        self.seed = seed
        self.vectors = vectors or HashedVectors()
        self.faults = faults.FaultTable(seed)
        self.calls = CallLog()
        self.prompt_cache = PromptCache()

    @contextmanager
    def call(
        self,
        method: str,
        target: Target,
        *,
        model: str = "",
        stream: bool = False,
        request_bytes: int = 0,
        fault_header: str | None = None,
        traceparent: str | None = None,
    ) -> Iterator[Call]:
        """Record a call and choose its fault.

        Raises:
            Problem: the fault header cannot be read.
        """
        name = model or target.model
        with self.calls.record(
            method,
            model=name,
            region=target.region,
            endpoint=target.endpoint,
            stream=stream,
            request_bytes=request_bytes,
            traceparent=traceparent,
        ) as call:
            if fault_header:
                try:
                    call.fault = faults.read_header(fault_header)
                except ValueError as error:
                    raise Problem(400, str(error), platform=True) from error
            else:
                call.fault = self.faults.pick(model=name, region=target.region, endpoint=target.endpoint)
            yield call

    def model(self, target: Target, publisher: str = "", model: str = "") -> Profile:
        """The profile of a publisher model.

        Raises:
            Problem: 404, there is none.
        """
        publisher, model = publisher or target.publisher, model or target.model
        profile = self.profiles.model(publisher, model)
        if profile is None:
            raise unknown_model(target.project, target.region, publisher, model)
        return profile

    def prepare(self, call: Call, wire: Wire[Payload], profile: Profile, body: Any) -> tuple[Plan, Inquiry]:
        """Read a request and plan its answer, with the call's fault applied.

        Raises:
            Problem: the request is not valid for this model, or the fault is a refusal.
        """
        try:
            inquiry = wire.read(body, profile)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # A field of a shape that no check names: every vendor calls that the client's mistake.
            raise Problem(400, "Request contains an invalid argument.") from error
        call.stream = call.stream or inquiry.stream
        prompt = measure(inquiry.ask, profile)
        content = inquiry.ask.digest()
        call.content_sha256 = content.hex()
        wire.check(profile, inquiry.ask, prompt)
        self.refuse(call)
        cache = self.prompt_cache.use(profile, inquiry.ask, prompt)
        plan = make_plan(profile, inquiry.ask, content, seed=self.seed, prompt=prompt, cache=cache)
        if call.fault is not None:
            plan = call.fault.reshape(plan)
        call.plan = plan
        return plan, inquiry

    def refuse(self, call: Call) -> None:
        """Raise the call's fault if it is a refusal.

        Raises:
            Problem: it is.
        """
        if call.fault is not None:
            problem = call.fault.problem(datetime.now(UTC))  # noqa: TID251 - Retry-After as a date needs the date
            if problem is not None:
                raise problem

    async def wait(self, call: Call, duration_s: float) -> None:
        """Let a plain answer take its time; faults of plain answers happen here.

        Raises:
            Cut: the connection must break now.
        """
        fault = call.fault
        if fault is not None:
            if fault.name in {"hang", "stall"}:
                await asyncio.Event().wait()
            if fault.name == "slow_first_token":
                await asyncio.sleep(fault.delay_s)
        delay = duration_s * self.profiles.time_scale
        if delay > 0:
            await asyncio.sleep(delay)
        if fault is not None and fault.name == "cut":
            raise Cut

    def plain(self, call: Call, wire: Wire[Payload], plan: Plan, inquiry: Inquiry) -> Payload:
        """A plain answer's body."""
        if call.fault is not None and call.fault.name == "malformed_json":
            return wire.broken_plain(plan)
        return wire.plain(plan, inquiry)

    async def frames(self, call: Call, wire: Wire[Payload], plan: Plan, inquiry: Inquiry) -> AsyncIterator[Payload]:
        """A streamed answer, at its pace.

        Raises:
            Cut: the stream must break now.
        """
        fault = call.fault
        scale = self.profiles.time_scale
        if fault is not None and fault.name == "slow_first_token":
            await asyncio.sleep(fault.delay_s)
        if fault is not None and fault.name == "hang":
            await asyncio.Event().wait()
        hidden = 0 if plan.show_thinking else plan.thinking_tokens
        pause = (plan.ttft_s + hidden * plan.s_per_token) * scale
        frames = wire.frames(plan, inquiry)
        total = sum(1 for frame in frames if frame.tokens)
        # A fault that would come after the whole answer comes just before the frame that ends the stream well.
        last = total - 1 if frames and frames[-1].tokens else total
        after = -1 if fault is None else min(fault.after_chunks, last)
        for frame in frames:
            if fault is not None and call.chunks == after and (frame.tokens or after == total):
                broken = await self._break(fault, wire, plan)
                if broken is not None:
                    yield broken
                    if fault.name == "stream_error":
                        return
                fault = None
            if pause > 0:
                await asyncio.sleep(pause)
                pause = 0.0
            yield frame.payload
            if frame.tokens:
                call.chunks += 1
                pause = frame.tokens * plan.s_per_token * scale

    async def _break(self, fault: faults.Fault, wire: Wire[Payload], plan: Plan) -> Payload | None:
        """Stall, cut, or return what to send instead."""
        if fault.name == "stall":
            await asyncio.Event().wait()
        if fault.name == "cut":
            raise Cut
        if fault.name == "malformed_json":
            return wire.broken_chunk(plan)
        if fault.name == "stream_error":
            failed = wire.failed_chunk(plan)
            if failed is None:
                raise Cut
            return failed
        return None
