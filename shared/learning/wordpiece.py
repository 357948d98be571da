"""Splitting text into the pieces of a WordPiece vocabulary, in time linear in a bounded sample of the text.

The splitting follows BERT's (Devlin et al. 2018, arXiv 1810.04805; `BertNormalizer` and `BertPreTokenizer` of Hugging
Face tokenizers): lower case, no accents, punctuation and Han characters stand alone, then the longest piece first.
What differs is the treatment of the hostile and the rare: control characters separate, symbols stand alone, and
words that nobody could mean are left out instead of costing time.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

HEAD_CHARS: Final = 2048
MIDDLE_CHARS: Final = 512
TAIL_CHARS: Final = 1536
"""What is read of a longer text: instructions stand at either end, the middle tells what the material is."""

_CONTINUATION: Final = "##"
_MAX_WORD_CHARS: Final = 48
_MAX_RARE_WORDS: Final = 150
"""Words outside the vocabulary that are split; prose has a few in a hundred, noise has nothing else."""
_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+|[^\w\s]|_")
_ASCII_WORD: Final = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
"""The same for lower-case ASCII, three times as fast."""


def sample(text: str) -> str:
    """The text, or its head, middle and tail when it is longer than the three together."""
    if len(text) <= HEAD_CHARS + MIDDLE_CHARS + TAIL_CHARS:
        return text
    centre = (len(text) - MIDDLE_CHARS) // 2
    return f"{text[:HEAD_CHARS]}\n{text[centre : centre + MIDDLE_CHARS]}\n{text[-TAIL_CHARS:]}"


class WordPiece:
    """A vocabulary with its splitting.

    Args:
        vocabulary: the pieces; a piece's index is its row in an embedding table. Pieces that continue a word begin
            with ``##``, pieces in square brackets are markers that no text produces.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        markers = {piece for piece in vocabulary if len(piece) > 1 and piece[0] == "[" and piece[-1] == "]"}
        self._first = {
            piece: row
            for row, piece in enumerate(vocabulary)
            if piece not in markers and not piece.startswith(_CONTINUATION)
        }
        self._next = {
            piece.removeprefix(_CONTINUATION): row
            for row, piece in enumerate(vocabulary)
            if piece.startswith(_CONTINUATION) and len(piece) > len(_CONTINUATION)
        }
        self._longest_next = max(map(len, self._next), default=0)
        self._longest_first = max(map(len, self._first), default=0)

    def rows(self, text: str) -> list[int]:
        """Rows of the text's pieces in order; callers pass `sample` of a text that may be long."""
        normalised = _normalised(text)
        words = (_ASCII_WORD if normalised.isascii() else _WORD).findall(normalised)
        found: list[int] = []
        rare = 0
        for word, row in zip(words, map(self._first.get, words), strict=True):
            if row is not None:
                found.append(row)
            elif rare < _MAX_RARE_WORDS and len(word) <= _MAX_WORD_CHARS:
                rare += 1
                found.extend(self._split(word))
        return found

    def _split(self, word: str) -> list[int]:
        """Pieces of a word by longest match; none when a part of it is in no piece, as BERT's ``[UNK]``."""
        rows: list[int] = []
        start, pieces, longest = 0, self._first, self._longest_first
        while start < len(word):
            for end in range(min(len(word), start + longest), start, -1):
                row = pieces.get(word[start:end])
                if row is not None:
                    rows.append(row)
                    start = end
                    break
            else:
                return []
            pieces, longest = self._next, self._longest_next
        return rows


def _normalised(text: str) -> str:
    lowered = text.lower()
    if lowered.isascii():
        return lowered
    decomposed = unicodedata.normalize("NFD", lowered)
    return "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
