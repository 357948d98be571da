"""Endpoints that take text against the simulator: TGI, vLLM behind predict, and custom mappings."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shared.domain.chat import FormatKind, ReasoningEffort, ResponseFormat, Sampling
from shared.domain.errors import ProviderBadResponse, ProviderTimeout
from shared.domain.replies import CONTENT_EVENTS, Finished, FinishReason, UsageUpdate
from tests.contract.openai_subjects import hurried, subject_of
from tests.contract.provider_contract import MODES, WEATHER, Faults, ProviderContract, Subject, ask, image_with_uri

JSON = ask(response_format=ResponseFormat(FormatKind.JSON_OBJECT))
REFUSED = [
    (image_with_uri(), "messages[0].content[1]"),
    (ask(tools=(WEATHER,)), "tools"),
    (ask(reasoning_effort=ReasoningEffort.LOW), "reasoning_effort"),
]


@pytest.fixture(scope="module", autouse=True)
def _hurried(simulator: Any) -> Iterator[None]:
    with hurried(simulator):
        yield


class TestTgi(ProviderContract):
    @pytest.fixture
    async def subject(self, simulator: Any) -> AsyncIterator[Subject]:
        refused = [*REFUSED, (ask(sampling=Sampling(presence_penalty=0.5)), "presence_penalty")]
        features = ("json_schema", "stop", "traces")
        async with subject_of(
            "example-hf-tgi", simulator, refused=refused, features=features, empty_is_an_error=False
        ) as subject:
            yield subject

    @pytest.mark.skip(reason="TGI knows no blocks")
    async def test_a_blocked_prompt_or_answer_is_told_apart_from_success(self) -> None: ...


class WholeAnswers(ProviderContract):
    """The contract of wire forms without streams."""

    async def test_a_stream_comes_in_pieces(self, subject: Subject) -> None:
        """It comes as one."""
        events = await subject.stream(subject.call(ask()))
        assert sum(isinstance(event, CONTENT_EVENTS) for event in events) == 1
        assert [type(event) for event in events[-2:]] == [UsageUpdate, Finished]

    async def test_an_error_inside_a_stream(self, subject: Subject, fault: Faults) -> None:
        """There is no inside: the error comes before anything else."""
        fault("malformed_json")
        seen: list[Any] = []
        with pytest.raises(ProviderBadResponse):
            await self._collect(subject, seen)
        assert seen == []

    async def test_a_silent_stream_times_out(self, subject: Subject, fault: Faults) -> None:
        """Silence is how these work; the deadline ends it."""
        fault("hang")
        with pytest.raises(ProviderTimeout):
            await subject.stream(subject.call(ask(), in_s=0.5, idle_timeout_s=0.1))

    async def test_closing_a_stream_reaches_the_vendor(self, subject: Subject, fault: Faults) -> None:
        """Nothing is left to close once the one piece is there."""
        iterator = subject.provider.stream(subject.call(ask()))
        async for _ in iterator:
            break
        await iterator.aclose()  # type: ignore[attr-defined]  # the port promises an iterator that can be closed
        assert [call["cancelled"] for call in subject.upstream()] == [False]

    async def test_cancelling_the_reader_reaches_the_vendor(self, subject: Subject, fault: Faults) -> None:
        """As with a plain call, which it is."""
        await self.test_cancelling_a_plain_call_reaches_the_vendor(subject, fault)

    @pytest.mark.skip(reason="a plain answer has no chunks to cut between; test_a_cut_plain_answer holds")
    async def test_a_cut_stream_never_looks_whole(self) -> None: ...

    @pytest.mark.skip(reason="the endpoint's answer has no word for a block")
    async def test_a_blocked_prompt_or_answer_is_told_apart_from_success(self) -> None: ...


class TestVllm(WholeAnswers):
    @pytest.fixture
    async def subject(self, simulator: Any) -> AsyncIterator[Subject]:
        refused = [*REFUSED, (JSON, "response_format"), (ask(sampling=Sampling(seed=1)), "seed")]
        async with subject_of("example-hf-vllm", simulator, refused=refused, features=("stop", "traces")) as subject:
            yield subject

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_length_stop(self, subject: Subject, mode: str) -> None:
        """It obeys the limit, but cannot say that it met it."""
        reply = subject.fold(await getattr(subject, mode)(subject.call(ask(), max_output_tokens=5)))
        assert reply.finish_reason is FinishReason.STOP
        assert 0 < reply.usage.completion_tokens <= 5


class TestCustom(WholeAnswers):
    @pytest.fixture(params=["example-custom-predict", "example-custom-raw"])
    async def subject(self, simulator: Any, request: Any) -> AsyncIterator[Subject]:
        refused = [*REFUSED, (JSON, "response_format"), (ask(sampling=Sampling(stop=("END",))), "stop")]
        async with subject_of(request.param, simulator, refused=refused, features=("traces",)) as subject:
            yield subject
