"""Rules and limits in the policy file: what reaches the domain, and that mistakes are refused by the rule's name."""

import json
import tomllib
from datetime import UTC, date, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shared.domain.chat import ReasoningEffort
from shared.domain.models import Registry
from shared.domain.policy import CallerLimits, Policy, Preset, ServicePolicy, Weights
from shared.domain.rules import (
    Actions,
    Between,
    Condition,
    During,
    EveryOf,
    OnDates,
    OneOf,
    Rule,
    ServiceLike,
    SomeOf,
    Streamed,
    Tagged,
)
from shared.domain.security import SecurityLevel
from shared.stores.registry_files import RegistryError, parse_policy
from shared.stores.rules_schema import LimitsTable, RuleTable, WhenTable
from tests.unit.routing_builders import deployment, model, registry

PRESETS = """
[presets]
balanced = { quality = 1, cost = 1, latency = 1, reliability = 1, load = 1 }
cost = { quality = 0, cost = 1, latency = 0, reliability = 0, load = 0 }
quality = { quality = 1, cost = 0, latency = 0, reliability = 0, load = 0 }
latency = { quality = 0, cost = 0, latency = 1, reliability = 0, load = 0 }
[services.overseas]
residency = ["us"]
deny_models = ["large"]
"""
SMALL, LARGE, OWN = model("small"), model("large"), model("own")
SHELF: Registry = registry(
    (SMALL, deployment("small")),
    (SMALL, deployment("small", "us-central1", residency=frozenset({"us"}))),
    (LARGE, deployment("large")),
    (LARGE, deployment("large", "us-central1", residency=frozenset({"us"}))),
    (OWN, deployment("own", clearance=SecurityLevel.RESTRICTED)),
    aliases={"small@001": "small"},
)


def load(text: str) -> Policy:
    document, base = tomllib.loads(text), tomllib.loads(PRESETS)
    services = base["services"] | document.pop("services", {})
    return parse_policy({**base, **document, "services": services}, SHELF)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(RegistryError) as caught:
        load(text)
    return caught.value.problems


EVERYTHING = """
[[rules]]
name = "everything"
priority = 7
effort = "none"
[rules.when]
category = ["math", "reasoning"]
complexity = { min = 0.5, max = 0.9 }
complexity_level = ["high"]
security_level = { max = "internal" }
language = ["de"]
content_type = ["prose", "image"]
modality = { any = ["image"], all = ["text"] }
prompt_tokens = { min = 10 }
needs = ["tools", "json"]
service = ["a", "b-*"]
tags = { team = ["x"], stage = ["prod", "test"] }
stream = false
time = { days = ["sat", "sun"], from = 22:00:00, until = "06:30", zone = "Europe/Berlin" }
dates = { from = 2026-12-01, zone = "+05:30" }
any_of = [{ language = ["de"] }, { stream = true }]
not = { category = ["translation"], service = ["b-x"] }
[[rules]]
name = "acts"
when.stream = true
allow_models = ["small@001", "large"]
deny_models = ["own"]
prefer = { "small@001" = 0.25 }
pin = { model = "small@001" }
weights = { quality = 1, cost = 2, latency = 3, reliability = 4, load = 5 }
effort = "low"
cap_cost_usd = "0.05"
max_level = "internal"
residency = ["eu"]
stop = true
[[rules]]
name = "first"
priority = 9
when.service = ["z"]
pin = { deployment = "own@europe-west4" }
preset = "cost"
"""


def test_every_field_reaches_the_domain():
    first, everything, acts = load(EVERYTHING).rules
    only_z = Condition((ServiceLike(frozenset({"z"})),))
    assert first == Rule("first", 9, only_z, Actions(pin_deployment="own@europe-west4", preset=Preset.COST))
    weekend = During(frozenset({5, 6}), 22 * 60, 6 * 60 + 30, ZoneInfo("Europe/Berlin"))
    half_past = timezone(timedelta(hours=5, minutes=30))
    assert (everything.name, everything.priority, everything.actions) == (
        "everything", 7, Actions(effort=ReasoningEffort.NONE),
    )  # fmt: skip
    assert everything.when == Condition(
        all_of=(
            OneOf("category", frozenset({"math", "reasoning"})),
            OneOf("complexity_level", frozenset({"high"})),
            OneOf("language", frozenset({"de"})),
            OneOf("content_type", frozenset({"prose", "image"})),
            Between("complexity", 0.5, 0.9),
            Between("security_level", 0, 1),
            Between("prompt_tokens", 10),
            Streamed(wanted=False),
            EveryOf("needs", frozenset({"tools", "json"})),
            SomeOf("modality", frozenset({"image"})),
            EveryOf("modality", frozenset({"text"})),
            Tagged("stage", frozenset({"prod", "test"})),
            Tagged("team", frozenset({"x"})),
            ServiceLike(frozenset({"a"}), ("b-*",)),
            OnDates(date(2026, 12, 1), date.max, half_past),
            weekend,
        ),
        any_of=((OneOf("language", frozenset({"de"})),), (Streamed(wanted=True),)),
        none_of=((OneOf("category", frozenset({"translation"})), ServiceLike(frozenset({"b-x"}))),),
    )
    assert acts.actions == Actions(
        allow_models=frozenset({"small", "large"}),
        deny_models=frozenset({"own"}),
        prefer={"small": 0.25},
        pin_model="small",
        weights=Weights(1, 2, 3, 4, 5),
        effort=ReasoningEffort.LOW,
        cap_cost_usd=Decimal("0.05"),
        max_level=SecurityLevel.INTERNAL,
        residency=frozenset({"eu"}),
        stop=True,
    )


def test_limits_reach_the_domain_and_a_services_own_replace_them():
    policy = load("""
[limits]
presets = ["balanced"]
pin = false
weight_ranges = { quality = { min = 0.2 }, cost = { max = 0.5 } }
[services.free.limits]
weights = false
""")
    ranges = {"quality": (0.2, 1.0), "cost": (0.0, 0.5)}
    general = CallerLimits(frozenset({Preset.BALANCED}), weight_ranges=ranges, pin=False)
    assert policy.limits_for("overseas") == general
    assert policy.limits_for("free") == CallerLimits(weights=False)
    assert load("").limits == CallerLimits()
    assert policy.services["overseas"] == ServicePolicy(residency=frozenset({"us"}), deny_models=frozenset({"large"}))


def test_time_zones_are_offsets_names_or_utc():
    zones = {"UTC": UTC, "-03:30": timezone(-timedelta(hours=3, minutes=30)), "Asia/Tokyo": ZoneInfo("Asia/Tokyo")}
    for name, zone in zones.items():
        rule = load(f'[[rules]]\nname = "r"\nstop = true\nwhen.time = {{ until = "24:00", zone = "{name}" }}').rules[0]
        assert rule.when.all_of == (During(frozenset(range(7)), 0, 1440, zone),)


def test_version_covers_rules_and_limits_and_a_kept_policy_is_the_same_again():
    versions = {
        load(text).version for text in ("", EVERYTHING, EVERYTHING.replace("0.9 }", "0.8 }"), "limits.pin = false")
    }
    assert len(versions) == 4
    policy = load(EVERYTHING)
    assert parse_policy(json.loads(policy.document), SHELF) == policy


R = '[[rules]]\nname = "r"\n'
A, B = '[[rules]]\nname = "a"\n', '[[rules]]\nname = "b"\n'
MISTAKES: list[tuple[str, str, str]] = [
    ("no name", "[[rules]]\nstop = true", "policy.toml: rules[0].name: Field required"),
    ("name twice", R + "stop = true\nwhen.stream = true\n" + R + "effort = 'low'", "rules[r].name: occurs 2 times"),
    ("not a list", "[rules]\nname = 1", "policy.toml: rules: Input should be a valid"),
    ("not a table", "rules = [1]", "policy.toml: rules[0]: "),
    ("unknown action", R + "alow_models = ['small']", "rules[r].alow_models: Extra inputs"),
    ("unknown fact", R + "stop = true\nwhen.colour = 'red'", "rules[r].when.colour: Extra inputs"),
    ("an expression", R + "stop = true\nwhen = 'category == math'", "rules[r].when: Input should be"),
    ("no action", R + "when.stream = true", "rules[r].does nothing"),
    ("unknown model allowed", R + "allow_models = ['gone']", "rules[r].allow_models: no model 'gone'"),
    ("unknown model denied", R + "deny_models = ['gone']", "rules[r].deny_models: no model 'gone'"),
    ("unknown model preferred", R + "prefer = { gone = 0.1 }", "rules[r].prefer: no model 'gone'"),
    ("unknown model pinned", R + "pin = { model = 'gone' }", "rules[r].pin.model: no model 'gone'"),
    ("unknown deployment pinned", R + "pin = { deployment = 'gone' }", "rules[r].pin.deployment: no deployment 'gone'"),
    ("unknown zone", R + "residency = ['ch']", "rules[r].residency: no deployment lies in 'ch'"),
    ("unknown preset", R + "preset = 'best'", "rules[r].preset: "),
    ("unknown category", R + "stop = true\nwhen.category = ['maths']", "rules[r].when.category[0]: "),
    ("unknown content type", R + "stop = true\nwhen.content_type = ['poem']", "rules[r].when.content_type[0]: Value error, must be one of audio"),
    ("unknown level", R + "max_level = 'secret'", "rules[r].max_level: Value error, must be one of public"),
    ("unknown effort", R + "effort = 'extreme'", "rules[r].effort: "),
    ("unknown need", R + "stop = true\nwhen.needs = ['luck']", "rules[r].when.needs[0]: "),
    ("unknown time zone", R + "stop = true\nwhen.time = { zone = 'Europe/Bonn' }", "rules[r].when.time.zone: Value error, no such time zone"),
    ("a path for a time zone", R + "stop = true\nwhen.time = { zone = '../../etc/passwd' }", "rules[r].when.time.zone: Value error"),
    ("a folder for a time zone", R + "stop = true\nwhen.dates = { zone = 'Europe' }", "rules[r].when.dates.zone: Value error"),
    ("offset too large", R + "stop = true\nwhen.dates = { zone = '+24:00' }", "rules[r].when.dates.zone: Value error"),
    ("unknown day", R + "stop = true\nwhen.time = { days = ['monday'] }", "rules[r].when.time.days[0]: "),
    ("no time of day", R + "stop = true\nwhen.time = { from = '25:00' }", "rules[r].when.time.from: Value error, must be a time of day"),
    ("empty window", R + "stop = true\nwhen.time = { from = '08:00', until = '08:00' }", "rules[r].when.time: from and until are the same"),
    ("dates reversed", R + "stop = true\nwhen.dates = { from = 2026-12-02, until = 2026-12-01 }", "rules[r].when.dates: from is after until"),
    ("complexity reversed", R + "stop = true\nwhen.complexity = { min = 0.9, max = 0.1 }", "rules[r].when.complexity: min is above max"),
    ("level reversed", R + "stop = true\nwhen.security_level = { min = 'restricted', max = 'public' }", "rules[r].when.security_level: min is above max"),
    ("tokens reversed", R + "stop = true\nwhen.prompt_tokens = { min = 9, max = 8 }", "rules[r].when.prompt_tokens: min is above max"),
    ("complexity of two", R + "stop = true\nwhen.complexity = { max = 2 }", "rules[r].when.complexity.max: "),
    ("empty list", R + "stop = true\nwhen.language = []", "rules[r].when.language: List should have at least 1 item"),
    ("empty modality", R + "stop = true\nwhen.modality = {}", "rules[r].when.modality: has neither any nor all"),
    ("empty alternative", R + "stop = true\nwhen.any_of = [{}]", "rules[r].when.any_of[0]: has no condition"),
    ("reversed in an alternative", R + "stop = true\nwhen.any_of = [{ complexity = { min = 1, max = 0 } }]", "rules[r].when.any_of[0].complexity: min is above max"),
    ("nothing but not", R + "stop = true\nwhen.not = {}", "rules[r].when.not[0]: has no condition"),
    ("nested alternatives", R + "stop = true\nwhen.any_of = [{ any_of = [{ stream = true }] }]", "rules[r].when.any_of[0].any_of: Extra inputs"),
    ("never holds", R + "stop = true\nwhen.language = ['de']\nwhen.not = { language = ['de', 'fr'] }", "rules[r].when: never holds"),
    ("service with a bracket", R + "stop = true\nwhen.service = ['[ab]']", "rules[r].when.service[0]: "),
    ("preference too strong", R + "prefer = { small = 0.51 }", "rules[r].prefer.small: Input should be less than or equal to 0.5"),
    ("preference of nothing", R + "prefer = { small = 0 }", "rules[r].prefer.small: Input should be greater than 0"),
    ("cap of nothing", R + "cap_cost_usd = '0'", "rules[r].cap_cost_usd: Input should be greater than 0"),
    ("float cap", R + "cap_cost_usd = 0.1", "rules[r].cap_cost_usd: Value error, write prices as text"),
    ("two pins", R + "pin = { model = 'small', deployment = 'own@europe-west4' }", "rules[r].pin: name either a model or a deployment"),
    ("empty pin", R + "pin = {}\nstop = true", "rules[r].pin: name either a model or a deployment"),
    ("preset and weights", R + "preset = 'cost'\nweights = { quality = 1, cost = 0, latency = 0, reliability = 0, load = 0 }", "rules[r].weights: give either"),
    ("no weight", R + "weights = { quality = 0, cost = 0, latency = 0, reliability = 0, load = 0 }", "rules[r].weights: all weights are zero"),
    ("allowed and denied", R + "allow_models = ['small']\ndeny_models = ['small@001']", "rules[r].deny_models: 'small' is also allowed"),
    ("pinned and denied", R + "pin = { deployment = 'own@europe-west4' }\ndeny_models = ['own']", "rules[r].pin: 'own' is denied by the same rule"),
    ("pinned, not allowed", R + "pin = { model = 'own' }\nallow_models = ['small']", "rules[r].pin: 'own' is not among the allow_models"),
    ("preferred and denied", R + "prefer = { own = 0.1 }\ndeny_models = ['own']", "rules[r].prefer: 'own' is denied by the same rule"),
    ("denied where something else pins it", A + "priority = 1\ndeny_models = ['large']\nwhen.language = ['de']\n" + B + "pin = { model = 'large' }", "rules[a]: no deployment is left for the requests it matches together with 'b'"),
    ("all denied", R + "deny_models = ['own', 'small', 'large']", "rules[r]: no deployment is left for the requests it matches"),
    ("pin outside the zone", R + "pin = { deployment = 'own@europe-west4' }\nresidency = ['us']", "rules[r]: no deployment is left"),
    ("pin of one not cleared", R + "when.security_level = { min = 'restricted' }\npin = { model = 'small' }", "rules[r]: no deployment is left"),
    ("pin denied to the service", R + "when.service = ['overseas']\npin = { model = 'large' }", "rules[r]: no deployment is left of those that service 'overseas' may use"),
    ("rival pins", A + "pin = { model = 'small' }\n" + B + "pin = { model = 'large' }", "rules[b].pin: rule 'a' of the same priority"),
    ("rival pins that overlap", A + "pin = { model = 'small' }\nwhen.language = ['de']\n" + B + "pin = { model = 'large' }\nwhen.stream = true", "rules[b].pin: rule 'a' of the same priority"),
    ("pin denied above", A + "priority = 1\ndeny_models = ['large']\nwhen.stream = true\n" + B + "pin = { model = 'large' }\nwhen.stream = true", "rules[a]: no deployment is left for the requests it matches together with 'b'"),
    ("pin denied below", A + "priority = -1\ndeny_models = ['large']\n" + B + "pin = { model = 'large' }\nwhen.stream = true", "rules[b]: no deployment is left for the requests it matches together with 'a'"),
    ("nothing allowed by both", A + "allow_models = ['small']\n" + B + "allow_models = ['large']\nwhen.stream = true", "rules[b]: no deployment is left for the requests it matches together with 'a'"),
    ("no common zone", A + "residency = ['eu']\n" + B + "residency = ['us']", "rules[a]: no deployment is left for the requests it matches together with 'b'"),
    ("never looked at", A + "priority = 1\nstop = true\n" + B + "effort = 'low'\nwhen.stream = true", "rules[b]: is never looked at, because rule 'a' stops before it"),
    ("never looked at for its condition", A + "priority = 1\nstop = true\nwhen.language = ['de', 'fr']\n" + B + "effort = 'low'\nwhen.language = ['de']", "rules[b]: is never looked at"),
    ("limit on an unknown preset", "limits.presets = ['best']", "policy.toml: limits.presets[0]: "),
    ("limit on an unknown factor", "limits.weight_ranges = { luck = { min = 1 } }", "policy.toml: limits.weight_ranges.luck"),
    ("limits reversed", "limits.weight_ranges = { cost = { min = 0.5, max = 0.4 } }", "policy.toml: limits.weight_ranges.cost: min is above max"),
    ("limits too high", "limits.weight_ranges = { cost = { min = 0.6 }, quality = { min = 0.6 } }", "policy.toml: limits.weight_ranges: no weights"),
    ("limits of a service", "services.x.limits.weight_ranges = { quality = { max = 0.1 }, cost = { max = 0.1 }, latency = { max = 0.1 }, reliability = { max = 0.1 }, load = { max = 0.1 } }", "policy.toml: services.x.limits.weight_ranges: no weights"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "text", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_refused_with_the_rule_named(case: str, text: str, message: str):
    found = problems(text)
    assert any(message in problem for problem in found), found


SOUND = [
    ("pins of different priority", A + "priority = 1\npin = { model = 'small' }\n" + B + "pin = { model = 'large' }"),
    ("pins that cannot meet", A + "pin = { model = 'small' }\nwhen.stream = true\n" + B + "pin = { model = 'large' }\nwhen.not = { stream = true }"),
    ("the same pin", A + "pin = { model = 'small' }\n" + B + "pin = { model = 'small@001' }\nwhen.stream = true"),
    ("a denial that only sometimes meets the pin", A + "priority = 1\ndeny_models = ['large']\nwhen.language = ['de']\n" + B + "pin = { model = 'large' }\nwhen.stream = true"),
    ("a denial behind a stop", A + "pin = { model = 'large' }\nwhen.stream = true\nstop = true\n" + B + "priority = -1\ndeny_models = ['large']"),
    ("a denial behind another's stop", A + "pin = { model = 'large' }\nwhen.stream = true\n[[rules]]\nname = 's'\npriority = -1\nwhen.language = ['de']\nstop = true\n" + B + "priority = -2\ndeny_models = ['large']"),
    ("a stop that only sometimes comes first", A + "priority = 1\nstop = true\nwhen.stream = true\n" + B + "effort = 'low'"),
    ("restricted content blocked altogether", R + "when.security_level = { min = 'restricted' }\nmax_level = 'confidential'"),
    ("a service that may use the pinned one", R + "when.service = ['overseas']\npin = { model = 'small' }"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "text"), SOUND, ids=[s[0] for s in SOUND])
def test_accepted_because_no_contradiction_is_proven(case: str, text: str):
    assert load(text).rules


def test_all_problems_come_at_once_and_once():
    found = problems(
        A + "alow_models = ['small']\n"
        + B + "pin = { model = 'gone' }\nwhen.complexity = { min = 1, max = 0 }\n"
        + '[[rules]]\nname = "c"\nstop = true\n[[rules]]\nname = "d"\npriority = -1\neffort = "low"\n'
        + "[limits]\npin = 3\n"
    )  # fmt: skip
    assert [problem.split(": ")[1] for problem in found] == [
        "rules[a].alow_models", "rules[b].pin.model", "rules[b].when.complexity", "limits.pin",
    ]  # fmt: skip
    between = problems(
        '[[rules]]\nname = "c"\nstop = true\n[[rules]]\nname = "d"\npriority = -1\neffort = "low"\n'
        + A + "alow_models = ['small']\n"
    )  # fmt: skip
    assert [problem.split(": ")[1] for problem in between] == ["rules[a].alow_models", "rules[d]"]


def test_the_guide_names_every_condition_and_action():
    guide = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    keys = {f.alias or name for table in (WhenTable, RuleTable, LimitsTable) for name, f in table.model_fields.items()}
    assert {key for key in keys if f"`{key}" not in guide and f"{key} = " not in guide} <= {"name", "when"}
