"""Google's ranking models: texts ordered by how well they answer a question.

Source: https://cloud.google.com/generative-ai-app-builder/docs/ranking and the method
https://cloud.google.com/generative-ai-app-builder/docs/reference/rest/v1/projects.locations.rankingConfigs/rank
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from shared.domain.chat import ChatRequest
from shared.domain.errors import InternalError, UnsupportedFeature
from shared.domain.models import Deployment, ModelProfile, RankingTraits
from shared.domain.ranking import RankingRequest
from shared.domain.replies import Finished, FinishReason, Ranked, StreamEvent, Usage, UsageUpdate
from shared.ports import ProviderCall
from shared.providers.errors import unreadable
from shared.providers.vertex_http import VertexHttp

VENDOR: Final = "the Vertex AI ranking API"
_PATH: Final = "rankingConfigs/default_ranking_config:rank"
"""The only configuration there is; nothing is kept under it."""


class VertexRankingProvider:
    """`shared.ports.ModelProvider` for `ProviderKind.RANKING`.

    Args:
        http: the transport.
    """

    def __init__(self, http: VertexHttp) -> None:
        self._http = http

    def check(self, request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
        """Refuse more texts than one call takes.

        Raises:
            UnsupportedFeature: naming the field.
        """
        most = _traits(profile).max_texts
        if len(_asked(request).texts) > most:
            raise UnsupportedFeature(f"the model at {deployment.id} ranks {most} texts at most", param="texts")

    async def complete(self, call: ProviderCall) -> Sequence[StreamEvent]:
        """The scores of all texts.

        Raises:
            ProviderError: of the class that fits.
        """
        request, traits = _asked(call.request), _traits(call.profile)
        body = {
            "model": call.deployment.target,
            "query": request.question,
            "records": [{"id": str(place), "content": text} for place, text in enumerate(request.texts)],
            "ignoreRecordDetailsInResponse": True,
        }
        answer = await self._http.post(call, _PATH, json.dumps(body, ensure_ascii=False).encode(), vendor=VENDOR)
        scores = _scores(answer, len(request.texts))
        usage = Usage(output_tokens=traits.queries(len(request.texts)))
        return [Ranked(scores), UsageUpdate(usage), Finished(FinishReason.STOP, "records")]

    async def stream(self, call: ProviderCall) -> AsyncIterator[StreamEvent]:
        """The same, all at once: rankings do not stream.

        Raises:
            ProviderError: before the first event.
        """
        for event in await self.complete(call):
            yield event

    async def warm(self) -> None:
        """Open the session and fetch a token."""
        await self._http.warm()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._http.aclose()


def _asked(request: ChatRequest) -> RankingRequest:
    if not isinstance(request, RankingRequest):
        raise InternalError("a ranking model was asked for an answer")
    return request


def _traits(profile: ModelProfile) -> RankingTraits:
    if profile.ranking is None:
        raise InternalError(f"model {profile.id} does not rank")
    return profile.ranking


def _scores(body: bytes, texts: int) -> tuple[float, ...]:
    """Scores in the order of the texts; they come with the best first.

    Raises:
        ProviderBadResponse: a text has none, or more than one, or one that is no number from 0 to 1.
    """
    try:
        records = json.loads(body)["records"]
        # JSON of protocol buffers leaves out a number that is 0.
        found = {int(record["id"]): _score(record) for record in records}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise unreadable(VENDOR, "a ranking that cannot be read") from None
    if len(records) != texts or found.keys() != set(range(texts)):
        raise unreadable(VENDOR, "a ranking of other texts than were sent")
    return tuple(found[place] for place in range(texts))


def _score(record: Mapping[str, object]) -> float:
    score = record.get("score", 0.0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
        raise ValueError("not a score")
    return float(score)
