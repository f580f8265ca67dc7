"""What the command writes: strict JSON, whole files, and what went wrong."""

import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def to_json(content: Any, indent: int | None = 1) -> str:
    """Return content as JSON, which has no word for infinity and NaN: they become strings."""
    return json.dumps(_strict(content), indent=indent, allow_nan=False)


def _strict(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _strict(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_strict(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make an error of the system that a write meets one sentence that names the path."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # It is such a sentence already.
            raise
        name = error.filename or path
        raise OSError(f"{name}: cannot be written ({error.strerror}).") from error


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Say so in one sentence where what is printed in the block cannot be."""
    try:
        with writing(Path("standard output")):
            yield
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # It is not tried again.
        raise


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, and is on the disk then."""
    unfinished = file.with_name(f"incomplete.{file.name}")
    with writing(file):
        try:
            with unfinished.open("wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            unfinished.replace(file)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def is_full(error: BaseException) -> bool:
    """Return whether the disk had no space left, by the words of the system in an error."""
    return any(os.strerror(code) in str(error) for code in _FULL)
