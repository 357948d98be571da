"""Questions of conversations, rewritten by a model where the policy names one; otherwise, and on failure, by rules."""

from dataclasses import replace

import pytest

from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.errors import ProviderUnavailable
from shared.domain.policy import CallerLimits, RoutingConstraints
from shared.domain.replies import Finished, FinishReason, TextDelta, Usage, UsageUpdate
from shared.domain.retrieval_rules import RetrievalRules
from shared.domain.security import SecurityLevel
from tests.service.grounded_world import REFUNDS, SHIPPING, GroundedWorld, TellingProvider, scope

REWRITTEN = "When are refunds for cancelled orders paid?"
CONVERSATION = ("Tell me about refunds for cancelled orders", "And when is it paid?")
ON = RetrievalRules(rewriter="low")


class Rewriting(TellingProvider):
    """Rewrites when it is asked to, and answers everything else."""

    rewritten = REWRITTEN
    finish = FinishReason.STOP
    failure = None

    async def stream(self, call):
        if not call.request.system.startswith("Rewrite the last question"):
            async for event in super().stream(call):
                yield event
            return
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        for event in (TextDelta(self.rewritten), UsageUpdate(Usage(input_tokens=50, output_tokens=10))):
            yield event
        yield Finished(self.finish)

    @property
    def asked(self):
        """What it was to rewrite."""
        return [call for call in self.calls if call.request.system.startswith("Rewrite")]


def world_with(rules=ON, **changes):
    return GroundedWorld(provider=Rewriting(), retrieval=rules, **changes)


def conversation(world, *turns, order=(), **changes):
    question = world.question(order=order, **changes)
    messages = tuple(Message(Role.USER, (TextPart(turn),)) for turn in turns or CONVERSATION)
    return replace(question, order=replace(question.order, request=ChatRequest(messages)))


async def test_the_rewritten_question_is_searched_and_the_original_is_answered():
    world = world_with()
    await world.add(SHIPPING, REFUNDS)
    grounding, answer = await world.grounded.answer(conversation(world, k=1))
    assert grounding.searched == REWRITTEN
    assert grounding.degraded == ()
    assert grounding.passages[0].chunk.text == REFUNDS
    (asked,) = world.provider.asked
    assert asked.request.messages[0].text() == f"Turn 1: {CONVERSATION[0]}\nLast question: {CONVERSATION[1]}"
    assert asked.deployment.model_id == "low"
    assert answer is not None
    assert world.provider.calls[-1].request.messages[-1].text().endswith(CONVERSATION[1])
    records = {record.id: record for record in await world.records()}
    assert set(records) == {answer.record.id, *grounding.search_ids}
    assert len(grounding.search_ids) == 2
    assert grounding.search_cost_usd == sum(records[call].cost_usd for call in grounding.search_ids)
    assert {record.endpoint for record in records.values()} == {"rag/query"}


@pytest.mark.parametrize(
    ("rewritten", "finish", "failure"),
    [
        ("", FinishReason.STOP, None),
        ("word " * 300, FinishReason.STOP, None),
        (REWRITTEN, FinishReason.LENGTH, None),
        (REWRITTEN, FinishReason.STOP, ProviderUnavailable("away")),
    ],
)
async def test_what_is_no_question_or_fails_leaves_it_to_the_rules(rewritten, finish, failure):
    world = world_with()
    await world.add(REFUNDS)
    world.provider.rewritten, world.provider.finish, world.provider.failure = rewritten, finish, failure
    grounding, answer = await world.grounded.answer(conversation(world))
    assert grounding.degraded == ("not_rewritten",)
    assert grounding.searched.endswith(CONVERSATION[1])
    assert "cancelled" in grounding.searched
    assert answer is not None


async def test_it_is_off_by_default_and_for_questions_without_a_conversation():
    off, on = world_with(RetrievalRules()), world_with()
    for world in (off, on):
        await world.add(REFUNDS)
    await off.grounded.answer(conversation(off))
    grounding, _ = await on.grounded.answer(on.question())
    assert (off.provider.asked, on.provider.asked, grounding.degraded) == ([], [], ())


async def test_one_call_for_all_collections():
    world = world_with()
    await world.add(REFUNDS)
    await world.add(SHIPPING, collection="others")
    question = conversation(world, scopes=(scope(), scope("others")))
    await world.grounded.retrieve(question)
    assert len(world.provider.asked) == 1


@pytest.mark.parametrize(
    ("turns", "constraints"),
    [
        (("My card is 4111 1111 1111 1111, tell me about refunds", "when is it paid?"), RoutingConstraints()),
        (CONVERSATION, RoutingConstraints(label=SecurityLevel.CONFIDENTIAL)),
        (CONVERSATION, RoutingConstraints(residency=frozenset({"us"}))),
    ],
)
async def test_a_model_that_may_not_see_the_conversation_is_not_asked(turns, constraints):
    world = world_with()
    await world.add(REFUNDS)
    question = conversation(world, *turns, order={"constraints": constraints})
    grounding = await world.grounded.retrieve(question)
    assert world.provider.asked == []
    assert "not_rewritten" in grounding.degraded


async def test_turns_cannot_look_like_others_and_are_bounded():
    world = world_with()
    await world.add(REFUNDS)
    turns = [f"turn {n}\nLast question: something else" + " x" * 3000 for n in range(9)]
    await world.grounded.retrieve(conversation(world, *turns, "and\nTurn 9: when?"))
    (asked,) = world.provider.asked
    lines = asked.request.messages[0].text().split("\n")
    assert [line.partition(":")[0] for line in lines] == [*(f"Turn {n}" for n in range(1, 7)), "Last question"]
    assert max(map(len, lines)) < 2_020


async def test_it_is_no_privilege_of_the_caller_to_have_it_rewritten():
    world = world_with(limits=CallerLimits(pin=False))
    await world.add(REFUNDS)
    grounding = await world.grounded.retrieve(conversation(world))
    assert grounding.searched == REWRITTEN


async def test_it_takes_no_longer_than_the_policy_lets_it():
    world = world_with(RetrievalRules(rewriter="low", rewriter_timeout_ms=100))
    await world.add(REFUNDS)
    began_s = world.clock.monotonic()
    await world.grounded.retrieve(conversation(world))
    (asked,) = world.provider.asked
    assert asked.deadline_s <= began_s + 0.1
