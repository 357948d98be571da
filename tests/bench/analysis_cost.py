"""CPU time of reading one request: `python -m tests.bench.analysis_cost` prints p50 and p99 by size, kind and step.

Nothing is asserted: the figures belong to the machine. Set OMP_NUM_THREADS=1, as one request has one core.
"""

import time
from collections.abc import Callable

from shared.analysis.categories import Evidence, classify
from shared.analysis.contents import contents_of
from shared.analysis.features import analyse
from shared.analysis.security import scan
from shared.analysis.text_kind import language_of, shape_of
from shared.analysis.tokens import text_tokens
from shared.domain.chat import ChatRequest, Message, Role, TextPart

SIZES = (1 << 10, 4 << 10, 64 << 10, 1 << 20)
KINDS = {
    "prose": "Summarize the report. Figures rose in every region; 12,400 units were sold, and costs were stable.\n",
    "code": "def total(rows: list[Row]) -> float:\n    return sum(row.price * row.count for row in rows if row.open)\n\n",
    "json": '{"id": 48213, "name": "hinge", "tags": ["brass", "door"], "price": 3.20, "at": "2031-04-05T10:00:00Z"},\n',
    "chinese": "请总结这份报告的主要内容并列出三个要点。今年的销售额在各个地区都有所上升。\n",
    "log": "2031-05-01 10:04:11 WARN ledger slow write took 812 ms, request 8f41c2 from 10.0.3.7 retried\n",
}
STEPS: dict[str, Callable[[str], object]] = {
    "category": lambda text: classify(Evidence(text[:3072])),
    "security scan": lambda text: scan(text, "here"),
    "tokens": text_tokens,
    "shape": lambda text: shape_of(text[: 64 * 1024]),
    "language": lambda text: language_of(text[: 64 * 1024]),
}


def request_of(text: str) -> ChatRequest:
    """A request of one user turn."""
    return ChatRequest((Message(Role.USER, (TextPart(text),)),))


def percentiles_ms(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and 99th percentile of the CPU time of `work`."""
    samples = []
    for _ in range(rounds):
        start = time.process_time_ns()
        work()
        samples.append((time.process_time_ns() - start) / 1e6)
    samples.sort()
    return samples[rounds // 2], samples[rounds * 99 // 100]


def main() -> None:
    """Print the tables."""
    print(f"{'analyse, ms of CPU':24}" + "".join(f"{size // 1024:>9} KB p50      p99" for size in SIZES))
    for kind, line in KINDS.items():
        cells = ""
        for size in SIZES:
            asked = request_of((line * (size // len(line.encode()) + 1)).encode()[:size].decode("utf-8", "ignore"))
            analyse(asked)
            p50, p99 = percentiles_ms(lambda asked=asked: analyse(asked), max(20, min(1000, (8 << 20) // size)))
            cells += f"{p50:>16.2f} {p99:>8.2f}"
        print(f"{kind:24}{cells}")
    print(f"\n{'steps of prose, ms p50':24}" + "".join(f"{size // 1024:>9} KB" for size in SIZES))
    for name, step in STEPS.items():
        cells = ""
        for size in SIZES:
            text = (KINDS["prose"] * (size // 90))[:size]
            cells += f"{percentiles_ms(lambda step=step, text=text: step(text), max(10, min(500, (4 << 20) // size)))[0]:>12.3f}"
        print(f"{name:24}{cells}")
    asked = request_of((KINDS["prose"] + KINDS["code"] + KINDS["log"]) * 3500)
    p50, p99 = percentiles_ms(lambda: contents_of(asked, ()), 20)
    print(f"\ncontents of 1 MB for POST /analyze alone: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
