"""Files of keys on a developer's machine: only their owner may read them, and the first worker that asks makes them."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """What is in a file, made now when it is missing. Workers that start together all read what one of them made.

    Args:
        path: of the file; its folder is made too.
        make: the text of a new one.

    Raises:
        OSError: it can be neither read nor made.
    """
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{secrets.token_hex(8)}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_text(make())
        # A link fails when another worker was first; then its file counts.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_text()
