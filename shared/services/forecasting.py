"""Forecasts of quality: what the learned predictor expects of every model of the registry on one request.

What the predictor was never trained on is not asked of it. A request without text, with media or with tools is expected
at the registry's priors, at familiarity 0; of a conversation the user's last turn is read, and of a long text the parts
that `shared.learning.wordpiece.sample` takes, and familiarity counts by the share of the messages' text that was read.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from shared.domain.chat import ChatRequest, Modality, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from shared.domain.features import Category, RequestFeatures
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.models import ModelProfile, QualityPrior, Registry
from shared.learning.item_response import Abilities
from shared.learning.quality_model import OVERALL, QualityModel
from shared.learning.wordpiece import HEAD_CHARS, MIDDLE_CHARS, TAIL_CHARS

_READ_CHARS = HEAD_CHARS + MIDDLE_CHARS + TAIL_CHARS
_TEXT_ONLY = frozenset({Modality.TEXT})


class QualityForecaster:
    """Forecasts with one predictor. Safe to share between threads.

    Args:
        model: the predictor.
    """

    def __init__(self, model: QualityModel) -> None:
        self._model = model
        self._compiled: _Compiled | None = None

    @property
    def version(self) -> str:
        """The predictor's version."""
        return self._model.version

    def forecast(self, request: ChatRequest, features: RequestFeatures, registry: Registry) -> QualityForecast:
        """What to expect of every model of the registry."""
        compiled = self._compiled
        if compiled is None or compiled.registry is not registry:
            # Two threads may both do this after a change of the registry: the same twice, and the later one stays.
            compiled = self._compiled = _Compiled(self._model, registry)
        text = request.last_user_text()  # what the training prompts are
        if not text or features.needs_tools or features.modalities != _TEXT_ONLY:
            return compiled.by_prior(features.category)
        predicted = self._model.predict(self._model.embed(text), compiled.abilities(features.category))
        read = min(len(text), _READ_CHARS) / _length(request)
        return QualityForecast(
            self._model.version,
            round(float(predicted.familiarity) * read * FORECAST_SCALE),
            _figures(predicted.mean),
            _figures(predicted.std),
        )


class _Compiled:
    """A registry's models as the predictor knows them, by category, each made when it is first asked for."""

    def __init__(self, model: QualityModel, registry: Registry) -> None:
        self.registry = registry
        self._model = model
        self._profiles = [registry.models[model_id] for model_id in sorted(registry.models)]
        self._abilities: dict[Category, Abilities] = {}
        self._by_prior: dict[Category, QualityForecast] = {}
        self._making = threading.Lock()

    def abilities(self, category: Category) -> Abilities:
        """Abilities for prompts of a category."""
        found = self._abilities.get(category)
        if found is None:
            with self._making:
                priors = [profile.quality for profile in self._profiles]
                found = self._abilities[category] = self._model.abilities_from_priors(priors, category)
        return found

    def by_prior(self, category: Category) -> QualityForecast:
        """What the registry's priors alone say: means, and the deviation of as many observations as they are worth."""
        found = self._by_prior.get(category)
        if found is None:
            priors = [_prior(profile, category) for profile in self._profiles]
            mean = np.array([prior.mean for prior in priors])
            worth = np.array([prior.weight for prior in priors])
            std = np.sqrt(mean * (1 - mean) / (worth + 1))
            found = QualityForecast(self._model.version, 0, _figures(mean), _figures(std))
            self._by_prior[category] = found
        return found


def _prior(profile: ModelProfile, category: Category) -> QualityPrior:
    return profile.quality.get(category.value) or profile.quality[OVERALL]


def _length(request: ChatRequest) -> int:
    """Characters of all turns, at least 1. The system text is left out: it says how to answer, not what is asked."""
    length = 0
    for message in request.messages:
        for part in message.parts:
            match part:
                case TextPart(text=text) | ThinkingPart(text=text) | ToolResultPart(text=text):
                    length += len(text)
                case ToolCallPart(arguments_json=arguments):
                    length += len(arguments)
                case _:
                    pass
    return max(1, length)


def _figures(values: NDArray[np.floating]) -> tuple[int, ...]:
    within = np.minimum(np.maximum(values, 0.0), 1.0)
    return tuple(np.rint(within * FORECAST_SCALE).astype(np.int64).tolist())
