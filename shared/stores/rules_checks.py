"""What must hold between task-routing rules, the registry and the rest of the policy. Each check yields sentences.

Only what is proven is refused (`shared.scoring.rule_logic`): a rule that names what does not exist, that can never
match or is never looked at, and rules that leave nothing to choose from whenever they match.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from shared.domain import rules as facts
from shared.domain.models import Deployment, Registry
from shared.domain.policy import Policy, ServicePolicy
from shared.domain.rules import Actions, Between, Rule, ServiceLike
from shared.scoring.rule_logic import exclude, implies, never_holds
from shared.stores.rules_schema import GroupTable, LimitsTable, RuleTable, ShareRange, WeightsTable

_ALL_SHARES = 1.0


def rule_problems(table: RuleTable, names: Mapping[str, str], registry: Registry) -> Iterator[str]:
    """What is wrong with one rule.

    Args:
        table: the rule as written.
        names: every model id and alias, with the model id it stands for.
        registry: models and deployments.
    """
    yield from _unknown_names(table, names, registry)
    yield from _condition_problems(table)
    rule = table.to_domain(dict(names))
    do = rule.actions
    if do == Actions():
        yield "does nothing: give it an action"
    if table.pin is not None and (table.pin.model is None) is (table.pin.deployment is None):
        yield "pin: name either a model or a deployment"
    if do.preset is not None and do.weights is not None:
        yield "weights: give either a preset or weights"
    if table.weights is not None and not any(table.weights.model_dump().values()):
        yield "weights: all weights are zero"
    yield from _own_contradictions(do, registry)


def policy_rule_problems(policy: Policy, registry: Registry) -> Iterator[str]:
    """What is wrong between rules, each of which is right by itself. Every sentence begins with the rule's name."""
    rules = policy.rules
    for name, count in Counter(rule.name for rule in rules).items():
        if count > 1:
            yield f"rules[{name}].name: occurs {count} times"
    for index, rule in enumerate(rules):
        for earlier in rules[:index]:
            if earlier.actions.stop and implies(rule.when, earlier.when):
                yield f"rules[{rule.name}]: is never looked at, because rule {earlier.name!r} stops before it"
                break
    yield from _rival_pins(rules)
    yield from _dead_ends(policy, registry)


def limits_problems(limits: LimitsTable) -> Iterator[str]:
    """What is wrong with the limits on callers."""
    given = dict[str, ShareRange](limits.weight_ranges.items())
    ranges = {factor: given.get(factor, ShareRange()) for factor in WeightsTable.model_fields}
    for factor, share in ranges.items():
        if share.min > share.max:
            yield f"weight_ranges.{factor}: min is above max"
    least, most = sum(share.min for share in ranges.values()), sum(share.max for share in ranges.values())
    if least > _ALL_SHARES or most < _ALL_SHARES:
        yield "weight_ranges: no weights whose shares add up to 1 lie within them"


def _unknown_names(table: RuleTable, names: Mapping[str, str], registry: Registry) -> Iterator[str]:
    pinned = [] if table.pin is None or table.pin.model is None else [table.pin.model]
    listed: tuple[tuple[str, Iterable[str]], ...] = (
        ("allow_models", table.allow_models or ()),
        ("deny_models", table.deny_models or ()),
        ("prefer", table.prefer),
        ("pin.model", pinned),
    )
    for key, models in listed:
        for name in models:
            if name not in names:
                yield f"{key}: no model {name!r} in the registry"
    target = None if table.pin is None else table.pin.deployment
    if target is not None and all(deployment.id != target for deployment in registry.deployments):
        yield f"pin.deployment: no deployment {target!r} in the registry"
    zones = {zone for deployment in registry.deployments for zone in deployment.residency}
    for zone in table.residency or ():
        if zone not in zones:
            yield f"residency: no deployment lies in {zone!r}"


def _condition_problems(table: RuleTable) -> Iterator[str]:
    when = table.when
    groups: list[tuple[str, GroupTable]] = [("when", when)]
    groups += [(f"when.any_of[{index}]", group) for index, group in enumerate(when.any_of or ())]
    groups += [(f"when.not[{index}]", group) for index, group in enumerate(when.none_of or ())]
    sound = True
    for where, group in groups:
        for problem in _group_problems(group):
            sound = False
            yield f"{where}.{problem}"
        if group is not when and not group.to_group():
            sound = False
            yield f"{where}: has no condition"
    if sound and never_holds(when.to_domain()):
        yield "when: never holds, its conditions exclude each other"


def _group_problems(group: GroupTable) -> Iterator[str]:
    for key in ("complexity", "security_level"):
        bounds = getattr(group, key)
        if bounds is not None and bounds.min > bounds.max:
            yield f"{key}: min is above max"
    tokens = group.prompt_tokens
    if tokens is not None and tokens.max is not None and tokens.min > tokens.max:
        yield "prompt_tokens: min is above max"
    if group.dates is not None and group.dates.first > group.dates.until:
        yield "dates: from is after until"
    if group.time is not None and group.time.start == group.time.until:
        yield "time: from and until are the same time"
    if group.modality is not None and group.modality.any is None and group.modality.all is None:
        yield "modality: has neither any nor all"


def _own_contradictions(do: Actions, registry: Registry) -> Iterator[str]:
    for name in sorted(do.deny_models & (do.allow_models or frozenset())):
        yield f"deny_models: {name!r} is also allowed"
    wanted = [("prefer", model_id) for model_id in sorted(do.prefer)]
    wanted += [("pin", d.model_id) for d in registry.deployments if d.id == do.pin_deployment]
    if do.pin_model is not None:
        wanted.append(("pin", do.pin_model))
    for key, name in wanted:
        if name in do.deny_models:
            yield f"{key}: {name!r} is denied by the same rule"
        if do.allow_models is not None and name not in do.allow_models:
            yield f"{key}: {name!r} is not among the allow_models of the same rule"


def _rival_pins(rules: Sequence[Rule]) -> Iterator[str]:
    pinning = [rule for rule in rules if rule.actions.pins]
    for first, second in combinations(pinning, 2):
        a, b = first.actions, second.actions
        differ = (a.pin_model, a.pin_deployment) != (b.pin_model, b.pin_deployment)
        if first.priority == second.priority and differ and not exclude(first.when, second.when):
            yield (
                f"rules[{second.name}].pin: rule {first.name!r} of the same priority may match the same request and "
                "pins something else; give them different priorities, or conditions that exclude each other"
            )


def _dead_ends(policy: Policy, registry: Registry) -> Iterator[str]:
    """Rules that leave no deployment whenever they match, by themselves or with others that then match as well."""
    guilty: set[str] = set()
    for index, rule in enumerate(policy.rules):
        together = _certain(policy.rules, index)
        if any(other.name in guilty for other in together):
            continue
        cleared = _cleared(registry, rule)
        if not cleared:
            continue
        others = ", ".join(repr(other.name) for other in together if other is not rule)
        with_others = f" together with {others}" if others else ""
        left = _left(cleared, together, None)
        if not left:
            guilty.add(rule.name)
            yield f"rules[{rule.name}]: no deployment is left for the requests it matches{with_others}"
            continue
        for service in _named_services(rule):
            if not _left(cleared, together, policy.for_service(service)):
                guilty.add(rule.name)
                left_out = f"no deployment is left of those that service {service!r} may use"
                yield f"rules[{rule.name}]: {left_out}{with_others}"


def _certain(rules: Sequence[Rule], index: int) -> list[Rule]:
    """The rule and those that match whenever it does, in order."""
    rule = rules[index]
    certain = [earlier for earlier in rules[:index] if implies(rule.when, earlier.when)] + [rule]
    if rule.actions.stop:
        return certain
    for later in rules[index + 1 :]:
        if implies(rule.when, later.when):
            certain.append(later)
        if later.actions.stop and not exclude(rule.when, later.when):
            break
    return certain


def _cleared(registry: Registry, rule: Rule) -> list[Deployment]:
    """Deployments that may take the content that the rule is about."""
    levels = [c.minimum for c in rule.when.all_of if isinstance(c, Between) and c.fact == facts.SECURITY_LEVEL]
    return [d for d in registry.deployments if d.enabled and d.clearance >= max(levels, default=0)]


def _left(deployments: Iterable[Deployment], rules: Iterable[Rule], service: ServicePolicy | None) -> list[Deployment]:
    left = list(deployments)
    pinned = False
    for do in (rule.actions for rule in rules):
        allowed, zones = do.allow_models, do.residency
        left = [d for d in left if (allowed is None or d.model_id in allowed) and d.model_id not in do.deny_models]
        left = [d for d in left if zones is None or (d.residency and d.residency <= zones)]
        if do.pins and not pinned:
            left = [d for d in left if do.pin_model in (None, d.model_id) and do.pin_deployment in (None, d.id)]
            pinned = True
    if service is not None:
        allowed, zones = service.allow_models or None, service.residency or None
        left = [d for d in left if (allowed is None or d.model_id in allowed) and d.model_id not in service.deny_models]
        left = [d for d in left if zones is None or (d.residency and d.residency <= zones)]
    return left


def _named_services(rule: Rule) -> list[str]:
    """The services that a rule is about, where it names each."""
    clauses = [clause for clause in rule.when.all_of if isinstance(clause, ServiceLike) and not clause.patterns]
    return sorted({name for clause in clauses for name in clause.names})
