"""What two hundred task-routing rules cost a request: `python -m tests.bench.rules_cost`."""

import timeit
from zoneinfo import ZoneInfo

from shared.domain.policy import RoutingConstraints
from shared.domain.rules import (
    Actions,
    Between,
    Clause,
    Condition,
    During,
    EveryOf,
    OneOf,
    Rule,
    ServiceLike,
    Tagged,
)
from shared.scoring.engine import Question
from shared.scoring.rules import apply
from tests.unit.routing_builders import NOW, features, policy

RULES = 200
ROUNDS, REPEATS = 2000, 5
HOURS = During(frozenset(range(5)), 0, 60, ZoneInfo("Europe/Berlin"))


def clauses(number: int) -> dict[str, tuple[Clause, ...]]:
    """Conditions of rule `number` that do not match, by kind; and none at all, which always does."""
    return {
        "category": (OneOf("category", frozenset({"math"})),),
        "numbers": (Between("complexity", 0.9), Between("prompt_tokens", 5000)),
        "service": (ServiceLike(frozenset({f"service-{number}"})),),
        "service pattern": (ServiceLike(patterns=(f"batch-{number}-*",)),),
        "tag": (Tagged("team", frozenset({f"team-{number}"})),),
        "time": (HOURS,),
        "needs": (EveryOf("needs", frozenset({"tools"})),),
        "always": (),
    }


def main() -> None:
    """Print microseconds a request for each kind of condition, and for a mixture of those that do not match."""
    question = Question(features(), RoutingConstraints(), "svc", tags=(("team", "x"),))
    kinds = list(clauses(0))
    for kind in [*kinds, "mixed"]:
        chosen = [kinds[n % (len(kinds) - 1)] if kind == "mixed" else kind for n in range(RULES)]
        deny = [Actions(deny_models=frozenset({f"m{n}"})) for n in range(RULES)]
        book = policy(
            rules=tuple(Rule(f"r{n}", n, Condition(clauses(n)[chosen[n]]), deny[n]) for n in range(RULES))
        ).rules
        best_s = min(timeit.repeat(lambda book=book: apply(book, question, NOW), number=ROUNDS, repeat=REPEATS))
        matched = len(apply(book, question, NOW).matched)
        print(f"{kind:16} {1e6 * best_s / ROUNDS:7.1f} us for {RULES} rules, {matched} of which match")


if __name__ == "__main__":
    main()
