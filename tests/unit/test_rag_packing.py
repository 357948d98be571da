"""What of the passages goes into a context."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.documents import Chunk, Passage
from shared.domain.security import SecurityLevel
from shared.rag.packing import pack, without_repetition
from shared.rag.rewriting import standalone

TEXT = " ".join(f"word{n}" for n in range(200))


def part(start: int, end: int, document: str = "d", score: float = 0.5, text: str = TEXT, prefix: str = "") -> Passage:
    piece = Chunk(start, text[start:end], prefix, 1, start, end, (end - start) // 7, f"{start}", SecurityLevel.PUBLIC)
    return Passage(document, "t", "s", piece, score)


def words(text: str) -> int:
    return len(text.split())


def test_the_best_that_fit_stand_in_reading_order() -> None:
    packed = pack([part(700, 770), part(0, 70, "e"), part(70, 140)], budget_tokens=100, count_tokens=words)
    assert [(p.document_id, p.chunk.start) for p in packed] == [("d", 70), ("d", 700), ("e", 0)]


def test_what_does_not_fit_is_passed_over_for_what_does() -> None:
    packed = pack([part(0, 70), part(100, 800), part(900, 970)], budget_tokens=25, count_tokens=words)
    assert [p.chunk.start for p in packed] == [0, 900]
    assert pack([part(0, 700)], budget_tokens=10, count_tokens=words) == []


def test_chunks_that_overlap_become_one_passage() -> None:
    first, second = part(0, 100, score=0.4), part(80, 160, score=0.9)
    second = replace(second, chunk=replace(second.chunk, label=SecurityLevel.RESTRICTED))

    (joined,) = pack([second, first], budget_tokens=100, count_tokens=words)

    assert (joined.chunk.text, joined.chunk.start, joined.chunk.end) == (TEXT[:160], 0, 160)
    assert (joined.score, joined.chunk.label, joined.chunk.ordinal) == (0.9, SecurityLevel.RESTRICTED, 0)


def test_a_chunk_within_another_adds_nothing() -> None:
    (joined,) = pack([part(0, 100), part(20, 60)], budget_tokens=100, count_tokens=words)
    assert joined.chunk.text == TEXT[:100]


def test_texts_that_are_not_where_their_offsets_say_stay_apart() -> None:
    shifted = replace(part(80, 160), chunk=replace(part(80, 160).chunk, text="other"))
    assert len(pack([part(0, 100), shifted], budget_tokens=1000, count_tokens=words)) == 2


@given(
    st.lists(st.tuples(st.integers(0, 1300), st.integers(1, 90), st.sampled_from("de")), max_size=8),
    st.integers(0, 120),
)
def test_contexts_fit_say_nothing_twice_and_quote_exactly(spans: list[tuple[int, int, str]], budget: int) -> None:
    passages = [part(start, min(start + size, len(TEXT)), document) for start, size, document in spans]
    packed = pack(passages, budget_tokens=budget, count_tokens=words)
    assert sum(words(p.chunk.text) for p in packed) <= budget
    for p in packed:
        assert p.chunk.text == TEXT[p.chunk.start : p.chunk.end]
    for document in "de":
        own = [p.chunk for p in packed if p.document_id == document]
        assert all(one.end < other.start for one, other in pairwise(own))


def test_repetitions_are_left_out_unless_they_say_other_facts() -> None:
    def said(text: str) -> Passage:
        return part(0, len(text), text=text)

    kept = without_repetition(
        [
            said("The limit of the account is 500 euros per day for transfers to Norway and Sweden"),
            said("the limit of the account is 500 euros per day for transfers to Norway and Sweden."),
            said("The limit of the account is 900 euros per day for transfers to Norway and Sweden"),
            said("of the account is 500 euros per day"),
            said("Sweden and Norway"),
        ]
    )
    assert [p.chunk.text[:40] for p in kept] == [
        "The limit of the account is 500 euros pe",
        "The limit of the account is 900 euros pe",
        "Sweden and Norway",
    ]


def test_a_question_that_leans_on_what_was_said_is_completed() -> None:
    earlier = ["Tell me about the refund policy of the webshop.", "What is the notice period for managers in Germany?"]
    assert standalone("And in France?", earlier) == "notice period managers Germany And in France?"
    assert standalone("How long is it for developers?", earlier).startswith("notice period managers Germany ")
    assert standalone("why?", earlier) == "notice period managers Germany why?"
    assert standalone("Und wie ist das in Frankreich?", earlier).startswith("notice period")


def test_a_question_that_stands_for_itself_stays_as_it_is() -> None:
    earlier = ["What is the notice period for managers in Germany?"]
    for question in ("Which countries export the most coffee beans?", "机器学习的主要方法有哪些"):
        assert standalone(question, earlier) == question
    assert standalone("And in France?", []) == "And in France?"
    assert standalone("It is?", ["???"]) == "It is?"


def test_what_a_turn_leans_on_itself_is_looked_up_further_back() -> None:
    earlier = ["Compare the warranty of blender X200 and blender X300.", "Which one has it longer?"]
    found = standalone("And which is cheaper?", earlier)
    assert "X200" in found
    assert found.endswith("And which is cheaper?")


@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=4))
def test_the_question_itself_is_never_changed(question: str, earlier: list[str]) -> None:
    assert standalone(question, earlier).endswith(question)
