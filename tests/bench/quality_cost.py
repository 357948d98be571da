"""What watching the quality of answers costs: `python -m tests.bench.quality_cost`. Prints microseconds; asserts nothing."""

import json
import statistics
import time
from collections.abc import Callable

from shared.analysis.answer_signs import signs_of
from shared.analysis.fingerprint import fingerprint, whose
from shared.domain.chat import ChatRequest, FormatKind, Message, ResponseFormat, Role, TextPart
from shared.domain.replies import ChatReply, FinishReason, Usage
from shared.services.quality_watch import QualityWatch
from shared.services.verification import form_fault_of
from shared.stores.memory import ManualClock, MemoryRecordStore
from shared.stores.memory_analytics import MemoryFeedback
from shared.stores.memory_quality import MemoryQuality, MemorySentMessages
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import order
from tests.stores_builders import record

_ROUNDS, _REPEATS = 2_000, 5
KEY = b"k" * 32
PROSE = "The tides come about because the moon and the sun pull at the sea, and the earth turns below them. "


def measure(what: str, work: Callable[[], object], rounds: int = _ROUNDS) -> None:
    """Print the median over repeats of one call's time."""
    took = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        for _ in range(rounds):
            work()
        took.append(1e6 * (time.perf_counter() - began) / rounds)
    print(f"{what:58} {statistics.median(took):8.1f} us")


def reply(text: str) -> ChatReply:
    """A whole answer."""
    return ChatReply((TextPart(text),), FinishReason.STOP, "stop", Usage())


def main() -> None:
    """On the path, then behind it."""
    clock = ManualClock()
    request = ChatRequest((Message(Role.USER, (TextPart(PROSE * 3),)),))
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "integer"}}}}
    wanted = ChatRequest(request.messages, response_format=ResponseFormat(FormatKind.JSON_SCHEMA, "n", schema))
    answers = {"word": reply("Paris."), "300 characters": reply(PROSE * 3), "20,000 characters": reply(PROSE * 200)}
    print("on the path")
    for name, answer in answers.items():
        measure(f"  signs of an answer of {name}", lambda answer=answer: signs_of(answer, request))  # type: ignore[misc]  # bound here
    watch = QualityWatch(
        MemoryQuality(MemoryFeedback(MemoryRecordStore())),
        MemorySentMessages(clock, window_s=600),
        KEY,
        clock,
        RecordingTelemetry(),
        retry_window_s=600,
    )
    asked, ended = order(PROSE * 3, clock=clock), record(quality_score=None)

    def on_path() -> None:
        answer = answers["300 characters"]
        watch.ended(asked, None, watch.signed(ended, asked, answer), answer)  # type: ignore[arg-type]  # only judges read it
        watch._waiting.clear()

    measure("  all of it: signs, record, into the queue", on_path)
    print("behind it")
    measure("  fingerprint of 300 characters", lambda: fingerprint(PROSE * 3, KEY), 200)
    measure("  fingerprint of 20,000 characters", lambda: fingerprint(PROSE * 200, KEY), 200)
    measure("  whose", lambda: whose("tenant", "principal", KEY))
    numbers = reply(json.dumps({"items": list(range(500))}))
    measure("  2 KB of JSON against its schema", lambda: form_fault_of(numbers, wanted), 200)


if __name__ == "__main__":
    main()
