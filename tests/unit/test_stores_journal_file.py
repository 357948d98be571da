"""The journal's file: how it grows, shrinks, and what becomes of lines that are not whole."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from shared.domain.records import RequestStatus
from shared.stores import journal as journal_module
from shared.stores.journal import FileJournal
from tests.stores_builders import batch, record


def _abandon(journal: FileJournal) -> Path:
    """End its process; the file's path."""
    os.close(journal._fd)
    return journal._path


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "new" / "journal")

    assert (tmp_path / "new" / "journal").stat().st_mode & 0o777 == 0o700
    assert journal._path.stat().st_mode & 0o777 == 0o600
    journal.close()


def test_a_file_of_stored_requests_stays_small(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, max_bytes=10_000)
    sizes = []
    for item in batch(100):
        journal.opened(item)
        journal.finished(item)
        journal.stored([item.id])
        sizes.append(journal._path.stat().st_size)

    assert max(sizes) <= 10_000
    journal.close()


def test_a_file_with_nothing_left_to_keep_is_emptied(tmp_path: Path) -> None:
    journal, items = FileJournal(tmp_path), batch(4)
    for item in items:
        journal.finished(item)
    journal._compact_at = 1
    journal.stored([item.id for item in items])

    assert journal._path.stat().st_size == 0
    journal.finished(left := record())
    _abandon(journal)
    assert FileJournal(tmp_path).recover() == [left]


def test_compaction_keeps_what_is_not_stored(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, max_bytes=10_000)
    kept, passing = record(), batch(50)
    journal.opened(replace(kept, status=RequestStatus.ABANDONED))
    journal.finished(kept)
    for item in passing:
        journal.finished(item)
        journal.stored([item.id])

    assert journal._path.stat().st_size < 15_000
    _abandon(journal)
    assert FileJournal(tmp_path).recover() == [kept]


def test_compaction_waits_until_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path, max_bytes=10_000)
    compactions = 0
    compact = journal._compact

    def counted() -> None:
        nonlocal compactions
        compactions += 1
        compact()

    monkeypatch.setattr(journal, "_compact", counted)
    items = batch(500)
    for item in items:
        journal.finished(item)

    # Nothing could be dropped, so each time the file had to double first.
    assert compactions <= 8
    _abandon(journal)
    assert len(FileJournal(tmp_path).recover()) == len(items)


def test_a_compacted_file_is_still_its_owners(tmp_path: Path) -> None:
    journal, other = FileJournal(tmp_path, max_bytes=1), FileJournal(tmp_path)
    journal.opened(record())

    assert other.recover() == []
    journal.close()
    assert len(other.recover()) == 1


def test_closing_deletes_the_file_only_when_all_is_stored(tmp_path: Path) -> None:
    journal, left = FileJournal(tmp_path), FileJournal(tmp_path)
    journal.finished(item := record())
    journal.stored([item.id])
    left.finished(item)
    journal.close()
    left.close()

    assert list(tmp_path.iterdir()) == [left._path]


def test_a_closed_journal_writes_into_no_other_file(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.close()
    with (tmp_path / "innocent").open("wb") as innocent:
        journal.opened(record())
        innocent.flush()

    assert (tmp_path / "innocent").read_bytes() == b""
    assert journal.failures == 1


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    journal, whole = FileJournal(tmp_path), record()
    journal.finished(whole)
    journal.finished(record())
    path = _abandon(journal)
    os.truncate(path, path.stat().st_size - cut)
    finder = FileJournal(tmp_path)

    # Without its last byte, the line break, a line is still whole.
    assert len(finder.recover()) == (2 if cut == 1 else 1)
    finder.discard()
    assert list(tmp_path.iterdir()) == [finder._path]


def test_a_full_disk_costs_the_line_and_neither_the_request_nor_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal, lost, after = FileJournal(tmp_path), batch(3), record()
    write = os.write

    def full(fd: int, line: bytes) -> int:
        raise OSError(28, "No space left on device")

    def short(fd: int, line: bytes) -> int:
        return write(fd, line[:100])

    monkeypatch.setattr(os, "write", short)
    journal.finished(lost[0])
    monkeypatch.setattr(os, "write", full)
    journal.finished(lost[1])
    journal.finished(lost[2])
    monkeypatch.setattr(os, "write", write)
    journal.finished(after)

    assert journal.failures == 3
    assert [entry.message for entry in caplog.records] == ["journal_append_failed"]
    _abandon(journal)
    assert FileJournal(tmp_path).recover() == [after]


def test_what_a_full_disk_did_not_take_is_written_with_the_next_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, items = FileJournal(tmp_path, max_bytes=4_000), batch(10)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, line: write(fd, line[:10]))
    journal.finished(items[0])
    monkeypatch.setattr(os, "write", write)
    for item in items[1:]:
        journal.finished(item)

    _abandon(journal)
    assert {item.id for item in FileJournal(tmp_path).recover()} == {item.id for item in items}


def test_a_compaction_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, items = FileJournal(tmp_path, max_bytes=2_000), batch(6)

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    for item in items:
        journal.finished(item)
    monkeypatch.undo()

    assert journal.failures > 0
    assert FileJournal(tmp_path).recover() == []
    _abandon(journal)
    assert FileJournal(tmp_path).recover() == items


def test_lines_of_another_version_are_kept_for_a_person_and_hold_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal, good = FileJournal(tmp_path), record()
    journal.finished(good)
    path = _abandon(journal)
    with path.open("ab") as file:
        file.write(b'{"v":2,"finished":{"id":"from-the-future"}}\n[]\n')
    finder = FileJournal(tmp_path)

    assert finder.recover() == [good]
    finder.discard()

    assert path.with_suffix(".unreadable").exists()
    assert [entry.message for entry in caplog.records] == ["journal_unreadable"]
    assert FileJournal(tmp_path).recover() == []


def test_text_and_numbers_that_json_does_not_take_are_mended(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.finished(item := record(requested_model="half \ud83d", attachment_size=2**70))
    _abandon(journal)

    (read,) = FileJournal(tmp_path).recover()
    assert read == replace(item, requested_model="half \ufffd", attachment_size=2**63 - 1)


def test_a_file_that_lost_its_name_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = FileJournal(tmp_path)
    dead.finished(record())
    path = _abandon(dead)
    first, second = FileJournal(tmp_path), FileJournal(tmp_path)
    assert len(first.recover()) == 1
    lock, number = fcntl.flock, path.stat().st_ino

    def discarded_meanwhile(fd: int, operation: int) -> None:
        # The second has opened the file, and only then does the first delete it.
        if os.fstat(fd).st_ino == number:
            first.discard()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", discarded_meanwhile)
    assert second.recover() == []
    assert not path.exists()


def test_a_claim_is_let_go_only_when_the_file_has_lost_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = FileJournal(tmp_path)
    dead.finished(record())
    path = _abandon(dead)
    finder = FileJournal(tmp_path)
    finder.recover()
    (claim,) = finder._claimed
    close, seen = os.close, []

    def watched(fd: int) -> None:
        if fd == claim[1]:
            seen.append(path.exists())
        close(fd)

    monkeypatch.setattr(os, "close", watched)
    finder.discard()

    assert seen == [False]


def test_files_that_were_never_finished_are_swept_when_they_are_old(tmp_path: Path) -> None:
    old, young = tmp_path / "1-a.tmp", tmp_path / "2-b.tmp"
    for path in (old, young):
        path.touch()
    age = journal_module._UNFINISHED_MAX_AGE_S + 60
    os.utime(old, (old.stat().st_atime, old.stat().st_mtime - age))

    FileJournal(tmp_path).recover()

    assert not old.exists()
    assert young.exists()


def test_a_directory_that_cannot_be_written_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="file"):
        FileJournal(tmp_path / "file")
