"""Folders that belong to a process, and that a later one removes if that process was killed."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from memjax._files import take_lock


@contextlib.contextmanager
def owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder, which is removed at the end.

    A lock on a file beside it says that its process lives. It is taken before the folder is made,
    so a folder without a lock that is held was left by a process that was killed.

    Args:
        parent: where the folder is made; leftovers of the same prefix are removed from there.
        prefix: how its name begins.
    """
    _remove_leftovers(parent, prefix)
    while True:
        number, name = tempfile.mkstemp(dir=parent, prefix=prefix, suffix=".lock")
        lock = Path(name)
        if take_lock(number, lock):
            break
        os.close(number)
    folder = lock.with_suffix("")
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(number)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    for found in list(parent.glob(f"{prefix}*")):
        if not re.fullmatch(r"[a-z0-9_]{8}(\.lock)?", found.name.removeprefix(prefix)):
            continue  # It has no name that is given here.
        lock = found if found.suffix == ".lock" else found.with_name(f"{found.name}.lock")
        with contextlib.suppress(OSError):  # Another process may be faster, or own the folder.
            number = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if take_lock(number, lock):
                    if found != lock and not found.is_symlink():
                        shutil.rmtree(found, ignore_errors=True)
                    elif lock.with_suffix("").exists():
                        continue  # It is removed before its lock.
                    lock.unlink(missing_ok=True)
            finally:
                os.close(number)
