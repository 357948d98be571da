"""The process that reads a document: what it answers, what it may not do, and that nothing is left of it."""

import asyncio
import random
from contextlib import suppress

import psutil
import pytest

from shared.domain.documents import DocumentUnreadable, NeedsOcr, ParsedDocument
from shared.domain.errors import DependencyUnavailable
from shared.providers.parsing import sandbox
from shared.providers.parsing.reader import read
from shared.providers.parsing.sandbox import SandboxedParser
from shared.providers.parsing.worker import Limits
from shared.telemetry import RecordingTelemetry
from tests.unit import document_builders as build
from tests.unit.test_parsing_hostile import hurt

PAGES = build.pdf(build.show("First page.", size=20), build.show("Second page of text."), title="Report")


@pytest.fixture
def parser():
    return SandboxedParser(RecordingTelemetry())


@pytest.fixture
def probe(monkeypatch):
    """Lets the probe do something, under these limits."""
    monkeypatch.setattr(sandbox, "_MODULE", "tests.contract.parsing_probe")

    async def run(name, content=b"", **limits):
        usual = {"memory_bytes": 2**30, "cpu_s": 20, "wall_s": 30.0}
        made = SandboxedParser(RecordingTelemetry(), Limits(**{**usual, **limits}))
        return await made.parse(content, media_type="", name=name)

    return run


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PAGES, "x.pdf"),
        (b"# Title\n\nText with \xc3\xbc.", "x.md"),
        (build.xlsx({"S": [["a", 1]]}), "x.xlsx"),
        (build.docx(build.paragraph(build.run("Words")), comments=["c"]), "x.docx"),
    ],
)
async def test_documents_come_back_as_they_were_read(parser, content, name):
    assert await parser.parse(content, media_type="", name=name) == read(content, media_type="", name=name)


async def test_refusals_come_back_with_their_reasons(parser):
    with pytest.raises(DocumentUnreadable, match="It is empty"):
        await parser.parse(b"", media_type="", name="x")
    with pytest.raises(NeedsOcr) as refused:
        await parser.parse(build.pdf("", picture_pages=(1,)), media_type="application/pdf", name="x.pdf")
    assert refused.value.pages == 1


async def test_many_at_once_wait_for_each_other(parser):
    contents = [f"Text number {i}.".encode() for i in range(6)]
    parsed = await asyncio.gather(*(parser.parse(c, media_type="text/plain", name="x.txt") for c in contents))
    assert [document.text.encode() for document in parsed] == contents


async def test_large_documents_pass_both_ways(parser, probe):
    parsed = await probe("size", bytes(20 * 2**20))
    assert parsed.title == str(20 * 2**20)


async def test_it_knows_no_secrets(probe, monkeypatch):
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://secret")
    monkeypatch.setenv("AzureWebJobsStorage", "AccountKey=secret")
    parsed = await probe("environment")
    assert set(parsed.title.split()) <= {"PYTHONPATH", "PYTHONHASHSEED", "LC_ALL", "LC_CTYPE"}


@pytest.mark.parametrize(
    ("deed", "limits"),
    [
        ("hang", {"wall_s": 1.0}),
        ("spin", {"cpu_s": 1}),
        ("memory", {}),
        ("write", {}),
        ("flood", {}),
        ("garbage", {}),
        ("silence", {}),
        ("death", {}),
    ],
)
async def test_what_costs_too_much_or_fails_is_refused(probe, monkeypatch, deed, limits):
    monkeypatch.setattr(sandbox, "_MAX_ANSWER_BYTES", 10 * 2**20)
    with pytest.raises(DocumentUnreadable, match="Send it in parts"):
        await probe(deed, **limits)


async def test_nothing_is_left_of_it(probe):
    parsed = await probe("child")
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(parsed.title)).wait(timeout=10)
    assert not psutil.pid_exists(int(parsed.title)) or psutil.Process(int(parsed.title)).status() == "zombie"


async def test_a_caller_who_leaves_takes_it_along(probe):
    before = {process.pid for process in psutil.Process().children()}
    work = asyncio.create_task(probe("hang"))
    while not ({process.pid for process in psutil.Process().children()} - before):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert {process.pid for process in psutil.Process().children()} <= before


async def test_without_processes_it_may_be_tried_again(parser, monkeypatch):
    monkeypatch.setattr(sandbox.sys, "executable", "/nonexistent/python")
    with pytest.raises(DependencyUnavailable):
        await parser.parse(b"x", media_type="", name="x")


@pytest.mark.parametrize(("name", "content"), [("x.pdf", PAGES), ("x.xlsx", build.xlsx({"S": [["a", 1], ["b", 2]]}))])
async def test_hurt_files_of_the_readers_in_c_and_rust_end_well_too(parser, name, content):
    rng = random.Random(name)

    async def end():
        try:
            return await parser.parse(hurt(content, rng), media_type="", name=name)
        except DocumentUnreadable as error:
            return error

    for outcome in await asyncio.gather(*(end() for _ in range(12))):
        assert isinstance(outcome, ParsedDocument) or outcome.reason.endswith(".")
