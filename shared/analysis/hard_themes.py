"""Themes whose mention makes a request hard, by the words and phrases that name them.

A theme counts once, however often it is named: "prove" and "rigorously" are one proof. Deep themes (proof, concurrency,
attack) are those in which small models commonly fail even on short requests.
"""

from collections.abc import Mapping
from typing import Final

from shared.analysis.wording import Wording

_WORDS: Final[Mapping[str, str]] = {
    "proof": """prove proves proof proofs proven disprove derive derivation refute theorem lemma corollary rigorous
        rigorously asymptotic asymptotically counterexample counterexamples irrational infinitely
        bijection homomorphism eigenvector convergence converges beweise beweis beweisen démontre
        démontrer prouve demuestra demostrar dimostra dimostrare demonstre bewijs udowodnij докажи
        доказать доведи ispatla أثبت הוכח""",
    "concurrency": """concurrent concurrency concurrently deadlock deadlocks livelock interleaving interleavings
        lockfree linearizable linearizability threadsafe mutexes consensus paxos raft crdt quorum lease
        leases atomicity idempotent idempotency reentrancy starvation nebenläufig nebenläufigkeit
        concurrence concurrencia""",
    "attack": """attacker attackers exploit exploits exploitable vulnerability vulnerabilities ssrf xxe csrf
        adversary adversarial cryptographic cryptography cryptanalysis tampering spoofing sandbox
        escape angreifer sicherheitslücke sicherheitslücken vulnérabilité vulnérabilités
        vulnerabilidad vulnerabilidades""",
    "design": """architect architecture architectures strategy roadmap redesign blueprint governance topology
        architektur strategie stratégie estrategia strategia arquitectura""",
    "scale": """distributed sharding sharded partitions replicas replication failover multitenant throughput
        petabytes petabyte microservices datacentre datacenters terabytes verteilt verteilte
        verteiltes""",
    "change": """migrate migrates migrating migration migrations backfill rollback irreversible phased phase phases
        cutover decommission backwards-compatible coexist migrieren""",
    "inquiry": """hypothesis hypotheses assumption assumptions falsify falsifiable counterfactual confounder
        confounders confounding causal causality causation second-order ambiguous ambiguity
        ambiguities contradict contradicts contradiction contradictions contradictory inconsistent
        inconsistencies uncertainty weigh weighs weighing abwägen annahmen widersprüche hypothèses
        hypothesen hipótesis""",
    "conflict": """tradeoff tradeoffs trade-off trade-offs compromise compromises conflicting conflicts tension
        tensions zielkonflikte zielkonflikt dilemma""",
    "performance": """optimise optimize optimising optimizing optimal optimum worst-case bottleneck bottlenecks latency
        optimieren optimiere""",
    "assurance": """formally formal invariant invariants audit audits auditors auditable strict strictly strictness
        production-ready edge-case edge-cases compliance provable""",
    "breadth": """comprehensive exhaustive multi-step end-to-end multistep umfassend umfassende exhaustif""",
}
_PHRASES: Final[Mapping[str, tuple[str, ...]]] = {
    "proof": ("show that", "for every", "for all ", "if and only if", "zeige, dass", "montrer que", "证明", "証明",
              "증명"),
    "concurrency": (
        "race condition", "thread-safe", "thread safe", "lock-free", "exactly once",
        "exactly-once", "under load", "simultaneous", "two processes", "two threads", "in any order",
               "crash recovery",
    ),
    "attack": ("security review", "security release", "threat model", "side channel", "side-channel", "timing attack"),
    "design": ("design a", "design the", "design an", "propose a", "entwirf", "concevoir", "diseña", "设计", "設計"),
    "scale": ("high availability", "multi-tenant", "multi-region", "at scale", "million users"),
    "change": ("zero downtime", "no downtime", "without downtime", "backward compatib", "backwards compatib",
               ),
    "inquiry": ("root cause", "second order", "both sides"),
    "conflict": ("at the same time", "cannot both", "must not lose", "even though", "while keeping"),
    "performance": ("worst case", "time complexity", "o(n"),
    "assurance": ("edge case", "test suite", "must hold"),
    "breadth": ("step by step", "in depth", "in-depth"),
}  # fmt: skip
DEEP: Final = frozenset({"proof", "concurrency", "attack"})
_PHRASED: Final = tuple((phrase, theme) for theme, phrases in _PHRASES.items() for phrase in phrases)
_THEME_OF: Final = {word: theme for theme, words in _WORDS.items() for word in words.split()}


def themes_in(wording: Wording) -> frozenset[str]:
    """The themes that an instruction names."""
    named = {_THEME_OF[word] for word in wording.vocabulary & _THEME_OF.keys()}
    text = wording.text
    named.update([theme for phrase, theme in _PHRASED if phrase in text])
    return frozenset(named)
