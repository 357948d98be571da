"""What every `ModelProvider` must do, run against the simulator: subclass `ProviderContract` and give it a `subject`.

class TestMine(ProviderContract):
    @pytest.fixture
    async def subject(self, simulator): ...
"""

import asyncio
import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.errors import (
    ContextWindowExceeded,
    ProviderAuthError,
    ProviderBadResponse,
    ProviderError,
    ProviderNotFound,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RetryScope,
    UnsupportedFeature,
)
from shared.domain.models import Deployment, ModelProfile
from shared.domain.replies import (
    CONTENT_EVENTS,
    ChatReply,
    Finished,
    FinishReason,
    ReplyBuilder,
    StreamEvent,
    Usage,
    UsageUpdate,
)
from shared.ports import ModelProvider, ProviderCall
from tests.contract.vertex_server import until

WEATHER = Tool(
    "weather",
    "Looks out of the window.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


class RealClock:
    """Real time, since the simulator runs on it."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the adapters under test run on real time

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Subject:
    """A provider under test, with a model of the simulator.

    Attributes:
        http_endpoint: of the simulator, for its record of calls.
        refused: requests that `check` must refuse, with the field it must name.
        features: of tools, json_schema, thinking, stop and traces, those that this wire form has.
        empty_is_an_error: whether an answer without anything is unreadable (else it is a turn without words).
        plain_malformed, stream_malformed: errors that malformed_json may become; empty where the simulator's stand-in
            for it breaks nothing, and the answer must come whole.
    """

    provider: ModelProvider
    profile: ModelProfile
    deployment: Deployment
    http_endpoint: str
    refused: Sequence[tuple[ChatRequest, str]]
    features: frozenset[str] = frozenset({"tools", "json_schema", "thinking", "stop", "traces"})
    empty_is_an_error: bool = True
    plain_malformed: tuple[type[ProviderError], ...] = (ProviderBadResponse,)
    stream_malformed: tuple[type[ProviderError], ...] = (ProviderBadResponse,)
    traceparent: str = field(default_factory=lambda: f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01")

    def call(
        self, request: ChatRequest, *, in_s: float = 30.0, max_output_tokens: int = 2000, **fields: Any
    ) -> ProviderCall:
        return ProviderCall(
            request=request,
            profile=self.profile,
            deployment=self.deployment,
            request_id=str(uuid.uuid4()),
            max_output_tokens=max_output_tokens,
            deadline_s=time.monotonic() + in_s,
            headers={"traceparent": self.traceparent},
            **fields,
        )

    async def complete(self, call: ProviderCall) -> list[StreamEvent]:
        return list(await self.provider.complete(call))

    async def stream(self, call: ProviderCall) -> list[StreamEvent]:
        return [event async for event in self.provider.stream(call)]

    def fold(self, events: Sequence[StreamEvent]) -> ChatReply:
        return ReplyBuilder(self.profile.id).extend(events).build()

    def needs(self, feature: str) -> None:
        if feature not in self.features:
            pytest.skip(f"this wire form has no {feature}")

    def upstream(self) -> list[dict[str, Any]]:
        """This test's calls as the simulator saw them."""
        calls = _control(self.http_endpoint, "calls")["calls"]
        return [call for call in calls if call["traceparent"] == self.traceparent]

    async def until_cancelled_upstream(self) -> None:
        await until(lambda: any(call["cancelled"] for call in self.upstream()))


def _control(http_endpoint: str, page: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A page of the simulator's control API; with a body, a change to it."""
    request = urllib.request.Request(  # noqa: S310 - the local simulator
        f"{http_endpoint}/_sim/{page}",
        method="GET" if body is None else "PUT",
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - the local simulator
        answer: dict[str, Any] = json.load(response)
    return answer


def ask(text: str = "Say something about rivers.", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(Role.USER, (TextPart(text),)),), **fields)


def image_with_uri() -> ChatRequest:
    part = MediaPart(Modality.IMAGE, "image/png", uri="gs://bucket/picture.png")
    return ChatRequest(messages=(Message(Role.USER, (TextPart("Look"), part)),))


def audio() -> ChatRequest:
    part = MediaPart(Modality.AUDIO, "audio/wav", data=b"RIFF")
    return ChatRequest(messages=(Message(Role.USER, (TextPart("Listen"), part)),))


MODES = ["complete", "stream"]
Faults = Callable[..., None]


class ProviderContract:
    """The contract. Subclasses provide the fixture `subject`."""

    @pytest.fixture
    async def subject(self) -> Subject:
        raise AssertionError("the subclass gives the subject")

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _quick_simulator(cls, simulator: Any) -> Iterator[None]:
        """The true order of things at a fiftieth of the models' time."""
        before = _control(simulator.http_endpoint, "profiles")["time_scale"]
        _control(simulator.http_endpoint, "profiles", {"time_scale": 0.02})
        yield
        _control(simulator.http_endpoint, "profiles", {"time_scale": before})

    @pytest.fixture
    def fault(self, simulator: Any, subject: Subject) -> Faults:
        """Set one fault for this test's model or endpoint."""

        def set_fault(name: str, **parameters: Any) -> None:
            key = "endpoint" if subject.deployment.target.isdigit() else "model"
            match = {key: subject.deployment.target}
            simulator.set_faults([{"match": match, "fault": name, **parameters}])

        return set_fault

    # --- answers ---

    async def test_plain_and_folded_stream_agree(self, subject: Subject):
        request = ask(system="Be brief.")
        subject.provider.check(request, subject.profile, subject.deployment)

        plain = subject.fold(await subject.complete(subject.call(request)))
        streamed = subject.fold(await subject.stream(subject.call(request)))

        assert plain.text()
        assert plain.finish_reason is FinishReason.STOP
        assert plain.native_finish_reason
        assert streamed.text() == plain.text()
        assert streamed.usage == plain.usage
        assert (streamed.finish_reason, streamed.native_finish_reason) == (
            plain.finish_reason,
            plain.native_finish_reason,
        )
        assert plain.usage.input_tokens > 0
        assert plain.usage.output_tokens > 0

    @pytest.mark.parametrize("mode", MODES)
    async def test_the_order_of_events(self, subject: Subject, mode: str):
        events = await getattr(subject, mode)(subject.call(ask()))
        finishes = [event for event in events if isinstance(event, Finished)]
        assert len(finishes) == 1
        assert any(isinstance(event, UsageUpdate) for event in events)
        after = events[events.index(finishes[0]) + 1 :]
        assert all(isinstance(event, UsageUpdate) for event in after)
        assert not any(isinstance(event, CONTENT_EVENTS) for event in after)

    async def test_a_stream_comes_in_pieces(self, subject: Subject):
        events = await subject.stream(subject.call(ask()))
        assert sum(isinstance(event, CONTENT_EVENTS) for event in events) > 1

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_length_stop(self, subject: Subject, mode: str):
        events = await getattr(subject, mode)(subject.call(ask(), max_output_tokens=5))
        reply = subject.fold(events)
        assert reply.finish_reason is FinishReason.LENGTH
        assert 0 < reply.usage.completion_tokens <= 5

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_stop_sequence(self, subject: Subject, mode: str):
        subject.needs("stop")
        whole = subject.fold(await subject.complete(subject.call(ask()))).text()
        stop = whole.split()[3]
        events = await getattr(subject, mode)(subject.call(ask(sampling=Sampling(stop=(stop,)))))
        reply = subject.fold(events)
        assert stop not in reply.text()
        assert reply.finish_reason is FinishReason.STOP

    @pytest.mark.parametrize("mode", MODES)
    async def test_json_that_obeys_a_schema(self, subject: Subject, mode: str):
        subject.needs("json_schema")
        request = ask(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "thing", SCHEMA, strict=True))
        subject.provider.check(request, subject.profile, subject.deployment)
        reply = subject.fold(await getattr(subject, mode)(subject.call(request)))
        answer = json.loads(reply.text())
        assert isinstance(answer["name"], str)
        assert isinstance(answer["count"], int)
        assert reply.finish_reason is FinishReason.STOP
        assert reply.tool_calls() == ()

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_tool_loop(self, subject: Subject, mode: str):
        subject.needs("tools")
        question = Message(Role.USER, (TextPart("Use the weather tool for Oslo."),))
        request = ChatRequest(messages=(question,), tools=(WEATHER,))
        subject.provider.check(request, subject.profile, subject.deployment)

        first = subject.fold(await getattr(subject, mode)(subject.call(request)))

        assert first.finish_reason is FinishReason.TOOL_CALLS
        (wanted,) = first.tool_calls()
        assert wanted.id
        assert wanted.name == "weather"
        arguments = json.loads(wanted.arguments_json)
        assert isinstance(arguments["days"], int)

        result = Message(Role.TOOL, (ToolResultPart(wanted.id, "", "rain"),))
        follow_up = replace(request, messages=(question, Message(Role.ASSISTANT, first.parts), result))
        subject.provider.check(follow_up, subject.profile, subject.deployment)
        second = subject.fold(await getattr(subject, mode)(subject.call(follow_up)))
        assert second.finish_reason is FinishReason.STOP
        assert second.text()

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_tool_loop_that_another_model_began(self, subject: Subject, mode: str):
        subject.needs("tools")
        theirs = ToolCallPart("call:1/other", "weather", '{"city": "Oslo", "days": 1}', "c2ln", "another-model")
        request = ChatRequest(
            messages=(
                Message(Role.USER, (TextPart("Use the weather tool for Oslo."),)),
                Message(Role.ASSISTANT, (theirs,)),
                Message(Role.TOOL, (ToolResultPart("call:1/other", "weather", "rain"),)),
            ),
            tools=(WEATHER,),
        )
        subject.provider.check(request, subject.profile, subject.deployment)
        reply = subject.fold(await getattr(subject, mode)(subject.call(request)))
        assert reply.finish_reason is FinishReason.STOP

    @pytest.mark.parametrize("mode", MODES)
    async def test_thinking_is_shown_counted_and_travels_back(self, subject: Subject, mode: str):
        subject.needs("thinking")
        request = ask(reasoning_effort=ReasoningEffort.LOW)
        subject.provider.check(request, subject.profile, subject.deployment)
        call = subject.call(request, max_output_tokens=8000)
        reply = subject.fold(await getattr(subject, mode)(call))
        assert any(type(part).__name__ == "ThinkingPart" for part in reply.parts)
        assert reply.usage.completion_tokens > 0
        turns = (*request.messages, Message(Role.ASSISTANT, reply.parts), Message(Role.USER, (TextPart("And then?"),)))
        again = subject.call(replace(request, messages=turns), max_output_tokens=8000)
        assert subject.fold(await getattr(subject, mode)(again)).finish_reason is FinishReason.STOP

    # --- refusals ---

    def test_what_cannot_be_carried_is_refused_before_any_call(self, subject: Subject):
        assert subject.refused
        for request, param in subject.refused:
            with pytest.raises(UnsupportedFeature) as caught:
                subject.provider.check(request, subject.profile, subject.deployment)
            assert caught.value.param == param
        assert subject.upstream() == []

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_prompt_over_the_context_window(self, subject: Subject, mode: str, fault: Faults):
        fault("bad_request", message="prompt is too long: 250000 tokens > 200000 maximum")
        with pytest.raises(ContextWindowExceeded):
            await getattr(subject, mode)(subject.call(ask()))

    # --- failures ---

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("rate_limit", ProviderRateLimited),
            ("server_error", ProviderUnavailable),
            ("unavailable", ProviderUnavailable),
            ("overloaded", ProviderUnavailable),
            ("bad_request", ProviderRejected),
            ("forbidden", ProviderAuthError),
            ("unauthenticated", ProviderAuthError),
            ("not_found", ProviderNotFound),
            ("deadline", ProviderTimeout),
        ],
    )
    async def test_each_refusal_has_its_class(
        self, subject: Subject, fault: Faults, mode: str, name: str, expected: type[ProviderError]
    ):
        fault(name, message="a sentence that quotes hunter2")
        with pytest.raises(ProviderError) as caught:
            await getattr(subject, mode)(subject.call(ask()))
        assert type(caught.value) is expected
        assert caught.value.vendor_status
        assert "hunter2" not in str(caught.value)
        assert caught.value.scope is not RetryScope.NEVER

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("name", ["rate_limit", "unavailable"])
    async def test_the_wait_that_the_vendor_asks_for(self, subject: Subject, fault: Faults, mode: str, name: str):
        fault(name, retry_after_s=2)
        with pytest.raises(ProviderError) as caught:
            await getattr(subject, mode)(subject.call(ask()))
        assert caught.value.retry_after_s == 2

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_broken_answer(self, subject: Subject, fault: Faults, mode: str):
        fault("malformed_json")
        expected = subject.plain_malformed if mode == "complete" else subject.stream_malformed
        if expected:
            with pytest.raises(expected):
                await getattr(subject, mode)(subject.call(ask()))
        else:
            broken = subject.fold(await getattr(subject, mode)(subject.call(ask())))
            fault("slow_first_token", delay_s=0)
            assert broken.text() == subject.fold(await subject.complete(subject.call(ask()))).text()

    @pytest.mark.parametrize("mode", MODES)
    async def test_an_empty_answer(self, subject: Subject, fault: Faults, mode: str):
        fault("empty_candidates")
        if subject.empty_is_an_error:
            with pytest.raises(ProviderBadResponse):
                await getattr(subject, mode)(subject.call(ask()))
        else:
            reply = subject.fold(await getattr(subject, mode)(subject.call(ask())))
            assert reply.text() == ""
            assert reply.usage != Usage()

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("level", ["prompt", "answer"])
    async def test_a_blocked_prompt_or_answer_is_told_apart_from_success(
        self, subject: Subject, fault: Faults, mode: str, level: str
    ):
        fault("safety_block", level=level)
        reply = subject.fold(await getattr(subject, mode)(subject.call(ask())))
        assert reply.finish_reason in (FinishReason.CONTENT_FILTER, FinishReason.REFUSAL)
        assert reply.native_finish_reason

    @pytest.mark.parametrize("after", [0, 1, 3])
    async def test_a_cut_stream_never_looks_whole(self, subject: Subject, fault: Faults, after: int):
        fault("cut", after_chunks=after)
        with pytest.raises(ProviderUnavailable):
            await subject.stream(subject.call(ask()))

    async def test_a_cut_plain_answer(self, subject: Subject, fault: Faults):
        fault("cut")
        with pytest.raises(ProviderUnavailable):
            await subject.complete(subject.call(ask()))

    async def test_an_error_inside_a_stream(self, subject: Subject, fault: Faults):
        fault("stream_error", after_chunks=1)
        seen: list[StreamEvent] = []
        with pytest.raises(ProviderUnavailable):
            await self._collect(subject, seen)
        assert any(isinstance(event, CONTENT_EVENTS) for event in seen)
        assert not any(isinstance(event, Finished) for event in seen)

    @staticmethod
    async def _collect(subject: Subject, seen: list[StreamEvent]) -> None:
        async for event in subject.provider.stream(subject.call(ask())):
            seen.append(event)  # noqa: PERF401 - what came before the error counts

    # --- time and cancellation ---

    @pytest.mark.parametrize("mode", MODES)
    async def test_the_deadline_holds(self, subject: Subject, fault: Faults, mode: str):
        fault("hang")
        with pytest.raises(ProviderTimeout):
            await getattr(subject, mode)(subject.call(ask(), in_s=0.4))

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_passed_deadline_makes_no_call(self, subject: Subject, mode: str):
        with pytest.raises(ProviderTimeout):
            await getattr(subject, mode)(subject.call(ask(), in_s=-1))
        assert subject.upstream() == []

    @pytest.mark.parametrize("name", ["stall", "hang"])
    async def test_a_silent_stream_times_out(self, subject: Subject, fault: Faults, name: str):
        fault(name)
        with pytest.raises(ProviderTimeout):
            await subject.stream(subject.call(ask(), idle_timeout_s=1.0))

    async def test_cancelling_a_plain_call_reaches_the_vendor(self, subject: Subject, fault: Faults):
        subject.needs("traces")
        fault("hang")
        task = asyncio.create_task(subject.complete(subject.call(ask())))
        await until(lambda: bool(subject.upstream()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await subject.until_cancelled_upstream()

    async def test_closing_a_stream_reaches_the_vendor(self, subject: Subject, fault: Faults):
        subject.needs("traces")
        fault("stall", after_chunks=2)
        async with aclosing(cast("Any", subject.provider.stream(subject.call(ask())))) as events:
            async for event in events:
                if isinstance(event, CONTENT_EVENTS):
                    break
        await subject.until_cancelled_upstream()

    async def test_cancelling_the_reader_reaches_the_vendor(self, subject: Subject, fault: Faults):
        subject.needs("traces")
        fault("stall", after_chunks=1)
        task = asyncio.create_task(subject.stream(subject.call(ask())))
        await until(lambda: any(call["chunks"] for call in subject.upstream()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await subject.until_cancelled_upstream()

    async def test_warming_and_many_calls_at_once(self, subject: Subject):
        await subject.provider.warm()
        replies = await asyncio.gather(*(subject.complete(subject.call(ask(f"Number {n}?"))) for n in range(30)))
        assert all(subject.fold(events).finish_reason is FinishReason.STOP for events in replies)
