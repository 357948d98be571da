"""The journal on the local disk: one append-only file a process, which outlives the process but not the machine.

The owner holds an exclusive `flock` on its file for life, so a file whose lock can be taken has lost its owner, however
that died; whoever takes the lock owns the recovery. Needs a POSIX system and a local disk: locks on network shares
(Azure Files) do not hold.

A file only ever gets its name once its lock is held, and a lock counts only on a file that still has a name. So nobody
can claim a journal between its creation and its locking, or one that was just replaced or discarded.
"""

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from shared.domain.record_bounds import storable
from shared.domain.record_codec import FORMAT_VERSION, check_version, from_document
from shared.domain.records import RequestRecord, RequestStatus

_SUFFIX = ".journal"
_UNFINISHED_SUFFIX = ".tmp"
_UNREADABLE_SUFFIX = ".unreadable"
_UNFINISHED_MAX_AGE_S = 3600.0
"""A file without its name for so long was left by a process that died while making it."""

_log = logging.getLogger(__name__)


class FileJournal:
    """`RecordJournal` in a directory that all worker processes of the machine share.

    Appends go to the kernel in one write each and are never synced: a process may die at any point, a machine takes its
    journal with it. An append that fails (disk full) is counted and does not fail the request.

    Args:
        directory: created when it is missing, readable by its owner only.
        max_bytes: size from which the file is compacted to the requests that are still open or not yet stored.

    Raises:
        OSError: the directory cannot be created or written.
    """

    def __init__(self, directory: Path, *, max_bytes: int = 4 * 2**20) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._max_bytes = max_bytes
        self._compact_at = max_bytes
        self._path = directory / f"{os.getpid()}-{uuid4().hex}{_SUFFIX}"
        self._live: dict[str, bytes] = {}
        """The newest line of each request that is not stored yet."""
        self._claimed: list[tuple[Path, int, bool]] = []
        self._lock = threading.Lock()
        self._failures = 0
        self._torn = False
        self._fd, self._size = self._create(())

    @property
    def failures(self) -> int:
        """Appends that the disk did not take."""
        return self._failures

    def opened(self, record: RequestRecord) -> None:
        """Note an admitted request, as it would be recorded if the process died now; may be repeated."""
        self._note(record, b"opened")

    def finished(self, record: RequestRecord) -> None:
        """Note the final record."""
        self._note(record, b"finished")

    def stored(self, request_ids: Sequence[str]) -> None:
        """Forget requests that the ledger or the spill now holds."""
        with self._lock:
            known = [request_id for request_id in request_ids if self._live.pop(request_id, None) is not None]
            if known:
                self._append(b'{"v":%d,"stored":%b}\n' % (FORMAT_VERSION, orjson.dumps(known)))

    def recover(self) -> Sequence[RequestRecord]:
        """Records left by dead processes: finished ones as they were, open ones as ABANDONED.

        The end of an abandoned request is the last append of its process, its last sign of life. Reads files: call it
        in a thread. A line that was cut short by the death is left out: its request had not been admitted yet, or not
        finished, or is stored twice, which is harmless.
        """
        records: list[RequestRecord] = []
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            fd = _claim(path)
            if fd is None:
                continue
            found, readable = _replay(fd)
            with self._lock:
                self._claimed.append((path, fd, readable))
            records += found
        self._sweep()
        return records

    def discard(self) -> None:
        """Delete the journals that this process recovered, once their records are stored.

        One with lines that this version cannot read is renamed and kept instead, for a person to look at.
        """
        with self._lock:
            claimed, self._claimed = self._claimed, []
        for path, fd, readable in claimed:
            # The name goes before the lock, so that nobody can claim it in between.
            with contextlib.suppress(FileNotFoundError):
                if readable:
                    path.unlink()
                else:
                    path.rename(path.with_suffix(_UNREADABLE_SUFFIX))
                    _log.error("journal_unreadable")
            os.close(fd)

    def close(self) -> None:
        """Let go of the file. It is deleted when everything in it is stored, otherwise left to be recovered."""
        with self._lock:
            if not self._live:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            # A later append must fail, not reach whatever file gets this number next.
            self._fd = -1
            for _, fd, _ in self._claimed:
                os.close(fd)
            self._claimed.clear()

    def _note(self, record: RequestRecord, what: bytes) -> None:
        try:
            body = orjson.dumps(record, default=str)
        except TypeError:
            # Half a surrogate pair, or an integer beyond 64 bits.
            body = orjson.dumps(storable(record), default=str)
        line = b'{"v":%d,"%b":%b}\n' % (FORMAT_VERSION, what, body)
        with self._lock:
            self._live[record.id] = line
            self._append(line)

    def _append(self, line: bytes) -> None:
        if self._torn:
            # What the last write left of its line must not swallow this one.
            line = b"\n" + line
        written = 0
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._count_failure(error.errno)
        else:
            if written < len(line):
                self._count_failure(errno.ENOSPC)
        self._size += written
        self._torn = 0 < written < len(line) or (self._torn and not written)
        if self._size > self._compact_at:
            self._compact()

    def _count_failure(self, number: int | None) -> None:
        if not self._failures:
            _log.error("journal_append_failed", extra={"errno": number})
        self._failures += 1

    def _compact(self) -> None:
        """Keep only what is not stored yet."""
        try:
            if self._live:
                old = self._fd
                # The new file takes the old one's name in one step: at no instant are there two, or none.
                self._fd, self._size = self._create(self._live.values())
                os.close(old)
            else:
                os.ftruncate(self._fd, 0)
                self._size = 0
            self._torn = False
        except OSError as error:
            self._count_failure(error.errno)
        # With much to keep (ledger and spill both away), the next compaction waits until the file has doubled.
        self._compact_at = max(self._max_bytes, 2 * self._size)

    def _create(self, lines: Any) -> tuple[int, int]:
        unfinished = self._path.with_suffix(_UNFINISHED_SUFFIX)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(unfinished, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = memoryview(b"".join(lines))
            size = len(content)
            while content:
                content = content[os.write(fd, content) :]
            unfinished.rename(self._path)
        except BaseException:
            os.close(fd)
            raise
        return fd, size

    def _sweep(self) -> None:
        """Remove what processes left that died while they made a file. Young ones are not even touched."""
        for path in self._directory.glob(f"*{_UNFINISHED_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_MAX_AGE_S:
                    path.unlink()


def _claim(path: Path) -> int | None:
    """The open file with its lock held, or None when somebody else holds it or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:
        os.close(fd)
        return None
    return fd


def _replay(fd: int) -> tuple[list[RequestRecord], bool]:
    """What a journal says is not stored, and whether every whole line could be read."""
    last_sign_of_life = datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC)
    left: dict[str, RequestRecord] = {}
    readable = True
    with os.fdopen(os.dup(fd), "rb") as file:
        for event in _events(file.read()):
            try:
                check_version(event.get("v"))
                if "stored" in event:
                    for request_id in event["stored"]:
                        left.pop(request_id, None)
                elif "finished" in event:
                    record = from_document(event["finished"])
                    left[record.id] = record
                else:
                    record = from_document(event.get("opened"))
                    end = max(record.start_time, last_sign_of_life)
                    left[record.id] = replace(record, status=RequestStatus.ABANDONED, end_time=end)
            except ValueError:
                readable = False
    return list(left.values()), readable


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n"):
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            # Empty, or cut short by the death of its writer or a full disk.
            continue
        if isinstance(event, dict):
            yield event
