"""Models and deployments: what a model can do and costs, and where it can be called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from shared.domain.chat import Modality
from shared.domain.security import SecurityLevel


class ProviderKind(StrEnum):
    """Which adapter speaks to a deployment."""

    GEMINI = "gemini"
    """Google models through generateContent."""
    ANTHROPIC = "anthropic"
    """Claude through rawPredict with the Messages API."""
    OPENAI_MAAS = "openai_maas"
    """Open models as a service through Vertex's OpenAI-compatible endpoint."""
    HUGGING_FACE = "hugging_face"
    """A Vertex endpoint that serves a Hugging Face container (TGI, vLLM or OpenAI chat)."""
    CUSTOM = "custom"
    """A Vertex endpoint of the customer's own, through predict or rawPredict."""
    TEXT_EMBEDDING = "text_embedding"
    """Google's text embedding models through predict; never a candidate for an answer."""
    RANKING = "ranking"
    """Google's ranking models through `rankingConfigs:rank` of Discovery Engine; likewise."""


class EndpointFormat(StrEnum):
    """The payload a Hugging Face or custom endpoint takes."""

    TGI = "tgi"
    """``{"inputs", "parameters"}`` to rawPredict."""
    VLLM = "vllm"
    """``{"prompt", "max_tokens", ...}`` instances to predict (vLLM's Vertex server)."""
    OPENAI_CHAT = "openai_chat"
    """An OpenAI chat body to rawPredict."""
    PREDICT = "predict"
    """``instances``/``parameters`` to predict with the mapping below `Deployment.options`."""
    RAW_PREDICT = "raw_predict"
    """A JSON body to rawPredict with the mapping below `Deployment.options`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per one million tokens, by kind. None falls back as `shared.domain.pricing` documents."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_long: Decimal | None = None
    input_audio: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Rates for requests whose whole prompt has more than `above_prompt_tokens` tokens (0: every request).

    Vendors bill the WHOLE request at the tier that its prompt length reaches, output included.
    """

    rates: Rates
    above_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PricePeriod:
    """Prices in force from `effective_from` (UTC date, inclusive) until the next period. Tiers ascend."""

    effective_from: date
    tiers: tuple[PriceTier, ...]
    region_multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    """Factor by region or region prefix (``us``, ``eu``), or ``*`` for every other region; else factor 1."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model takes and does; a False is a hard constraint, not a hint."""

    modalities: frozenset[Modality] = frozenset({Modality.TEXT})
    tools: bool = False
    parallel_tools: bool = False
    json_object: bool = False
    json_schema: bool = False
    thinking: bool = False
    streaming: bool = True
    system: bool = True
    sampling: bool = True
    """Whether temperature, top_p and top_k may be set at all."""
    media_uris: bool = False
    """Whether media may be given as gs:// or https:// URIs."""


@dataclass(frozen=True, slots=True)
class QualityPrior:
    """Expected quality in [0, 1] for a category, before anything was observed here.

    `weight` is how many observations the prior is worth; `source` says where the figure comes from.
    """

    mean: float
    weight: float
    source: str


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Dates (UTC) between which a model may be called."""

    available_from: date | None = None
    deprecated_on: date | None = None
    retires_on: date | None = None

    def usable_on(self, day: date) -> bool:
        """Whether a call on that day can succeed: retired models are gone from the retirement date on."""
        if self.available_from is not None and day < self.available_from:
            return False
        return self.retires_on is None or day < self.retires_on


@dataclass(frozen=True, slots=True)
class EmbeddingTraits:
    """What a text embedding model takes and gives.

    Attributes:
        dimensions: length of its vectors when nothing else is asked for, and the most that can be.
        min_dimensions: the least; the same as `dimensions` where the length cannot be chosen.
        max_input_tokens: of one text.
        max_texts_per_call, max_tokens_per_call: what the vendor takes at once; the adapter splits what is more.
    """

    dimensions: int
    min_dimensions: int
    max_input_tokens: int
    max_texts_per_call: int
    max_tokens_per_call: int


@dataclass(frozen=True, slots=True)
class RankingTraits:
    """What a ranking model takes.

    Its price stands in `Rates.output` for a million queries: the ledger counts each query that the vendor bills as one
    token of output, and the texts cost nothing.

    Attributes:
        max_texts: of one call.
        max_text_tokens: of one text; the vendor leaves out what is more.
        texts_per_query: how many texts the vendor bills as one query.
    """

    max_texts: int
    max_text_tokens: int
    texts_per_query: int

    def queries(self, texts: int) -> int:
        """What the vendor bills for a call with so many texts."""
        return -(-texts // self.texts_per_query)


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What a model can do and costs.

    Attributes:
        id: the registry's id, what callers name and what `model` in answers says.
        publisher: who made it (google, anthropic, openai, meta, ...).
        context_window_tokens: prompt plus, for most vendors, output.
        max_output_tokens: the most one answer may hold.
        quality: prior by category; the key ``overall`` is always there.
        ttft_ms, tokens_per_s: latency priors.
    """

    id: str
    publisher: str
    display_name: str
    context_window_tokens: int
    max_output_tokens: int
    capabilities: Capabilities
    prices: tuple[PricePeriod, ...]
    quality: Mapping[str, QualityPrior]
    ttft_ms: float
    tokens_per_s: float
    lifecycle: Lifecycle = Lifecycle()
    price_source: str = ""
    chars_per_token: float = 4.0
    """4.0: text is cut as measured for the publisher's tokenizer family; other values scale the count by 4 over it."""
    embedding: EmbeddingTraits | None = None
    """Set for models that give vectors instead of answers; these stand in `Registry.embeddings` only."""
    ranking: RankingTraits | None = None
    """Set for models that rank texts; these stand in `Registry.rankings` only."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider and region.

    Attributes:
        id: unique, e.g. ``gemini-3.8-flash@europe-west4``.
        target: the vendor's model id, or the endpoint's numeric id.
        region: the vendor's location (``global``, ``us-central1``, ...).
        residency: zones in which content stays when it is called (``eu``, ``us``, ``global``...). A ``global``
            endpoint may process anywhere and therefore satisfies no zone but ``global``.
        clearance: the highest level of content it may take.
        dedicated_host: host of a dedicated endpoint, when it has one.
        options: adapter-specific mapping (custom endpoints), validated by the adapter when the registry is loaded.
        requests_per_minute, tokens_per_minute: most that all workers together send in any 60 seconds; None does not
            restrict.
    """

    id: str
    model_id: str
    provider: ProviderKind
    target: str
    region: str
    residency: frozenset[str]
    clearance: SecurityLevel
    weight: float = 1.0
    enabled: bool = True
    endpoint_format: EndpointFormat | None = None
    dedicated_host: str | None = None
    project: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """Every model and deployment, at one version. Built whole, swapped whole, never changed in place."""

    version: str
    """SHA-256 over the canonical content, so that a receipt can name it."""
    models: Mapping[str, ModelProfile]
    deployments: tuple[Deployment, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names for a model id, such as dated vendor ids."""
    document: str = field(default="", repr=False)
    """The canonical content that `version` is the hash of, so that a receipt of this version can always be repeated."""
    embeddings: "Registry | None" = field(default=None, repr=False)
    """The embedding models and their deployments, of the same version; apart, so that they are no candidates here."""
    rankings: "Registry | None" = field(default=None, repr=False)
    """The ranking models, likewise."""

    def resolve(self, name: str) -> ModelProfile | None:
        """The model of that id or alias."""
        return self.models.get(self.aliases.get(name, name))

    def names(self) -> dict[str, str]:
        """Every id and alias, with the id that it stands for."""
        return {model_id: model_id for model_id in self.models} | dict(self.aliases)

    def deployments_of(self, model_id: str) -> tuple[Deployment, ...]:
        """All deployments of a model, in file order."""
        return tuple(d for d in self.deployments if d.model_id == model_id)
