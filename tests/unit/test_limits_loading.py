"""``[[rate_limits]]`` and ``[[budgets]]`` in the policy file: what they become, and that every mistake is named."""

import tomllib

import pytest

from shared.domain.budgets import Budget, Period
from shared.domain.identity import Principal, RouterRole
from shared.domain.limits import EndpointClass, Priority, RateLimit, WhenAway
from shared.domain.scopes import Per, Scope
from shared.stores.registry_files import RegistryError, load_policy, load_registry, parse_kept, parse_policy
from tests.unit.routing_builders import deployment, model, registry

REGISTRY = registry((model("a"), deployment("a")))
WEIGHTS = "".join(
    f"[presets.{name}]\nquality = 1\ncost = 0\nlatency = 0\nreliability = 0\nload = 0\n"
    for name in ("balanced", "cost", "quality", "latency")
)
ALL = """
[[rate_limits]]
name = "everything"
per = "tag"
tag = "project"
values = ["x"]
services = ["shop"]
tenants = ["t"]
classes = ["generate", "embed"]
requests_per_minute = 60
request_burst = 7
tokens_per_minute = 1_000
token_burst = 2_000
concurrent = 3
low_priority_share = 0.5
when_redis_is_away = "closed"
local_share = 0.1
[[budgets]]
name = "month"
per = "team"
period = "month"
hard_usd = "500"
soft_usd = "399.999999"
when_redis_is_away = "open"
[services.shop]
team = "commerce"
priority = "low"
"""


def parse(text: str):
    return parse_policy(tomllib.loads(WEIGHTS + text), REGISTRY)


def problems(text: str) -> str:
    with pytest.raises(RegistryError) as refusal:
        parse(text)
    return "\n".join(refusal.value.problems)


def test_every_field_arrives():
    policy = parse(ALL)
    assert policy.rate_limits == (
        RateLimit(
            "everything",
            Scope(Per.TAG, "project", frozenset({"x"}), frozenset({"shop"}), frozenset({"t"})),
            frozenset({EndpointClass.GENERATE, EndpointClass.EMBED}),
            60,
            7,
            1_000,
            2_000,
            3,
            0.5,
            WhenAway.CLOSED,
            0.1,
        ),
    )
    assert policy.budgets == (
        Budget("month", Period.MONTH, Scope(Per.TEAM), 500_000_000, 399_999_999, open_when_away=True),
    )
    assert policy.for_service("shop").priority is Priority.LOW


def test_the_policys_team_is_worth_more_than_the_callers_tag():
    policy = parse(ALL)
    shop, other = (Principal("p", "t", name, frozenset({RouterRole.SERVICE})) for name in ("shop", "other"))
    tags = (("team", "claimed"),)
    assert policy.subject_of(shop, tags).team == "commerce"
    assert policy.subject_of(other, tags).team == "claimed"
    assert policy.subject_of(other).team is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[rate_limits]]\nname = "r"', "rate_limits[r].requests_per_minute: a limit needs this"),
        (
            '[[rate_limits]]\nname = "r"\nconcurrent = 1\nrequest_burst = 2',
            "rate_limits[r].request_burst: has no meaning",
        ),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 1\ntoken_burst = 2', "rate_limits[r].token_burst: has no meaning"),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 0', "rate_limits[0].concurrent"),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 1\nper = "tag"', "rate_limits[r].tag: "),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 1\ntag = "x"', "rate_limits[r].tag: "),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 1\n' * 2, "rate_limits[r].name: is given more than once"),
        ('[[rate_limits]]\nname = "with space"\nconcurrent = 1', "rate_limits[0].name"),
        ('[[rate_limits]]\nname = "r"\nconcurent = 1', "rate_limits[0].concurent"),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 1\nclasses = ["chat"]', "rate_limits[0].classes[0]"),
        ('[[rate_limits]]\nname = "r"\nconcurrent = 1\nlow_priority_share = 0', "low_priority_share"),
        ('[[budgets]]\nname = "b"\nperiod = "day"', "budgets[b].hard_usd: a budget needs this or soft_usd"),
        ('[[budgets]]\nname = "b"\nperiod = "day"\nhard_usd = "1"\nsoft_usd = "2"', "budgets[b].soft_usd: is above"),
        ('[[budgets]]\nname = "b"\nperiod = "week"\nhard_usd = "1"', "budgets[0].period"),
        ('[[budgets]]\nname = "b"\nperiod = "day"\nhard_usd = 1.5', "budgets[0].hard_usd"),
        ('[[budgets]]\nname = "b"\nperiod = "day"\nhard_usd = "0.0000001"', "budgets[0].hard_usd"),
        ('[[budgets]]\nname = "b"\nperiod = "day"\nhard_usd = "-1"', "budgets[0].hard_usd"),
        ('[[budgets]]\nname = "b"\nperiod = "day"\nhard_usd = "1"\nwhen_redis_is_away = "local"', "when_redis_is_away"),
        ('[services.s]\npriority = "high"', "services.s.priority"),
    ],
)
def test_every_mistake_is_named(text, expected):
    assert expected in problems(text)


def test_the_version_says_when_a_limit_changed_and_a_kept_policy_comes_back():
    assert parse(ALL).version != parse(ALL.replace("request_burst = 7", "request_burst = 8")).version
    shipped = load_registry(*_shipped())
    policy = load_policy(*_shipped(), registry=shipped)
    assert parse_kept(shipped.document, policy.document)[1].rate_limits == policy.rate_limits == ()


def _shipped():
    from shared.config import REGISTRY_DIRECTORY  # noqa: PLC0415 - one test needs it

    return (REGISTRY_DIRECTORY,)
