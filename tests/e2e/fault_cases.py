"""Every fault of the simulator, crossed with what a caller can meet: the cases, the registry they need, the rules.

Each case has a model and regions of its own, so all cases run at the same time and no one's breaker is another's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.local.simulator.faults import NAMES

INPUT_USD, OUTPUT_USD = "1.00", "4.00"
"""Per million tokens, of every model."""
ONE, REGIONS, MODELS = "one", "regions", "models"
"""Who else could answer: nobody, the model in another region, or another model."""

_POSITIONAL = ({"after_chunks": 0}, {"after_chunks": 2})
_VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "rate_limit": ({}, {"retry_after_s": 30}, {"retry_after_s": 30, "http_date": True}),
    "unavailable": ({}, {"retry_after_s": 30}),
    "slow_first_token": ({"delay_s": 0.2},),
    "safety_block": ({"level": "prompt"}, {"level": "answer"}),
    "stall": _POSITIONAL,
    "cut": _POSITIONAL,
    "malformed_json": _POSITIONAL,
    "stream_error": _POSITIONAL,
}
"""Parameters with which a fault is met; all others once, without."""

TARGETS = {
    "gemini": "gemini-3.8-flash",
    "anthropic": "claude-haiku-5-5",
    "openai_maas": "deepseek-ai/deepseek-v4.1-flash-maas",
}
"""One model of the simulator for each way to call one."""


@dataclass(frozen=True)
class Case:
    """One request, and the fault that its first deployment has."""

    number: int
    fault: str
    parameters: dict[str, Any] = field(hash=False)
    stream: bool = False
    others: str = ONE
    provider: str = "gemini"

    @property
    def id(self) -> str:
        words = [f"{name}={value}" for name, value in self.parameters.items()]
        kind = "stream" if self.stream else "plain"
        return "-".join([self.fault, *words, kind, self.others, self.provider])

    @property
    def model(self) -> str:
        return f"case-{self.number:04d}"

    @property
    def is_late(self) -> bool:
        """Whether content reaches the caller before the fault."""
        return self.stream and self.parameters.get("after_chunks", 0) > 0

    def region(self, place: int) -> str:
        first, second = divmod(self.number, 26 * 26)
        letters = "".join(chr(ord("a") + n) for n in (first, *divmod(second, 26)))
        return f"case-{letters}{place}"

    def rule(self) -> dict[str, Any]:
        return {"fault": self.fault, "match": {"region": self.region(1)}, **self.parameters}

    def body(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": "Tell me in a few sentences why the sky is blue."}],
            "max_tokens": 400,
            "stream": self.stream,
            **({"stream_options": {"include_usage": True}} if self.stream else {}),
            "router": {
                "timeout_s": 6.0,
                "allow_fallback": self.others == MODELS,
                "allow_models": [self.model, f"{self.model}-other"],
            },
        }

    def entries(self) -> Iterator[str]:
        """Models and deployments, as the registry's file has them."""
        yield model_entry(self.model, 0.9)
        yield deployment_entry(self.model, self.provider, self.region(1), 1)
        if self.others == REGIONS:
            yield deployment_entry(self.model, self.provider, self.region(2), 2)
        if self.others == MODELS:
            yield model_entry(f"{self.model}-other", 0.5)
            yield deployment_entry(f"{self.model}-other", self.provider, self.region(2), 2)


def cases() -> list[Case]:
    """All of them; a fault that the simulator learns is among them by itself."""
    found: list[Case] = []
    for fault in sorted(NAMES):
        for parameters in _VARIANTS.get(fault, ({},)):
            for stream in (False, True):
                if not stream and parameters.get("after_chunks"):
                    continue  # a plain answer has no chunks
                for others in (ONE, REGIONS, MODELS):
                    for provider in TARGETS:
                        found.append(Case(len(found), fault, parameters, stream, others, provider))
    return found


def registry(of: list[Case]) -> str:
    """The registry's file."""
    return "\n".join(entry for case in of for entry in case.entries())


POLICY = """
max_attempts = 2
[balancing]
enabled = false
[retries]
backoff_first_s = 0.01
backoff_most_s = 1.0
reserve = 100000
attempt_share = 0.3
first_token_timeout_s = 1.0
idle_timeout_s = 1.0
""" + "".join(
    f"[presets.{name}]\nquality = 1.0\ncost = 0.1\nlatency = 0.1\nreliability = 0.1\nload = 0.1\n"
    for name in ("balanced", "cost", "quality", "latency")
)
"""Quick about everything, and the best model first."""


def model_entry(model_id: str, quality: float) -> str:
    """A model of the registry's file."""
    return f"""
[[model]]
id = "{model_id}"
publisher = "test"
display_name = "{model_id}"
context_window_tokens = 100000
max_output_tokens = 4000
lifecycle = {{ available_from = 2026-10-01 }}
[model.capabilities]
modalities = ["text"]
[model.latency]
ttft_ms = 10
tokens_per_s = 100000
source = "test"
[[model.price]]
effective_from = 2026-10-01
source = "test"
tiers = [{{ input = "{INPUT_USD}", output = "{OUTPUT_USD}" }}]
[[model.quality]]
categories = ["overall"]
mean = {quality}
weight = 5
source = "test"
"""


def deployment_entry(model_id: str, provider: str, region: str, place: int) -> str:
    """A deployment of the registry's file."""
    return f"""
[[deployment]]
id = "{model_id}@{place}"
model = "{model_id}"
provider = "{provider}"
target = "{TARGETS[provider]}"
region = "{region}"
residency = ["lab"]
clearance = "restricted"
"""
