"""The first classifier against short requests as people write them. The table is its specification, not its score."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.categories import Evidence, classify
from shared.analysis.features import analyse
from shared.domain.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from shared.domain.features import Category

CODE = "def total(items):\n    result = 0\n    for item in items:\n        result += item.price\n    return result\n"
REPORT = "The quarterly figures rose in every region. Costs were stable, and the outlook was raised. " * 40

CASES: list[tuple[str, Category]] = [
    ("Summarize the following article:\n\n" + REPORT, Category.SUMMARIZATION),
    ("Give me a tl;dr of this thread.\n" + REPORT, Category.SUMMARIZATION),
    (REPORT + "\n\nWhat are the key takeaways?", Category.SUMMARIZATION),
    ("Fasse den folgenden Text in drei Sätzen zusammen: ...", Category.SUMMARIZATION),
    ("请总结这篇文章的主要内容", Category.SUMMARIZATION),
    ("Translate to French: Where is the train station?", Category.TRANSLATION),
    ("Übersetze diesen Satz ins Englische: Der Zug hat Verspätung.", Category.TRANSLATION),
    ("Traduis ce texte en anglais: Bonjour tout le monde", Category.TRANSLATION),
    ("把这句话翻译成英文", Category.TRANSLATION),
    ("How would I say 'good luck' in Japanese?", Category.TRANSLATION),
    ("Classify this review as positive or negative: The food was cold.", Category.CLASSIFICATION),
    ("What is the sentiment of this tweet? 'I love the new release'", Category.CLASSIFICATION),
    ("Assign one of the labels billing, bug, feature to this ticket: I was charged twice", Category.CLASSIFICATION),
    ("Is this mail spam or not spam? 'You have won a prize'", Category.CLASSIFICATION),
    ("Categorize these expenses: taxi 20, lunch 12, hotel 140", Category.CLASSIFICATION),
    ("Extract all dates and amounts from the invoice below.\nInvoice of 3 May, due 2 June, 400 EUR", Category.EXTRACTION),
    ("Pull out the named entities in this paragraph as JSON", Category.EXTRACTION),
    ("Parse the address into street, city and postcode fields", Category.EXTRACTION),
    ("Write a Python function that merges two sorted lists.", Category.CODE_GENERATION),
    ("Implement a thread-safe LRU cache in Rust", Category.CODE_GENERATION),
    ("Create a SQL query that returns the ten best customers per month", Category.CODE_GENERATION),
    ("I need a bash script that rotates log files", Category.CODE_GENERATION),
    ("Write unit tests for this module:\n```python\n" + CODE + "```", Category.CODE_GENERATION),
    ("Build a React component with a search box", Category.CODE_GENERATION),
    ("Review this code:\n```python\n" + CODE + "```", Category.CODE_REVIEW),
    ("Why does this throw a KeyError? Find the bug.\n```python\n" + CODE + "```", Category.CODE_REVIEW),
    ("Please refactor this function\n\n" + CODE, Category.CODE_REVIEW),
    ("Are there security issues in this pull request?\ndiff --git a/x b/x\n@@ -1 +1 @@\n+eval(x)", Category.CODE_REVIEW),
    ("Solve for x: 3x + 7 = 22", Category.MATH),
    ("What is the derivative of x^2 * sin(x)?", Category.MATH),
    ("A bag holds 3 red and 5 blue balls. What is the probability that two drawn balls are red?", Category.MATH),
    ("Prove that the square root of 2 is irrational", Category.MATH),
    ("Calculate 15 percent of 2,400 and add 12 * 7", Category.MATH),
    ("Compute $\\int_0^1 x^2 dx$", Category.MATH),
    ("Three people sit in a row. Solve this logic puzzle step by step: who owns the cat?", Category.REASONING),
    ("Weigh the pros and cons of moving our monolith to microservices and recommend one.", Category.REASONING),
    ("Should we enter the Brazilian market? Compare the trade-offs.", Category.REASONING),
    ("Do a root cause analysis: orders fail every Monday at nine, but only in one region", Category.REASONING),
    ("Write a poem about the sea in autumn", Category.CREATIVE_WRITING),
    ("Draft a blog post about remote work", Category.CREATIVE_WRITING),
    ("Tell a short story about a lighthouse keeper", Category.CREATIVE_WRITING),
    ("Come up with a slogan for a coffee brand", Category.CREATIVE_WRITING),
    ("Based on the passage below, when was the bridge opened?\n<passage>It was opened in 1932.</passage>", Category.GROUNDED_ANSWER),
    ("Using only the provided context, answer the question.\nContext: The refund period is 30 days.\nQuestion: how long?", Category.GROUNDED_ANSWER),
    ("According to the document, who approves travel? Cite your sources.", Category.GROUNDED_ANSWER),
    ("What is the capital of Australia?", Category.QUESTION_ANSWERING),
    ("Who wrote The Trial?", Category.QUESTION_ANSWERING),
    ("Explain how a heat pump works", Category.QUESTION_ANSWERING),
    ("Was ist der Unterschied zwischen Wetter und Klima?", Category.QUESTION_ANSWERING),
    ("Which planet is largest?\nA. Mars\nB. Jupiter\nC. Venus\nD. Earth", Category.QUESTION_ANSWERING),
    ("Hi there!", Category.CONVERSATION),
    ("hello, how are you today?", Category.CONVERSATION),
    ("Thanks, that was helpful", Category.CONVERSATION),
    ("Guten Tag!", Category.CONVERSATION),
    ("Search the web for flights to Lisbon and book a seat", Category.AGENTIC),
    ("asdf qwer zxcv", Category.UNKNOWN),
    ("blue", Category.UNKNOWN),
    ("", Category.UNKNOWN),
    ("42", Category.UNKNOWN),
    ("The meeting took place on Tuesday in the usual room.", Category.UNKNOWN),
]  # fmt: skip


def ask(text: str, **changes: object) -> ChatRequest:
    return replace(ChatRequest((Message(Role.USER, (TextPart(text),)),)), **changes)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(("text", "category"), CASES, ids=[case[0][:40] for case in CASES])
def test_category(text: str, category: Category):
    features = analyse(ask(text))
    assert features.category is category, features.category_probabilities[:4]


def test_every_category_is_covered():
    assert {category for _, category in CASES} == set(Category)


TOOL = Tool("search", "Searches orders", {"type": "object", "properties": {"q": {"type": "string"}}})


def test_offered_tools_make_a_request_agentic():
    assert analyse(ask("How many orders are open for this customer?", tools=(TOOL,))).category is Category.AGENTIC


def test_tools_that_may_not_be_called_do_not():
    request = ask("Translate to French: hello world", tools=(TOOL,), tool_choice=ToolChoice(ToolMode.NONE))
    assert analyse(request).category is Category.TRANSLATION


def test_a_conversation_that_used_tools_is_agentic():
    call = Message(Role.ASSISTANT, (ToolCallPart("c1", "search", '{"q": "open"}'),))
    result = Message(Role.TOOL, (ToolResultPart("c1", "search", "three orders"),))
    request = ChatRequest((*ask("Check the status of my orders").messages, call, result), tools=(TOOL,))
    assert analyse(request).category is Category.AGENTIC


def test_the_last_user_turn_decides():
    turns = (
        Message(Role.USER, (TextPart("Translate to French: good morning"),)),
        Message(Role.ASSISTANT, (TextPart("Bonjour"),)),
        Message(Role.USER, (TextPart("Write a Python function that prints it"),)),
    )
    assert analyse(ChatRequest(turns)).category is Category.CODE_GENERATION


def test_an_instruction_counts_at_either_end_of_long_material():
    for text in (f"Summarize this: {REPORT * 30}", f"{REPORT * 30}\nPlease summarize the above."):
        assert analyse(ask(text)).category is Category.SUMMARIZATION


def test_a_cue_inside_material_counts_for_less():
    words = "the committee met again and noted the report of its members " * 20
    buried = classify(Evidence(f"{words} they will translate it {words}"))
    stated = classify(Evidence(f"Translate this: {words} {words}"))
    assert dict(buried)[Category.TRANSLATION] < dict(stated)[Category.TRANSLATION] / 2


def test_a_schema_speaks_for_extraction():
    text = "The invoice number and the fields of this letter"
    plain = dict(classify(Evidence(text)))[Category.EXTRACTION]
    assert dict(classify(Evidence(text, wants_schema=True)))[Category.EXTRACTION] > plain


def test_system_text_counts_for_less_than_the_request():
    system = "You translate everything the user writes. Translate to German."
    assert analyse(ask("The weather is fine.", system=system)).category is Category.TRANSLATION
    assert analyse(ask("Write a Python function that adds", system=system)).category is Category.CODE_GENERATION


@given(st.text(max_size=400), st.text(max_size=100), st.booleans(), st.booleans(), st.integers(1, 9))
def test_probabilities_are_a_distribution_over_the_whole_taxonomy(text, system, has_code, tools, turns):
    evidence = Evidence(text, system, has_code=has_code, offers_tools=tools, turns=turns)
    probabilities = classify(evidence)
    assert {category for category, _ in probabilities} == set(Category)
    assert sum(p for _, p in probabilities) == pytest.approx(1, abs=1e-9)
    assert all(0 <= p <= 1 for _, p in probabilities)
    assert [p for _, p in probabilities] == sorted((p for _, p in probabilities), reverse=True)
    assert classify(evidence) == probabilities


def test_response_format_reaches_the_needs():
    assert analyse(ask("x", response_format=ResponseFormat())).needs_json_schema is False
