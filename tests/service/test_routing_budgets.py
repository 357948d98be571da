"""Budgets and limits on a request's walk: what is held for which attempts, and what serves when money is short."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from shared.domain.budgets import Budget, Period
from shared.domain.decisions import RejectionReason
from shared.domain.errors import BudgetExceeded, NoEligibleModel, ProviderUnavailable, RateLimited
from shared.domain.limits import EndpointClass, RateLimit
from shared.domain.policy import RoutingConstraints
from shared.domain.records import RequestStatus
from shared.domain.replies import UsageUpdate
from shared.services.bookkeeping import Bookkeeper
from shared.services.limits import Limits
from shared.services.reconciling import Reconciler
from shared.services.till import Till
from shared.stores.memory_budgets import MemoryBudgetLedger, MemoryBudgetStore
from shared.stores.memory_limits import MemoryLimitStore
from tests.service.routing_doubles import ANSWER, HANG, PRINCIPAL, USAGE, ScriptedProvider, rid
from tests.service.routing_world import World
from tests.unit.routing_builders import deployment, model, registry

# With max_output_tokens 1000 the worst cases are about 40,000 and 4,000 micro-USD.
DEAR, CHEAP = deployment("dear"), deployment("cheap")
SHELF = registry(
    (model("dear", price="10", quality=0.95), DEAR),
    (model("cheap", price="1", quality=0.5), CHEAP),
)
AWAY = ProviderUnavailable("away")


class Paying(World):
    def __init__(self, hard: int | None = None, soft: int | None = None, *, scripts=None, limits=(), **rules):
        budgets = (Budget("b", Period.DAY, hard_micro_usd=hard, soft_micro_usd=soft),) if hard or soft else ()
        super().__init__(
            ScriptedProvider(scripts or {}), SHELF, budgets=budgets, rate_limits=tuple(limits), max_attempts=3, **rules
        )
        self.money = MemoryBudgetStore(self.clock, gather_s=0)
        policy = lambda: self.service._shelf.policy  # noqa: E731 - what the container passes too
        self.books = self.writer._books = Bookkeeper(self.money, self.telemetry)
        reconciler = Reconciler(self.money, MemoryBudgetLedger(self.store), self.clock, self.telemetry)
        self.service._till = Till(self.money, self.books, reconciler, policy, self.clock, self.telemetry)
        self.limits = Limits(MemoryLimitStore(self.clock), policy, self.clock, self.telemetry)

    def ask(self, number=1, **changes):
        order = self.order(request_id=rid(number), **changes)
        order = replace(order, request=replace(order.request, max_output_tokens=1_000))
        return replace(order, ticket=self.limits.ticket(PRINCIPAL, EndpointClass.GENERATE, rid(number)))

    async def held(self):
        (balance,) = (await self.money.read(PRINCIPAL.tenant_id)).balances.values()
        return balance.reserved_micro_usd

    async def settled(self):
        """What is left once the ledger has all records."""
        self.writer.start()
        await self.writer.aclose()
        self.writer._closing = False
        await self.books.work()
        (balance,) = (await self.money.read(PRINCIPAL.tenant_id)).balances.values()
        assert balance.reserved_micro_usd == 0
        return balance.settled_micro_usd


async def worst(of: World, model_id: str) -> int:
    candidates = of.service.decide(of.ask()).candidates
    usd = next(c.worst_case_cost_usd for c in candidates if c.profile.id == model_id)
    return -int(-usd * 1_000_000 // 1)


async def test_the_worst_case_of_the_chosen_model_is_held_while_it_answers():
    of = Paying(10**9, scripts={DEAR.id: [[*ANSWER[:1], HANG]]})
    streamed = await of.service.open_stream(of.ask(stream=True))
    assert streamed.served.profile.id == "dear"
    assert await of.held() == await worst(of, "dear")
    await streamed.abandon()
    assert 0 < await of.settled() < await worst(of, "dear")


async def test_a_cheap_model_serves_where_the_dear_one_does_not_fit_and_the_receipt_says_why():
    of = Paying(10_000)
    answer = await of.service.answer(of.ask())
    assert answer.record.model_used == "cheap"
    rejected = {rejection.model_id: rejection.reason for rejection in answer.decision.rejections}
    assert rejected == {"dear": RejectionReason.COST_CAP}
    assert of.provider.calls[0].deployment.id == CHEAP.id
    assert of.telemetry.counted("budgets_refused") == 1
    # The second one knows what is left, and needs no refusal to find out.
    assert (await of.service.answer(of.ask(2))).record.model_used == "cheap"
    assert of.telemetry.counted("budgets_refused") == 1


async def test_a_named_model_that_does_not_fit_is_refused_and_not_replaced():
    of = Paying(10_000)
    with pytest.raises(BudgetExceeded):
        await of.service.answer(of.ask(constraints=RoutingConstraints(model="dear")))
    assert of.provider.calls == []
    assert await of.settled() == 0
    (record,) = of.store.by_id.values()
    assert (record.status, record.error_code) == (RequestStatus.ERROR, "budget_exceeded")


async def test_what_the_caller_allows_binds_beside_what_is_left():
    of = Paying(10_000)
    with pytest.raises(NoEligibleModel):
        await of.service.answer(of.ask(constraints=RoutingConstraints(max_cost_usd=Decimal("0.000001"))))


async def test_old_news_of_an_empty_budget_refuses_nobody():
    of = Paying(50_000, scripts={DEAR.id: [[*ANSWER[:1], HANG]]})
    streamed = await of.service.open_stream(of.ask(stream=True))
    await streamed.abandon()
    await of.settled()
    # This process still believes that some 10,000 are left, but the ledger has freed the rest.
    answer = await of.service.answer(of.ask(2, constraints=RoutingConstraints(model="dear")))
    assert answer.record.model_used == "dear"


async def test_a_failover_to_a_cheaper_model_needs_no_more_money_and_a_dearer_one_must_fit():
    of = Paying(60_000, scripts={DEAR.id: [[AWAY]]})
    answer = await of.service.answer(of.ask())
    assert (answer.record.model_used, len(answer.record.attempts)) == ("cheap", 2)
    cheap_first = RoutingConstraints(model="cheap", allow_fallback=True)
    fits = Paying(60_000, scripts={CHEAP.id: [[AWAY]]})
    assert (await fits.service.answer(fits.ask(constraints=cheap_first))).record.model_used == "dear"
    short = Paying(10_000, scripts={CHEAP.id: [[AWAY], [AWAY], [AWAY]]})
    with pytest.raises(ProviderUnavailable):
        await short.service.answer(short.ask(constraints=cheap_first))
    assert {call.deployment.id for call in short.provider.calls} == {CHEAP.id}


async def test_attempts_that_cost_something_count_beside_those_to_come():
    billed = [UsageUpdate(USAGE), AWAY]  # 10 tokens in, 4 out, and no content
    of = Paying(10**6, scripts={DEAR.id: [billed]})
    streamed = await of.service.open_stream(of.ask(stream=True))
    assert streamed.served.profile.id == "cheap"
    assert await of.held() == await worst(of, "dear")
    async for _ in streamed.events():
        pass
    assert streamed.cost_usd == Decimal("0.000286")
    assert await of.settled() == 260 + 26


async def test_many_requests_at_once_never_hold_more_than_the_budget():
    of = Paying(100_000, scripts={DEAR.id: [[*ANSWER[:1], HANG]] * 50, CHEAP.id: [[*ANSWER[:1], HANG]] * 50})
    outcomes = await asyncio.gather(
        *(of.service.open_stream(of.ask(number, stream=True)) for number in range(1, 30)), return_exceptions=True
    )
    served = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} <= {RateLimited}
    assert await of.held() <= 100_000
    assert [answer.served.profile.id for answer in served].count("dear") == 2
    assert [answer.served.profile.id for answer in served].count("cheap") >= 1
    for answer in served:
        await answer.abandon()
    assert 0 < await of.settled() < 100_000


async def test_a_soft_limit_reaches_the_ticket():
    of = Paying(soft=1)
    await of.service.answer(of.ask())
    await of.settled()
    order = of.ask(2)
    await of.service.answer(order)
    assert order.ticket.soft_budgets == (f"b/2026-01-01/{PRINCIPAL.service}",)


async def test_a_request_that_the_limits_refuse_leaves_no_record_and_no_lease():
    of = Paying(10**6, limits=[RateLimit("r", requests_per_minute=1, request_burst=1)])
    await of.service.answer(of.ask())
    with pytest.raises(RateLimited):
        await of.service.answer(of.ask(2))
    await of.settled()
    assert set(of.store.by_id) == {rid(1)}


async def test_what_the_limits_hold_is_given_back_when_no_request_can_be_recorded():
    of = Paying(limits=[RateLimit("c", concurrent=1)])

    def full():
        raise ProviderUnavailable("stands for a writer that is full")

    of.writer.ensure_room, ensure_room = full, of.writer.ensure_room
    with pytest.raises(ProviderUnavailable):
        await of.service.answer(of.ask())
    of.limits.start()
    await of.limits.aclose()
    of.writer.ensure_room = ensure_room
    assert (await of.service.answer(of.ask(2))).record.status is RequestStatus.SUCCESS
