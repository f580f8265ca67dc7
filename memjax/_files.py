"""Files that anyone may have written: regular ones, of a bounded size, and the sums of their bytes.

Every error is a ValueError of one sentence that names the file.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from memjax._checks import shorten
from memjax._text import printable

SUMS_FILE = "SHA256SUMS"  # `sha256sum --check` reads it
MOST_BYTES = 2**20
"""The longest text that is read: descriptions and records have a few kilobytes."""
_MOST_LEVELS = 200  # of JSON: whoever walks over it may do so by recursion


def read_bytes(file: Path) -> bytes:
    """Return the content of a regular file of at most ``MOST_BYTES``."""
    check_regular(file)
    with file.open("rb") as content:
        found = content.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise ValueError(f"{file}: expected at most {MOST_BYTES:,} bytes, got more.")
    return found


def read_json(file: Path, what: str = "JSON") -> Any:
    """Return the JSON of a file, which is to be read as ``what``."""
    content = read_bytes(file)
    try:
        found = json.loads(content)
        if sum(1 for _ in levels_of(found)) > _MOST_LEVELS:
            raise RecursionError
        return found
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read as {what} ({reason_of(error)}).") from None


def levels_of(content: Any) -> Iterator[list[Any]]:
    """Yield what lies at each depth of some JSON: itself, then what it holds, and so on."""
    level = [content]
    while level:
        yield level
        holders = [item for item in level if isinstance(item, dict | list)]
        level = [
            inner
            for item in holders
            for inner in (item.values() if isinstance(item, dict) else item)
        ]


def check_regular(file: Path) -> None:
    """Raise unless a file is a regular one: a pipe would make its reader wait, a device not end."""
    if not file.is_file():
        found = "something else" if os.path.lexists(file) else "none"
        raise ValueError(f"{file}: expected a regular file, found {found}.")


def check_inside(folder: Path, name: str) -> None:
    """Raise if a name in a folder is a link, or lies below one, that leads out of the folder."""
    # Where links go round in a circle, this ends as well.
    if not Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{folder / name}: expected a file of the folder, got one outside of it.")


def check_place(folder: Path, name: str) -> None:
    """Raise unless a file of a folder, which need not exist, is one that may be written over."""
    check_inside(folder, name)
    if os.path.lexists(folder / name):
        check_regular(folder / name)


def files_in(folder: Path) -> dict[str, int]:
    """Return the bytes of each file in a folder and the folders in it, by name.

    Raises:
        ValueError: a link leads out of the folder, or a file is none that is regular.
    """
    found, waiting = {}, [folder]
    while waiting:
        for part in sorted(waiting.pop().iterdir()):
            name = part.relative_to(folder).as_posix()
            if part.is_symlink():
                check_inside(folder, name)
            elif part.is_dir():
                waiting.append(part)
                continue
            check_regular(part)
            found[name] = part.stat().st_size
    return found


def sums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of some files of a folder by name; they are read piece by piece."""
    sums = {}
    for name in sorted(names):
        with (folder / name).open("rb") as content:
            sums[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return sums


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    """Write the sums of some files of a folder beside them."""
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    (folder / SUMS_FILE).write_text("".join(lines))


def seal(folder: Path) -> None:
    """Write the sums of all files of a folder; a folder in it has sums of its own."""
    sealed = [name.parent.name for name in folder.glob(f"*/{SUMS_FILE}")]
    names = [file.name for file in folder.iterdir() if file.is_file()]
    write_sums(folder, sums_of(folder, names + [f"{name}/{SUMS_FILE}" for name in sealed]))


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sums that were written in a folder, by the names of the files in it."""
    file = folder / SUMS_FILE
    check_inside(folder, SUMS_FILE)
    lines = read_bytes(file).decode(errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in sums:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{file}: expected names of files in the folder, got {shorten(name)}.")
    return sums


def check_sums(folder: Path, names: Iterable[str]) -> None:
    """Raise unless some files of a folder are those whose sums were written, and as they were."""
    saved = read_sums(folder)
    for name in sorted(names):
        check_inside(folder, name)
        is_there = (folder / name).is_file()
        if not is_there or sums_of(folder, [name])[name] != saved.get(name):
            raise ValueError(f"{folder / name}: is not as it was saved, by the {SUMS_FILE}.")


def take_lock(descriptor: int, file: Path) -> bool:
    """Return whether a lock was taken on an open file that is still the one of its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return is_same(file, descriptor)
    except BlockingIOError:
        return False


def is_same(file: Path, descriptor: int) -> bool:
    """Return whether a descriptor is that of the file of a name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message without a full stop."""
    if isinstance(error, RecursionError):
        return "too many things inside one another"
    return printable(str(error).partition("\n")[0].rstrip("."))
