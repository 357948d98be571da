"""What the best passages name by title comes up with them."""

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.documents import Passage
from shared.rag.linking import with_linked
from tests.retrieval_builders import chunk


def found(title: str, text: str, score: float, *, document: str = "", ordinal: int = 0) -> Passage:
    return Passage(document or title, title, title, chunk(ordinal, text), score)


QUESTION = "Where does its director live?"
FILM = found("Big Stone Gap (film)", "A comedy that Adriana Trigiani has directed.", 0.9)
OTHERS = [found(f"Film {n}", f"A comedy about {n} hills in the East.", 0.5 - n / 100) for n in range(12)]
DIRECTOR = found("Adriana Trigiani", "A writer who lives in Greenwich Village.", 0.3)


def titles(passages: list[Passage]) -> list[str]:
    return [passage.title for passage in passages]


def test_a_document_that_the_best_one_names_comes_next() -> None:
    assert titles(with_linked([FILM, *OTHERS, DIRECTOR], QUESTION))[:2] == ["Big Stone Gap (film)", "Adriana Trigiani"]


def test_a_document_that_the_question_names_comes_up() -> None:
    band = found("For Against", "They play in Nebraska.", 0.45)
    passages = [*OTHERS, band]
    assert titles(with_linked(passages, "Are Local H and For Against both American?"))[0] == "For Against"
    assert with_linked(passages, "Who is for it, and who is against?") == passages


def test_scores_stay_in_order_and_between_0_and_1() -> None:
    one, other = found("A road", "It leads to The bridge.", 1.0), found("The bridge", "It follows A road.", 0.98)
    linked = with_linked([one, other, *OTHERS], QUESTION)
    assert titles(linked)[:2] == ["A road", "The bridge"]
    assert linked[0].score == 1.0
    assert linked[1].score < 1.0


def test_a_word_that_only_holds_the_title_does_not_name_it() -> None:
    arm = found("Arm", "Of a body.", 0.1)
    found_passages = [found("Army", "The Army and its Armour; the arm of the law.", 0.9), *OTHERS, arm]
    assert with_linked(found_passages, QUESTION) == found_passages


def test_a_title_that_everything_names_lends_nothing() -> None:
    overview = found("Overview", "All there is.", 0.1)
    others = [found(f"Part {n}", f"See the Overview of part {n}.", 0.9 - n / 100) for n in range(12)]
    assert titles(with_linked([*others, overview], QUESTION))[-1] == "Overview"


def test_only_the_best_passage_of_a_named_document_rises() -> None:
    second = found("Adriana Trigiani", "Her later books.", 0.2, ordinal=4)
    linked = with_linked([FILM, *OTHERS, DIRECTOR, second], QUESTION)
    assert linked[1].chunk == DIRECTOR.chunk
    assert linked[-1].chunk == second.chunk


def test_a_passage_does_not_name_its_own_document_or_another_of_its_name() -> None:
    book = found("Dune (novel)", "Dune is a novel; the film Dune came later.", 0.9)
    film = found("Dune (film)", "Dune is a film.", 0.2)
    passages = [book, *OTHERS, film]
    assert with_linked(passages, QUESTION) == passages


def test_titles_of_no_length_are_no_names() -> None:
    passages = [found("Physics", "E and pi are numbers.", 0.9, document="a"), *OTHERS]
    passages += [found(title, "Something.", 0.1, document=title or "none") for title in ("", "pi", "(film)")]
    assert with_linked(passages, QUESTION) == passages


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.text("abcd .()", max_size=12), st.floats(0, 1)), max_size=12))
def test_nothing_is_lost_and_scores_are_shares(drawn: list[tuple[str, str, float]]) -> None:
    ranked = sorted(drawn, key=lambda one: -one[2])
    passages = [found(title * 3, text, score, ordinal=n) for n, (title, text, score) in enumerate(ranked)]
    linked = with_linked(passages, QUESTION)
    assert sorted(p.chunk.ordinal for p in linked) == list(range(len(passages)))
    assert all(0 <= p.score <= 1 for p in linked)
    assert [p.score for p in linked] == sorted((p.score for p in linked), reverse=True)
