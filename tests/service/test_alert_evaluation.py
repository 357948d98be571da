"""Rules evaluated minute by minute: who is told, how often, and what an outage does."""

from datetime import timedelta

import pytest

from shared.domain.alert_metrics import Metric
from shared.domain.alerts import Escalation, IncidentQuery, IncidentState, RuleKind, Silence, Standing
from shared.domain.analytics import Dimension
from shared.domain.errors import DependencyUnavailable
from shared.domain.notifications import Severity
from tests.alert_world import NOON, TENANT, AlertWorld, requests, rule


@pytest.fixture
def world():
    return AlertWorld()


async def open_incidents(world):
    found = await world.store.incidents(IncidentQuery(TENANT))
    return [one for one in found if one.state is not IncidentState.RESOLVED]


async def test_a_condition_becomes_pending_fires_and_is_resolved(world):
    await world.keep(rule(for_s=120, keep_firing_s=120, window_s=60))
    states = []
    for bad in (0, 1, 1, 1, 1, 0, 0, 0):
        await world.minute(1, bad)
        found = await world.store.incidents(IncidentQuery(TENANT))
        states.append(found[0].state.value if found else "none")
    assert states == ["none", "pending", "pending", "firing", "firing", "firing", "firing", "resolved"]
    assert world.told == [("firing", "ops"), ("resolved", "ops")]
    first, last = world.store.notifications.values()
    assert first.incident_id == last.incident_id
    assert (first.value, first.threshold, first.unit) == (0.5, 0.1, "share")
    assert first.summary == "Errors: error_rate is 50%, above 10%, in the last 1 min"
    assert last.resolved_at is not None


async def test_what_does_not_last_is_told_to_nobody(world):
    await world.keep(rule(for_s=120, window_s=60))
    for bad in (1, 0, 1, 0, 1, 0):
        await world.minute(1, bad)
    assert world.told == []
    assert await world.store.incidents(IncidentQuery(TENANT)) == []


async def test_a_run_that_is_repeated_tells_nothing_twice(world):
    await world.keep(rule(window_s=60))
    await world.minute(0, 1)
    for _ in range(3):
        await world.evaluator.run()
    assert world.told == [("firing", "ops")]


async def test_a_flapping_condition_is_one_incident_while_it_is_kept(world):
    await world.keep(rule(window_s=60, keep_firing_s=300))
    for bad in (1, 0, 1, 0, 0, 1, 0, 1):
        await world.minute(1, bad)
    assert world.told == [("firing", "ops")]
    assert len(await world.store.incidents(IncidentQuery(TENANT))) == 1


async def test_each_group_has_an_incident_of_its_own(world):
    await world.keep(rule(window_s=60, group_by=(Dimension.MODEL,)))
    await world.ledger.insert(requests(NOON - timedelta(minutes=1), 5, 0, model_used="good"))
    await world.minute(0, 3, model_used="bad")
    (one,) = await open_incidents(world)
    assert one.group == (("model", "bad"),)


async def test_many_groups_that_begin_at_once_are_one_message_and_end_as_one(world):
    await world.keep(rule(window_s=60, group_by=(Dimension.SERVICE,)))
    at = NOON - timedelta(minutes=1)
    for number in range(5):
        await world.ledger.insert(requests(at, 0, 1, service_name=f"s-{number}"))
    await world.minute(0, 0)
    (one,) = world.store.notifications.values()
    assert "5 incidents" in one.summary
    assert len(await open_incidents(world)) == 5
    await world.minute(1)
    assert world.told == [("firing", "ops"), ("resolved", "ops")]
    assert len({one.incident_id for one in world.store.notifications.values()}) == 1


async def test_reminders_and_escalation_end_with_an_acknowledgement(world):
    await world.keep(rule(window_s=60, repeat_s=300, escalation=Escalation(240, ("boss",))))
    for _ in range(12):
        await world.minute(0, 1)
    assert world.told == [("firing", "ops"), ("escalation", "boss"), ("reminder", "ops"), ("reminder", "boss")]
    (one,) = await open_incidents(world)
    await world.desk.acknowledge(TENANT, one.id, by="me", note="on it")
    for _ in range(12):
        await world.minute(0, 1)
    await world.minute(1)
    assert world.told[4:] == [("resolved", "ops"), ("resolved", "boss")]
    (done,) = await world.store.incidents(IncidentQuery(TENANT))
    assert (done.acknowledged_by, done.note) == ("me", "on it")


async def test_under_a_silence_nobody_is_told_until_it_ends(world):
    await world.keep(rule(window_s=60))
    silence = Silence("s", TENANT, NOON, NOON + timedelta(minutes=3), "me", "maintenance", rule_id="rule-1")
    await world.store.put_silence(silence, most=9, now=NOON)
    await world.minute(0, 1)
    await world.minute(0, 1)
    assert world.told == []
    assert len(await open_incidents(world)) == 1
    await world.minute(0, 1)
    assert world.told == [("firing", "ops")]


@pytest.mark.parametrize(
    ("more", "silent"),
    [
        ({"severity": Severity.CRITICAL}, False),
        ({"severity": Severity.WARNING}, True),
        ({"labels": (("model", "bad"),)}, True),
        ({"labels": (("model", "other"),)}, False),
        ({"rule_id": "another"}, False),
    ],
)
async def test_a_silence_covers_what_it_matches(world, more, silent):
    await world.keep(rule(window_s=60, group_by=(Dimension.MODEL,)))
    silence = Silence("s", TENANT, NOON, NOON + timedelta(hours=3), "me", "maintenance", **more)
    await world.store.put_silence(silence, most=9, now=NOON)
    await world.minute(0, 1, model_used="bad")
    assert world.told == ([] if silent else [("firing", "ops")])


@pytest.mark.parametrize("gone", ["disabled", "deleted"])
async def test_incidents_of_a_rule_that_is_switched_off_end(world, gone):
    await world.keep(rule(window_s=60, keep_firing_s=3600))
    await world.minute(0, 1)
    if gone == "deleted":
        await world.desk.delete(TENANT, "rule-1")
    else:
        await world.keep(rule(window_s=60, enabled=False))
    await world.minute(0, 1)
    assert world.told == [("firing", "ops"), ("resolved", "ops")]
    await world.minute(0, 1)
    assert await open_incidents(world) == []


async def test_while_rollups_stand_still_nothing_is_resolved_and_the_rule_says_so(world):
    await world.keep(rule(window_s=60))
    await world.minute(0, 1)
    world.analytics.as_of = world.clock.now() - timedelta(minutes=1)
    for _ in range(10):
        await world.minute(1, 0)
    (state,) = [one for one in await world.desk.rules(TENANT) if one.rule.id == "rule-1"]
    assert (state.progress.standing, state.firing) == (Standing.STALE, 1)
    assert world.told == [("firing", "ops")]
    world.analytics.as_of = None
    await world.minute(1, 0)
    assert world.told == [("firing", "ops"), ("resolved", "ops")]


async def test_missing_data_is_told_of_also_when_the_rollups_stand_still(world):
    missing = rule(kind=RuleKind.MISSING_DATA, metric=Metric.REQUESTS, window_s=600, threshold=0.0)
    await world.keep(missing)
    await world.minute(1)
    world.analytics.as_of = world.clock.now()
    for _ in range(8):
        await world.minute(1)
    assert world.told == []
    for _ in range(8):
        await world.minute(1)
    assert world.told == [("firing", "ops")]
    (one,) = await open_incidents(world)
    assert one.words.startswith("the rollups end at")


async def test_a_group_that_stopped_is_missed_and_one_that_never_was_is_not(world):
    await world.keep(
        rule(kind=RuleKind.MISSING_DATA, metric=Metric.REQUESTS, window_s=300, group_by=(Dimension.SERVICE,))
    )
    await world.ledger.insert(requests(NOON - timedelta(hours=3), 4, service_name="batch"))
    await world.minute(1, service_name="web")
    (one,) = await open_incidents(world)
    assert one.group == (("service", "batch"),)


async def test_after_an_outage_what_was_missed_is_looked_at_and_only_what_lasts_is_told(world):
    await world.keep(rule(window_s=60, for_s=120))
    await world.minute(1)
    # Nobody evaluates for forty minutes: ten bad ones that are over, and the last five.
    for minute in range(40):
        at = world.clock.now() + timedelta(minutes=minute - 1)
        await world.ledger.insert(requests(at, 1, int(5 <= minute < 15 or minute >= 35)))
    world.clock.advance(40 * 60)
    await world.evaluator.run()
    assert world.told == [("firing", "ops")]
    states = sorted(one.state.value for one in await world.store.incidents(IncidentQuery(TENANT)))
    assert states == ["firing", "resolved"]


async def test_without_a_channel_an_incident_is_kept_and_told_of_once_there_is_one(world):
    world.channels = ()
    await world.keep(rule(window_s=60))
    await world.minute(0, 1)
    assert world.told == []
    assert len(await open_incidents(world)) == 1
    world.channels = ("ops",)
    await world.minute(0, 1)
    assert world.told == [("firing", "ops")]


async def test_when_the_store_is_away_nothing_is_lost(world):
    await world.keep(rule(window_s=60))
    world.store.away = True
    with pytest.raises(DependencyUnavailable):
        await world.minute(0, 1)
    world.store.away = False
    await world.evaluator.run()
    assert world.told == [("firing", "ops")]


async def test_a_rule_whose_budget_is_gone_says_so_and_stops_no_other(world):
    unfit = rule(id="rule-0", name="B", kind=RuleKind.BUDGET_PROJECTION, metric=Metric.REQUESTS, budget="gone")
    await world.keep(unfit, rule(window_s=60))
    await world.minute(0, 1)
    assert world.told == [("firing", "ops")]
    states = {one.rule.id: one.progress for one in await world.desk.rules(TENANT)}
    assert states["rule-0"].standing is Standing.UNFIT
    assert "gone" in states["rule-0"].words


async def test_built_in_rules_are_there_and_speak_when_budgets_burn(world):
    world.store.active.add(TENANT)
    await world.keep(built_in=True)
    await world.ledger.insert(requests(NOON - timedelta(minutes=20), 30, 30))
    await world.ledger.insert(requests(NOON - timedelta(minutes=3), 30, 30))
    await world.minute(5, 5)
    rules = {one.rule_id for one in await open_incidents(world)}
    assert {"router-slo-availability", "router-slo-error-rate"} <= rules
    assert {one.channel for one in world.store.notifications.values()} == {"default"}
    speeds = {dict(one.group)["burn"]: one.severity for one in await open_incidents(world)}
    assert speeds == {"fast": Severity.CRITICAL, "slow": Severity.WARNING}


async def test_rollups_that_stand_still_are_a_built_in_incident(world):
    world.store.active.add(TENANT)
    world.analytics.as_of = NOON - timedelta(minutes=30)
    for _ in range(7):
        await world.minute(1)
    (one,) = await open_incidents(world)
    assert one.rule_id == "router-rollups-stalled"
    assert one.state is IncidentState.FIRING


async def test_a_rule_that_cannot_be_evaluated_silences_no_other_and_says_so(world):
    await world.keep(rule(window_s=60))
    # Another version of the router kept a kind of filter that this one does not know.
    for tenant_id, rule_id in ((TENANT, "broken"), ("a-tenant", "broken")):
        world.store.kept_rules[tenant_id, rule_id] = rule(tenant_id=tenant_id, id=rule_id, filters=("nonsense",))
    await world.minute(0, 1)
    assert world.told == [("firing", "ops")]
    assert {line["rule"] for line in world.telemetry.events()["alert_rule_failed"]} == {"broken"}
    async with world.store.step(TENANT, world.clock.now()) as step:
        assert step.state.progress["broken"].standing is Standing.UNFIT


async def test_a_tenant_whose_step_fails_holds_up_no_other(world, monkeypatch):
    await world.keep(rule(window_s=60))
    world.store.active.add("a-tenant")
    step = world.store.step

    def failing(tenant_id, now):
        if tenant_id == "a-tenant":
            raise RuntimeError("stands for a row that no version can read")
        return step(tenant_id, now)

    monkeypatch.setattr(world.store, "step", failing)
    with pytest.raises(ExceptionGroup):
        await world.minute(0, 1)
    assert world.told == [("firing", "ops")]


async def test_the_end_of_one_incident_is_told_before_the_next_one_begins(world):
    await world.keep(rule(window_s=60))
    await world.minute(0, 1)
    for bad in (0, 1):
        await world.ledger.insert(requests(world.clock.now() - timedelta(minutes=1), 1, bad))
        world.clock.advance(60)
    await world.evaluator.run()
    assert world.told == [("firing", "ops"), ("resolved", "ops"), ("firing", "ops")]
