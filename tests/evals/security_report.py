"""How well sensitive content and attacks are found: precision and recall by kind. `make eval-security` prints it."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from shared.analysis.detectors.injection import Source, signals
from shared.analysis.security import scan
from shared.domain.security import Finding, GuardRules, injection_score
from tests.evals.security_items import Attack, Item, attack_items, sensitive_items

OVERALL = "overall"
ATTACK = "injection"
_BESIDE = {"aws_secret_key": {"api_key"}, "google_oauth_token": {"api_key"}, "health": {"date_of_birth"}}
"""Kinds that an item may show beside its own, because the text holds them too or calls itself so."""


@dataclass(frozen=True)
class Score:
    """Counts of one kind."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of what was found that is there."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Share of what is there that was found."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0


@dataclass(frozen=True)
class Verdict:
    """What was found in one item, against what should be."""

    item: Item | Attack
    found: frozenset[str]
    is_right: bool


def _covers(item: Item, findings: list[Finding]) -> bool:
    """Whether the item's kind was found, and lies over its values, all of them and nearly whole."""
    own = [finding for finding in findings if finding.kind == item.kind]
    if not item.values:
        return bool(own)
    covered = {i for finding in own for i in range(finding.start, finding.end)}
    for value in item.values:
        start = item.text.find(value)
        if sum(i in covered for i in range(start, start + len(value))) < 0.9 * len(value):
            return False
    return True


@lru_cache(maxsize=1)
def verdicts() -> tuple[Verdict, ...]:
    """Every item of the set, read."""
    read: list[Verdict] = []
    for item in sensitive_items():
        findings = scan(item.text, "text")
        kinds = frozenset(finding.kind for finding in findings)
        right = _covers(item, findings) if item.kind else not kinds
        read.append(Verdict(item, kinds, right))
    for attack in attack_items():
        source = Source.TOOL if attack.source == "tool" else Source.USER
        score = injection_score(signals(attack.text, "text", source))
        flagged = score >= GuardRules().injection_from
        read.append(Verdict(attack, frozenset({ATTACK} if flagged else ()), flagged is attack.is_attack))
    return tuple(read)


@lru_cache(maxsize=1)
def scores() -> dict[str, Score]:
    """By kind, and over all."""
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for verdict in verdicts():
        item = verdict.item
        expected = (ATTACK if item.is_attack else None) if isinstance(item, Attack) else item.kind
        if expected is not None:
            (right if verdict.is_right else missed)[expected] += 1
        wrong.update(verdict.found - {expected} - _BESIDE.get(expected or "", set()))
    kinds = sorted(set(right) | set(wrong) | set(missed))
    table = {kind: Score(right[kind], wrong[kind], missed[kind]) for kind in kinds}
    table[OVERALL] = Score(right.total(), wrong.total(), missed.total())
    return table


def report() -> str:
    """The table, and every item that came out wrong; of sensitive ones the ids alone."""
    lines = [f"{'kind':26}{'precision':>10}{'recall':>8}{'right':>7}{'wrong':>7}{'missed':>8}"]
    for kind, score in scores().items():
        lines.append(
            f"{kind:26}{score.precision:10.3f}{score.recall:8.3f}{score.right:7}{score.wrong:7}{score.missed:8}"
        )
    for verdict in verdicts():
        item = verdict.item
        expected = (ATTACK if item.is_attack else None) if isinstance(item, Attack) else item.kind
        extra = verdict.found - {expected} - _BESIDE.get(expected or "", set())
        if not verdict.is_right or extra:
            lines.append(
                f"{item.id}: expected {expected or 'nothing'}, found {', '.join(sorted(verdict.found)) or 'nothing'}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
