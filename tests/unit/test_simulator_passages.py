"""The simulator reads passages as a model would: it quotes what fits the question, or cites without having read."""

from infra.local.simulator.ask import Ask, Turn
from infra.local.simulator.passages import quoted
from infra.local.simulator.prose import answer_text
from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.documents import Chunk, Passage
from shared.rag.citing import evidence_of
from shared.rag.prompting import with_passages

TEXTS = ("# Roses\n\nRoses are pruned in late winter. Old wood is cut first.", "The tower is 330 metres tall.")
PASSAGES = [
    Passage(f"d{n}", "T", "s", Chunk(0, text, "", 1, 0, len(text), 5, "x"), 1.0) for n, text in enumerate(TEXTS)
]


def shown(question):
    request = ChatRequest((Message(Role.USER, (TextPart(question),)),))
    return with_passages(request, PASSAGES).request.messages[-1].text()


def test_a_good_answer_quotes_what_shares_the_questions_words():
    assert quoted(shown("How many metres is the tower?"), good=True)[0] == "The tower is 330 metres tall [2]."
    assert quoted("no passages at all", good=True) == []


def test_the_answer_is_grounded_when_it_is_good_and_not_when_it_is_poor():
    ask = Ask((Turn("user", shown("When are roses pruned in winter?")),))
    for good, groundedness in ((True, 1.0), (False, 0.0)):
        text = answer_text("m", ask, tokens=100, good=good, draw=0)
        assert text.startswith("[simulated by m]")
        assert evidence_of(text, PASSAGES).groundedness == groundedness
