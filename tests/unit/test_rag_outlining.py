"""Chunks of source code say which file and which declaration they stand in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.parsing.reader import read
from shared.rag.chunking import ChunkRules, cut
from shared.rag.outlining import Outline

RUST = """use std::fmt;

/// Runs two of them.
pub struct PairRunner<A, B> {
    first: A,
    second: B,
}

impl<A, B> PairRunner<A, B> {
    /// Creates one.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

fn main() {
    println!("hello");
}
"""
JAVA = """package org.example;

import java.util.List;

public final class OrderBook extends Book {
    private enum Side { BUY, SELL }

    public int size() {
        return 3;
    }
}
"""
PYTHON = """import re
from typing import Any

class Reader(Base):
    def read(self, path: str) -> bytes:
        with open(path) as file:
            return file.read()

def main() -> None:
    print(Reader().read("x"))
"""
SCRIPT = """import sys

def load(path):
    return open(path).read()

async def serve(port):
    await listen(port)
"""
PROSE = """A class of its own: in the struct of things
the trait that I mean is patience (which is rare).
class Struggle is a word that begins this line,
and struct Foo is named in it; nothing else is.
We import what we use = nothing.
The end.
"""


def test_types_and_the_declaration_around_a_place() -> None:
    outline = Outline(RUST)
    assert outline.at(RUST.index("first: A,")) == "PairRunner\npub struct PairRunner<A, B>"
    assert outline.at(RUST.index("pub fn new")) == "PairRunner\nimpl<A, B> PairRunner<A, B>"
    assert outline.at(RUST.index("println")) == "PairRunner"
    assert outline.at(0) == "PairRunner"


@pytest.mark.parametrize(
    ("text", "inside", "prefix"),
    [
        (JAVA, "public int size", "OrderBook Side\npublic final class OrderBook extends Book"),
        (PYTHON, "with open", "Reader\nclass Reader(Base):"),
        (SCRIPT, "await listen", "load serve"),
        (PROSE, "the trait", ""),
        ("struct A { int a; };", "int", ""),
    ],
)
def test_languages_and_what_is_none(text: str, inside: str, prefix: str) -> None:
    assert Outline(text).at(text.index(inside)) == prefix


def test_long_files_are_named_by_their_first_types() -> None:
    text = "".join(f"class Type{n} {{\n    int field;\n}}\n" for n in range(50))
    assert Outline(text).at(text.index("Type3") + 20).startswith("Type0 Type1 Type2 Type3 Type4 Type5\nclass Type3")
    assert len(Outline("struct " + "A" * 400 + " {\n" + "int a;\n" * 9 + "}\n").at(500)) <= 200


def test_chunks_begin_with_it_and_keep_their_offsets() -> None:
    document = read(RUST.encode(), media_type="text/plain", name="pair.rs")
    rules = ChunkRules(target_tokens=20, overlap_tokens=5, least_tokens=5)
    chunks = cut(document, title="pair.rs", count_tokens=lambda text: len(text.split()), rules=rules)
    assert {chunk.prefix for chunk in chunks} >= {
        "pair.rs\nPairRunner",
        "pair.rs\nPairRunner\nimpl<A, B> PairRunner<A, B>",
    }
    assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


@given(st.text("class struct impl fn A{}();=\n\t#", max_size=300), st.integers(0, 300))
def test_any_text_has_an_outline_of_bounded_length(text: str, start: int) -> None:
    assert len(Outline(text).at(start)) <= 200


def test_a_file_without_ends_takes_no_longer_than_it_is() -> None:
    text = "class A {\n" * 30_000
    assert Outline(text).at(len(text)).startswith("A")
