"""Which models exist, how fast, how long and how well they answer: read from TOML, changed at run time."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from infra.local.simulator.ask import MediaRates

DEFAULT_FILE = Path(__file__).with_name("profiles.toml")
ENDPOINT_FORMATS = ("tgi", "vllm", "openai", "predict", "raw")
_MAX_TIME_SCALE = 1_000
_Z95 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Profile:
    """One model.

    Attributes:
        id: the vendor's id, as in resource names or, for OpenAI-style MaaS, in the body's ``model``.
        dialect: the wire form: ``gemini``, ``anthropic``, ``mistral``, ``maas``, ``embedding`` or ``ranking``.
        ttft_p50_ms, ttft_p95_ms: time to the first token, lognormal.
        tokens_per_s: speed after it, within 20% either way.
        prefill_tokens_per_s: how fast a prompt is read; added to the time to the first token.
        answer_tokens: median length of a free answer.
        piece_tokens: tokens in a streamed piece.
        default_thinking_tokens: thinking when the request does not say; such a model cannot stop thinking.
        cache_min_tokens: shortest prompt prefix that is cached; 0 means no caching.
        quality: probability of a good answer by task category; ``overall`` is always there.
        dimensions: of an embedding.
        fixed_sampling: refuses temperature, top_p and top_k other than the default (Claude Sonnet 5).
        needs_thought_signature: refuses a replayed function call without its signature (Gemini 3 and later).
    """

    id: str
    publisher: str
    dialect: str
    ttft_p50_ms: float = 300.0
    ttft_p95_ms: float = 900.0
    tokens_per_s: float = 120.0
    prefill_tokens_per_s: float = 20_000.0
    answer_tokens: int = 120
    piece_tokens: int = 8
    context_tokens: int = 131_072
    max_output_tokens: int = 8_192
    default_thinking_tokens: int = 0
    modalities: frozenset[str] = frozenset({"text"})
    cache_min_tokens: int = 0
    quality: Mapping[str, float] = field(default_factory=lambda: {"overall": 0.8})
    dimensions: int = 0
    fixed_sampling: bool = False
    needs_thought_signature: bool = False
    can_think: bool = False
    media: MediaRates = field(default_factory=MediaRates)

    @property
    def key(self) -> str:
        """``publisher/id``; MaaS ids carry their publisher already."""
        return self.id if "/" in self.id else f"{self.publisher}/{self.id}"

    @property
    def ttft_sigma(self) -> float:
        """Sigma of the lognormal time to the first token."""
        return math.log(self.ttft_p95_ms / self.ttft_p50_ms) / _Z95


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployed endpoint: the format it speaks and the model behind it."""

    id: str
    format: str
    profile: Profile


class Profiles:
    """All models and endpoints, with the global speed factor.

    Attributes:
        time_scale: multiplies every delay; 0 disables them.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document: dict[str, Any] = {"time_scale": 1.0, "defaults": {}, "models": {}, "endpoints": {}}
        self._models: dict[str, Profile] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self.time_scale = 1.0
        self.merge(document)

    @classmethod
    def load(cls, path: Path | None = None) -> "Profiles":
        """The shipped profiles, with a file's entries laid over them.

        Raises:
            ValueError: a field is unknown or has a value that makes no sense; the message names it.
        """
        profiles = cls(tomllib.loads(DEFAULT_FILE.read_text(encoding="utf-8")))
        if path is not None:
            profiles.merge(tomllib.loads(path.read_text(encoding="utf-8")))
        return profiles

    def merge(self, document: Mapping[str, Any]) -> None:
        """Lay a document over what is there; nothing changes when it is not valid.

        Raises:
            ValueError: naming the field.
        """
        known = {"time_scale", "defaults", "models", "endpoints", "faults", "seed"}
        unknown = set(document) - known
        if unknown:
            raise ValueError(f"unknown section {min(unknown)!r}")
        for section in ("defaults", "models", "endpoints"):
            entries = document.get(section, {})
            _table(section, entries)
            if section != "defaults":
                for name, entry in entries.items():
                    _table(f"{section}.{name}", entry)
        merged = _merged(self._document, {k: v for k, v in document.items() if k not in {"faults", "seed"}})
        time_scale = merged["time_scale"]
        if (
            not isinstance(time_scale, int | float)
            or isinstance(time_scale, bool)
            or not 0 <= time_scale <= _MAX_TIME_SCALE
        ):
            raise ValueError(f"time_scale must be a number from 0 to {_MAX_TIME_SCALE}")
        models = {name: _profile(name, {**merged["defaults"], **entry}) for name, entry in merged["models"].items()}
        endpoints = {name: _endpoint(name, entry, merged["defaults"]) for name, entry in merged["endpoints"].items()}
        self._document = merged
        self._models = {profile.key: profile for profile in models.values()}
        self._endpoints = endpoints
        self.time_scale = float(time_scale)

    def document(self) -> dict[str, Any]:
        """What is in force, in the file's shape."""
        return self._document

    def model(self, publisher: str, model: str) -> Profile | None:
        """The profile of a publisher model; ``@default`` names the same model, any other version must be listed."""
        name = model.removesuffix("@default")
        return self._models.get(name if "/" in name else f"{publisher}/{name}")

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """A listed endpoint."""
        return self._endpoints.get(endpoint_id)

    def fallback_profile(self, endpoint_id: str) -> Profile:
        """What an unlisted endpoint is served by."""
        return _profile(f"endpoint-{endpoint_id}", {**self._document["defaults"], "publisher": "custom"})

    def __iter__(self) -> Any:
        return iter(self._models.values())


def _table(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a table")  # noqa: TRY004 - a file's content, not a caller's type


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result


_FIELDS = {item.name for item in fields(Profile)} - {"id"}
_MEDIA_FIELDS = {item.name for item in fields(MediaRates)}
_POSITIVE = ("ttft_p50_ms", "ttft_p95_ms", "tokens_per_s", "prefill_tokens_per_s", "answer_tokens", "piece_tokens",
             "context_tokens", "max_output_tokens")  # fmt: skip
_DIALECTS = {"google": "gemini", "anthropic": "anthropic", "mistralai": "mistral"}


def _profile(name: str, entry: Mapping[str, Any]) -> Profile:
    for key in entry:
        if key not in _FIELDS and key != "format":
            raise ValueError(f"models.{name}.{key} is not a field")
    values = {key: value for key, value in entry.items() if key != "format"}
    for key in _POSITIVE:
        value = values.get(key, 1)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise ValueError(f"models.{name}.{key} must be a number above 0")
    publisher = values.setdefault("publisher", name.split("/", 1)[0] if "/" in name else "google")
    values.setdefault("dialect", "maas" if "/" in name else _DIALECTS.get(str(publisher), "maas"))
    values["modalities"] = frozenset(values.get("modalities", ("text",)))
    values["quality"] = _quality(name, values.get("quality", {}))
    media = values.get("media", {})
    if set(media) - _MEDIA_FIELDS:
        raise ValueError(f"models.{name}.media has an unknown field")
    values["media"] = MediaRates(**media)
    profile = Profile(id=name, **values)
    if profile.ttft_p95_ms < profile.ttft_p50_ms:
        raise ValueError(f"models.{name}.ttft_p95_ms must not be below ttft_p50_ms")
    return profile


def _quality(name: str, entry: Mapping[str, Any]) -> dict[str, float]:
    quality = {"overall": 0.8, **entry}
    for category, value in quality.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"models.{name}.quality.{category} must be from 0 to 1")
    return quality


def _endpoint(name: str, entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Endpoint:
    wire = entry.get("format", "")
    if wire not in ENDPOINT_FORMATS:
        raise ValueError(f"endpoints.{name}.format must be one of {', '.join(ENDPOINT_FORMATS)}")
    profile = _profile(f"endpoint-{name}", {**defaults, "publisher": "custom", **entry})
    return Endpoint(name, wire, replace(profile, dialect=wire))
