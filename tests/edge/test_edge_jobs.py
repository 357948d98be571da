"""Queue and timer functions behind their door: what is done, what the host hears of a failure, what is traced."""

import azure.functions as func
import pytest

from functions import queues, timers
from shared import container
from shared.domain.errors import DependencyUnavailable
from shared.domain.record_codec import encode
from shared.domain.records import RequestStatus
from tests.edge.edge_harness import ENVIRON
from tests.stores_builders import record


def body_of(function):
    """The function that the runtime calls."""
    return function._function.get_user_function()


def store(body):
    return body_of(queues.store_spilled_records)(msg=func.QueueMessage(body=body))


async def test_spilled_records_are_stored_once_however_often_the_message_comes(edge):
    first, second = record(), record()
    message = encode([first, second]).encode()
    await store(message)
    await store(message)
    assert set(edge.store.by_id) == {first.id, second.id}
    assert [(span.name, span.success) for span in edge.telemetry.requests] == [("store_spilled_records", True)] * 2


async def test_records_that_the_queue_gave_up_are_stored_or_queued_again(edge):
    left = record()
    message = func.QueueMessage(body=encode([left]).encode())
    edge.store.away = True
    await body_of(queues.take_back_spilled_records)(msg=message)
    assert edge.store.by_id == {}
    edge.store.away = False
    await store(edge.spill.messages.pop().encode())
    await body_of(queues.take_back_spilled_records)(msg=message)
    assert set(edge.store.by_id) == {left.id}
    assert edge.spill.messages == []


async def test_while_the_ledger_is_away_the_message_goes_back_to_the_queue(edge):
    edge.store.away = True
    with pytest.raises(DependencyUnavailable):
        await store(encode([record()]).encode())
    (span,) = edge.telemetry.requests
    assert span.error_code == "dependency_unavailable"
    assert edge.telemetry.events()["job_failed"] == [
        {"job": "store_spilled_records", "error": "dependency_unavailable"}
    ]


@pytest.mark.parametrize("message", [b"canary-4711", b"[]", b'{"v": 99, "records": []}', b'{"v": 1}'])
async def test_a_message_that_cannot_be_read_fails_with_its_class_in_the_log_and_no_content(edge, message):
    with pytest.raises(ValueError):
        await store(message)
    (line,) = edge.telemetry.events()["job_failed"]
    assert line["error"] in {"ValueError", "JSONDecodeError"}
    assert "canary" not in str(edge.telemetry.logs)
    assert edge.store.by_id == {}


async def test_the_recovery_timer_writes_what_a_dead_process_left(edge):
    dead = type(edge.journal)(edge.journal._machine)
    left = record(status=RequestStatus.SUCCESS)
    dead.finished(left)
    dead.die()
    timer = timers.entry(timers.recover_records)
    await timer(timer=func.timer.TimerRequest(past_due=True))
    await timer(timer=func.timer.TimerRequest(past_due=False))
    assert list(edge.store.by_id) == [left.id]


@pytest.mark.parametrize("name", ["recover_records", "prepare_partitions"])
async def test_a_timer_that_fails_says_so_to_the_host(edge, name):
    edge.store.away = edge.spill.away = True
    dead = type(edge.journal)(edge.journal._machine)
    dead.finished(record())
    dead.die()
    with pytest.raises(DependencyUnavailable):
        await timers.entry(getattr(timers, name))(timer=func.timer.TimerRequest())
    (span,) = edge.telemetry.requests
    assert (span.name, span.error_code) == (name, "dependency_unavailable")


class Away:
    """A dependency that does not answer."""

    name, required = "postgres", True

    async def check(self):
        raise DependencyUnavailable("does not answer")


@pytest.mark.parametrize("probes", [(), (Away(),)])
async def test_the_availability_timer_tells_how_things_stand_and_fails_for_no_result(build_edge, probes):
    edge = build_edge(probes=probes)
    await timers.entry(timers.report_availability)(timer=func.timer.TimerRequest())
    (span,) = edge.telemetry.requests
    assert (span.name, span.success) == ("report_availability", True)
    found = {one.name: one for one in edge.telemetry.availabilities}
    assert found["self/decision"].success
    assert found["self/router"].success is not bool(probes)
    assert {one.span for one in found.values()} == {span}
    assert edge.provider.calls == []
    assert await edge.records() == []


async def test_a_job_without_a_container_fails_and_is_run_again_by_the_host(monkeypatch):
    async def build(settings):
        raise OSError("no journal directory")

    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(container, "_building", None)
    monkeypatch.setattr(container, "build", build)
    with pytest.raises(OSError, match="journal"):
        await store(b"{}")
