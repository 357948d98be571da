"""What reading a text for sensitive content and attacks costs, in microseconds. `python -m tests.bench.security_cost`."""

import timeit
from collections.abc import Callable

from shared.analysis.detectors.injection import Source, signals
from shared.analysis.security import scan
from tests.evals.security_items import sensitive_items

CHARS = 4096
_PROSE = "The committee met on Tuesday and agreed on the plan for the second quarter of the year. "
_CODE = "def total(rows, key=None):\n    return sum(row.price * row.count for row in rows if key is None)\n\n"
_RUNS, _REPEATS = 50, 5


def texts() -> dict[str, str]:
    """Texts of 4 KB: usual ones, and one that is nothing but findings."""
    dense = "\n".join(item.text for item in sensitive_items() if item.kind)
    made = {
        "prose": _PROSE * 60,
        "code": _CODE * 50,
        "one e-mail": _PROSE * 60 + "jane.doe@acme.org",
        "findings only": dense,
    }
    return {name: text[-CHARS:] for name, text in made.items()}


def microseconds(work: Callable[[], object]) -> float:
    """The best of several rounds, per call."""
    work()
    return min(timeit.repeat(work, number=_RUNS, repeat=_REPEATS)) / _RUNS * 1e6


if __name__ == "__main__":
    for name, text in texts().items():
        found = microseconds(lambda text=text: scan(text, "x"))
        signs = microseconds(lambda text=text: signals(text, "x", Source.USER))
        print(f"{name:16}{len(text):6} chars   content {found:7.0f} us   attacks {signs:6.0f} us")
