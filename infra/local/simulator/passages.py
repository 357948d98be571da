"""Answers from passages: what a prompt of /rag/query shows is quoted with its number, as a good model would.

The marks are those of `shared.rag.prompting`, read here as any model would read them.
"""

import re

_PASSAGE = re.compile(r'<passage n="(\d+)"[^>\n]*>\n(.*?)\n</passage>', re.DOTALL)
_END = "</passages>"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"\w{3,}")
_MOST_QUOTED = 2
_LEAST_WORDS = 4
"""Of a sentence; shorter lines are mostly headings."""


def quoted(text: str, *, good: bool) -> list[str]:
    """Sentences with their passages' numbers; empty when the text shows no passages.

    Args:
        text: the user's last turn.
        good: quote what shares the most words with the question; otherwise cite without having read.
    """
    shown, _, question = text.rpartition(_END)
    asked = set(_WORD.findall(question.lower()))
    sentences = [
        (number, sentence.strip())
        for number, content in _PASSAGE.findall(shown)
        for sentence in _SENTENCE.split(content)
        if len(sentence.split()) >= _LEAST_WORDS
    ]
    if not sentences:
        return []
    if not good:
        return [f"Something like that is written there [{sentences[0][0]}]."]
    ranked = sorted(sentences, key=lambda one: -len(asked & set(_WORD.findall(one[1].lower()))))
    return [f"{sentence.rstrip('.!?')} [{number}]." for number, sentence in dict.fromkeys(ranked[:_MOST_QUOTED])]
