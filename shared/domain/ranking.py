"""A question and the texts that are ranked by how well they answer it.

As with vectors (`shared.domain.embeddings`), this is a request for a model: read, sieved, called, billed and recorded
as every other one. So it is a `ChatRequest` whose only turn holds the question and then the texts, one part each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.domain.chat import ChatRequest, Message, Role, TextPart


@dataclass(frozen=True, slots=True)
class RankingRequest(ChatRequest):
    """A question with texts to rank; made by `ranking_request`."""

    @property
    def question(self) -> str:
        """What the texts are to answer."""
        return self._parts[0]

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts in order."""
        return self._parts[1:]

    @property
    def _parts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.messages[0].parts if isinstance(part, TextPart))


def ranking_request(question: str, texts: Sequence[str]) -> RankingRequest:
    """A request to rank some texts, at least one; neither they nor the question are empty."""
    return RankingRequest(messages=(Message(Role.USER, tuple(TextPart(text) for text in (question, *texts))),))
