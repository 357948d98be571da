"""Delivery to an ingestion endpoint that fails, hangs or is not there: what waits, what is dropped, what is counted."""

import logging
import threading
from typing import Any

import pytest

from shared.telemetry.ingestion import Ingestion
from tests.contract.telemetry_endpoint import CANARY, DEADLINE_S, KEY, endpoint, eventually, make

__all__ = ["endpoint", "make"]  # pytest finds fixtures by their names in the module


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_what_the_endpoint_does_not_take_now_waits_in_a_file(endpoint, make, tmp_path, status):
    endpoint.status = status
    telemetry = make()
    telemetry.log(logging.INFO, "while_away")
    await eventually(lambda: list((tmp_path / "kept").iterdir()))
    assert endpoint.accepted == []
    endpoint.status = 200
    await eventually(lambda: endpoint.of("Message"))
    assert [data["message"] for data in endpoint.of("Message")] == ["while_away"]
    await eventually(lambda: not list((tmp_path / "kept").iterdir()))
    await telemetry.aclose()
    assert endpoint.metric("telemetry_dropped_items") == []


async def test_a_refused_connection_loses_nothing_either(endpoint, make, tmp_path):
    # opencensus-ext-azure 1.1.15 by itself drops the batch here once its statistics are off.
    away = make(connection_string=f"InstrumentationKey={KEY};IngestionEndpoint=http://127.0.0.1:1/")
    away.log(logging.INFO, "while_away")
    await away.aclose()
    assert list((tmp_path / "kept").iterdir())
    make()
    await eventually(lambda: endpoint.of("Message"))
    assert [data["message"] for data in endpoint.of("Message")] == ["while_away"]


async def test_what_is_refused_for_good_is_counted(endpoint, make, tmp_path):
    endpoint.status = 400
    telemetry = make()
    telemetry.log(logging.INFO, "malformed")
    await eventually(lambda: endpoint.posts)
    endpoint.status = 200
    await eventually(lambda: endpoint.metric("telemetry_dropped_items"))
    ((dropped, properties),) = endpoint.metric("telemetry_dropped_items")
    assert (dropped["value"], properties) == (1, {"reason": "refused"})
    assert list((tmp_path / "kept").iterdir()) == []


async def test_of_a_partly_accepted_batch_the_rest_is_sent_again(endpoint, make):
    endpoint.partial_answers = [{"errors": [{"index": 1, "statusCode": 500, "message": "try again"}]}]
    telemetry = make(flush_interval_s=0.5)
    telemetry.log(logging.INFO, "taken")
    telemetry.log(logging.INFO, "not_yet")
    await eventually(lambda: endpoint.of("Message"))
    assert [data["message"] for data in endpoint.of("Message")] == ["not_yet"]


async def test_a_hanging_endpoint_blocks_nobody_and_the_oldest_are_dropped(endpoint, make):
    endpoint.release.clear()
    telemetry = make(queue_capacity=10, timeout_s=DEADLINE_S, metrics_interval_s=3600.0)
    telemetry.log(logging.INFO, "in_flight")
    await eventually(lambda: endpoint.posts)
    for number in range(25):  # the exporter's thread is stuck in its request all the while
        telemetry.log(logging.INFO, "waiting", number=number)
    assert len(endpoint.posts) == 1
    endpoint.release.set()
    await telemetry.aclose()
    sent = endpoint.of("Message")
    assert sent[0]["message"] == "in_flight"
    assert [data["properties"]["number"] for data in sent[1:]] == [str(number) for number in range(15, 25)]
    ((dropped, properties),) = endpoint.metric("telemetry_dropped_items")
    assert (dropped["value"], properties) == (15, {"reason": "queue_full"})


async def test_closing_against_a_hanging_endpoint_returns_and_keeps_everything(endpoint, make, tmp_path):
    endpoint.release.clear()
    telemetry = make(timeout_s=4 * DEADLINE_S)
    telemetry.log(logging.INFO, "in_flight")
    await eventually(lambda: endpoint.posts)
    telemetry.log(logging.INFO, "waiting")
    telemetry.count("requests")
    await telemetry.aclose()
    assert not endpoint.release.is_set()
    kept = "".join(path.read_text() for path in (tmp_path / "kept").iterdir())
    assert all(name in kept for name in ("in_flight", "waiting", "requests"))


async def test_an_endpoint_that_hangs_times_out_and_the_batch_is_kept(endpoint, make, tmp_path):
    endpoint.release.clear()
    telemetry = make(timeout_s=0.1)
    telemetry.log(logging.INFO, "slow")
    await eventually(lambda: list((tmp_path / "kept").iterdir()))
    endpoint.release.set()
    await eventually(lambda: len(endpoint.of("Message")) > 1)
    assert {data["message"] for data in endpoint.of("Message")} == {"slow"}
    await telemetry.aclose()


async def test_closing_sends_what_waits_and_can_be_repeated(endpoint, make):
    telemetry = make(flush_interval_s=3600.0, metrics_interval_s=3600.0)
    for number in range(450):
        telemetry.log(logging.INFO, "line", number=number)
    telemetry.count("requests")
    await telemetry.aclose()
    await telemetry.aclose()
    assert [int(data["properties"]["number"]) for data in endpoint.of("Message")] == list(range(450))
    assert max(len(batch) for _, batch in endpoint.posts) == 400
    assert len(endpoint.metric("requests")) == 1
    telemetry.log(logging.INFO, "after")  # ignored, not an error


async def test_a_full_batch_does_not_wait_for_the_interval(endpoint, make):
    telemetry = make(flush_interval_s=3600.0, batch_size=5)
    for _ in range(7):
        telemetry.log(logging.INFO, "line")
    await eventually(lambda: endpoint.of("Message"))
    assert len(endpoint.of("Message")) == 5
    await telemetry.aclose()
    assert len(endpoint.of("Message")) == 7


async def test_a_defect_in_one_item_does_not_end_the_exporter(endpoint, make, caplog):
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    telemetry = make()
    telemetry.log(logging.INFO, "bad", value=Unprintable())
    await eventually(lambda: "RuntimeError" in caplog.text)
    assert CANARY not in caplog.text
    telemetry.log(logging.INFO, "good")
    await eventually(lambda: endpoint.of("Message"))
    assert [data["message"] for data in endpoint.of("Message")] == ["good"]
    await eventually(lambda: endpoint.metric("telemetry_dropped_items"))
    assert endpoint.metric("telemetry_dropped_items")[0][1] == {"reason": "defect"}


async def test_losing_the_folder_of_the_files_does_not_end_the_exporter(endpoint, make, tmp_path, caplog):
    telemetry = make()
    (tmp_path / "kept").rmdir()
    await eventually(lambda: "FileNotFoundError" in caplog.text)
    telemetry.log(logging.INFO, "good")
    await eventually(lambda: endpoint.of("Message"))


@pytest.fixture
def open_ingestion(endpoint, tmp_path):
    opened: list[Ingestion] = []

    def build(**options: Any) -> Ingestion:
        opened.append(Ingestion(endpoint.connection_string, storage_path=str(tmp_path / "kept"), **options))
        return opened[-1]

    yield build
    for ingestion in opened:
        ingestion.close()


def test_during_its_pause_the_endpoint_is_left_alone(endpoint, open_ingestion, tmp_path):
    ingestion = open_ingestion(first_backoff_s=3600.0, retry_interval_s=0.0)
    endpoint.status = 503
    assert ingestion.send([{"number": 1}]) == 0
    assert ingestion.send([{"number": 2}]) == 0
    ingestion.resend_kept()
    assert [batch for _, batch in endpoint.posts] == [[{"number": 1}]]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_file_is_sent_by_one_of_the_processes_that_share_the_folder(endpoint, open_ingestion, tmp_path):
    first, second = open_ingestion(retry_interval_s=3600.0), open_ingestion(retry_interval_s=3600.0)
    (tmp_path / "kept" / "2999-01-01T000000.000000-00000000.blob").write_text('{"number": 1}\n')
    listed = list(first.storage.gets())
    second.storage.gets = lambda: iter(listed)  # as if it had listed the folder just before the first took the file
    first.resend_kept()
    second.resend_kept()
    assert [batch for _, batch in endpoint.posts] == [[{"number": 1}]]
    assert list((tmp_path / "kept").iterdir()) == []


def test_one_pass_over_the_files_is_bounded_and_ends_at_the_first_failure(endpoint, open_ingestion):
    ingestion = open_ingestion(retry_interval_s=0.0, first_backoff_s=0.0)
    for number in range(25):
        assert ingestion.keep([{"number": number}]) == 0
    assert ingestion.keep([]) == 0
    endpoint.status = 500
    ingestion.resend_kept()
    assert len(endpoint.posts) == 1
    endpoint.status = 200
    ingestion.resend_kept()
    assert len(endpoint.accepted) == 20
    ingestion.resend_kept()
    assert len({envelope["number"] for envelope in endpoint.accepted}) >= 24


async def test_threads_end_with_the_telemetry(make):
    before = set(threading.enumerate())
    telemetry = make()
    assert {thread.name for thread in set(threading.enumerate()) - before} >= {"telemetry-exporter"}
    await telemetry.aclose()
    await eventually(lambda: not [thread for thread in threading.enumerate() if "telemetry-" in thread.name])
    assert not [thread for thread in threading.enumerate() if "Storage Worker" in (thread.name or "")]
