"""The registry as columns: what eligibility and scoring need of every deployment, in arrays, compiled once a day.

Row i of every array is deployment i of the registry. Money is integer pico-USD (1e-12 USD) a token, so sums are exact;
rates finer than that are rounded up. Everything that depends on the date (prices in force, lifecycle) is resolved for
one UTC day.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal

import numpy as np
import numpy.typing as npt

from shared.domain.chat import Modality
from shared.domain.features import Category, TokenizerFamily, family_of
from shared.domain.models import Deployment, ModelProfile, Registry
from shared.domain.pricing import quoted_period, region_rates

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PICO_PER_USD = 10**12
_PICO_PER_TOKEN = Decimal(10**6)
"""Pico-USD a token at one USD per million tokens."""
_NEVER = np.iinfo(np.int64).max
_MAX_ZONES = 62
CATEGORIES = {category: column for column, category in enumerate(Category)}
FAMILIES = tuple(TokenizerFamily)
_MODALITIES = {modality: 1 << bit for bit, modality in enumerate(Modality)}


@dataclass(frozen=True, slots=True, eq=False)
class PriceColumns:
    """Rates by tier, each of shape (deployments, tiers); a missing tier is never reached."""

    one_tier_up_to: int
    """The longest prompt that reaches no second tier anywhere."""
    above_prompt_tokens: Ints
    input: Ints
    output: Ints
    dearest_input: Ints
    """The most that a prompt token can cost there, read or written to a cache, when no audio is in the prompt."""
    dearest_audio: Ints
    """The same for a prompt that may hold audio."""

    def reached(self, prompt_tokens: Ints) -> tuple[slice | Ints, int | Ints]:
        """The tier that each prompt length reaches: an index into the other columns, one rate a row."""
        if prompt_tokens.max(initial=0) <= self.one_tier_up_to:
            return slice(None), 0
        tiers: Ints = (prompt_tokens[:, None] > self.above_prompt_tokens).sum(axis=1)
        return np.arange(len(tiers)), np.maximum(tiers - 1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class CandidateTable:
    """A registry on one UTC day, by column. Compare by identity."""

    day: date
    deployments: tuple[Deployment, ...]
    profiles: tuple[ModelProfile, ...]
    model_index: dict[str, int]
    model: Ints
    """Index of the row's model."""
    model_rank: Ints
    """Position of the row's model in the alphabetical order of all model ids: its place in a `QualityForecast`."""
    id_rank: Ints
    """Position in alphabetical order of deployment ids: breaks ties of scores."""
    wire_group: Ints
    """Deployments of one model that speak the same wire form share a group."""
    wire_groups: tuple[int, ...]
    """A row of each group."""
    enabled: Bools
    usable: Bools
    clearance: Ints
    residency: Ints
    zones: dict[str, int]
    modalities: Ints
    tools: Bools
    json_object: Bools
    json_schema: Bools
    system: Bools
    media_uris: Bools
    streaming: Bools
    context_window: Ints
    max_output: Ints
    chars_per_token: Floats
    tokenizer: Ints
    """Index of the model's tokenizer family among all of `TokenizerFamily`."""
    ttft_ms: Floats
    tokens_per_s: Floats
    weight: Floats
    prices: PriceColumns
    quality: Floats
    """Prior means, of shape (deployments, categories)."""
    row_of: dict[str, int]

    def __len__(self) -> int:
        return len(self.deployments)

    def rows_of_models(self, model_ids: Iterable[str]) -> Bools:
        """Which rows belong to one of the models."""
        found = [self.model_index[model_id] for model_id in model_ids if model_id in self.model_index]
        rows: Bools = np.isin(self.model, found) if len(found) != 1 else self.model == found[0]
        return rows

    def is_row(self, deployment_id: str) -> Bools:
        """Which row is that deployment, if any."""
        rows: Bools = np.arange(len(self)) == self.row_of.get(deployment_id, -1)
        return rows

    def within(self, zones: frozenset[str]) -> Bools:
        """Which rows lie wholly in the zones; a row of unknown residency lies nowhere."""
        allowed = sum(self.zones.get(zone, 0) for zone in zones)
        inside: Bools = (self.residency != 0) & ((self.residency & ~allowed) == 0)
        return inside

    def takes(self, modalities: frozenset[Modality]) -> Bools:
        """Which rows take all of the modalities; text always is."""
        needed = sum(_MODALITIES[modality] for modality in modalities) & ~_MODALITIES[Modality.TEXT]
        able: Bools = (needed & ~self.modalities) == 0
        return able


def compile_table(registry: Registry, day: date) -> CandidateTable:
    """The columns of a registry on a UTC day.

    Raises:
        ValueError: more residency zones than a bit mask holds.
    """
    deployments = registry.deployments
    profiles = tuple(registry.models[d.model_id] for d in deployments)
    capabilities = [p.capabilities for p in profiles]
    index_of = {model_id: index for index, model_id in enumerate(registry.models)}
    rank_of = {model_id: rank for rank, model_id in enumerate(sorted(registry.models))}
    zone_names = sorted({zone for d in deployments for zone in d.residency})
    if len(zone_names) > _MAX_ZONES:
        raise ValueError(f"{len(zone_names)} residency zones; at most {_MAX_ZONES} are possible")
    zones = {zone: 1 << bit for bit, zone in enumerate(zone_names)}
    groups: dict[tuple[object, ...], int] = {}
    group_rows: list[int] = []
    wire_forms = [(d.provider, d.model_id, d.endpoint_format, repr(sorted(d.options.items()))) for d in deployments]
    for row, key in enumerate(wire_forms):
        if groups.setdefault(key, len(groups)) == len(group_rows):
            group_rows.append(row)
    by_id = sorted(range(len(deployments)), key=lambda row: deployments[row].id)
    rank = np.empty(len(deployments), np.int64)
    rank[by_id] = np.arange(len(deployments))
    return CandidateTable(
        day=day,
        deployments=deployments,
        profiles=profiles,
        model_index=index_of,
        model=_ints(index_of[d.model_id] for d in deployments),
        model_rank=_ints(rank_of[d.model_id] for d in deployments),
        id_rank=rank,
        wire_group=_ints(groups[key] for key in wire_forms),
        wire_groups=tuple(group_rows),
        enabled=_bools(d.enabled for d in deployments),
        usable=_bools(p.lifecycle.usable_on(day) for p in profiles),
        clearance=_ints(int(d.clearance) for d in deployments),
        residency=_ints(sum(zones[zone] for zone in d.residency) for d in deployments),
        zones=zones,
        modalities=_ints(sum(_MODALITIES[m] for m in c.modalities) for c in capabilities),
        tools=_bools(c.tools for c in capabilities),
        json_object=_bools(c.json_object for c in capabilities),
        json_schema=_bools(c.json_schema for c in capabilities),
        system=_bools(c.system for c in capabilities),
        media_uris=_bools(c.media_uris for c in capabilities),
        streaming=_bools(c.streaming for c in capabilities),
        context_window=_ints(p.context_window_tokens for p in profiles),
        max_output=_ints(p.max_output_tokens for p in profiles),
        chars_per_token=_floats(p.chars_per_token for p in profiles),
        tokenizer=_ints(FAMILIES.index(family_of(p.publisher)) for p in profiles),
        ttft_ms=_floats(p.ttft_ms for p in profiles),
        tokens_per_s=_floats(p.tokens_per_s for p in profiles),
        weight=_floats(max(d.weight, 1e-9) for d in deployments),
        prices=_prices(deployments, profiles, day),
        quality=np.array([_quality_row(p) for p in profiles], np.float64).reshape(len(deployments), len(CATEGORIES)),
        row_of={d.id: row for row, d in enumerate(deployments)},
    )


def _prices(deployments: tuple[Deployment, ...], profiles: tuple[ModelProfile, ...], day: date) -> PriceColumns:
    # A model may be listed before its first price holds; its lifecycle keeps it out of every choice until then.
    periods = [quoted_period(p, day) for p in profiles]
    shape = (len(deployments), max((len(period.tiers) for period in periods), default=1))
    above = np.full(shape, _NEVER, np.int64)
    columns = [np.zeros(shape, np.int64) for _ in range(4)]
    for row, (deployment, period) in enumerate(zip(deployments, periods, strict=True)):
        for tier, price in enumerate(period.tiers):
            rates = region_rates(price.rates, period, deployment.region)
            above[row, tier] = price.above_prompt_tokens
            text = max(rates.input, rates.cache_write or rates.input)
            audio = max(text, rates.input_audio or text)
            for column, rate in zip(columns, (rates.input, rates.output, text, audio), strict=True):
                column[row, tier] = _pico(rate)
    return PriceColumns(int(above[:, 1:].min(initial=_NEVER)), above, *columns)


def _pico(usd_per_million_tokens: Decimal) -> int:
    return int((usd_per_million_tokens * _PICO_PER_TOKEN).to_integral_value(rounding=ROUND_CEILING))


def _quality_row(profile: ModelProfile) -> list[float]:
    overall = profile.quality["overall"]
    return [profile.quality.get(category.value, overall).mean for category in CATEGORIES]


def _bools(values: Iterable[bool]) -> Bools:
    return np.fromiter(values, np.bool_)


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, np.int64)


def _floats(values: Iterable[float]) -> Floats:
    return np.fromiter(values, np.float64)
