"""Orbax, and what it does not do: the sums by which damage is noticed, beside the arrays.

Orbax writes a folder under another name and renames it when it is whole. What is written here is
written before that.
"""

import contextlib
import functools
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memjax._checks import import_package
from memjax._files import SUMS_FILE, files_in, reason_of, sums_of, write_sums

NETWORK_FILE = "network.json"
# Orbax writes the others after the sums, and reads nothing of a network from them.
_WITHOUT_SUM = {SUMS_FILE, "_CHECKPOINT_METADATA", "commit_success.txt"}


@functools.cache
def load_orbax() -> tuple[Any, Any, Any]:
    """Return Orbax, our handler of arrays for it, and the class of the handler's arguments."""
    ocp = import_package("orbax.checkpoint", "Saving a network")

    class Handler(ocp.PyTreeCheckpointHandler):
        def __init__(self, description: str = "", **options: Any):
            # Not compressed, so that a folder is as long as the arrays that it may ask room for.
            super().__init__(use_zarr3=True, use_compression=False, **options)
            self._description = description

        def finalize(self, directory: Any) -> None:
            super().finalize(directory)
            folder = Path(directory)
            (folder / NETWORK_FILE).write_text(self._description)
            write_sums(folder, _sums(folder))
            for part in (*folder.rglob("*"), folder):
                _sync(part)

    class Arguments(ocp.args.PyTreeSave):
        pass

    ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)(Arguments)
    # For good: asyncio speaks when a failed write is collected, which may be after later ones.
    logging.getLogger("asyncio").addFilter(_is_not_of_orbax)
    return ocp, Handler, Arguments


def step_names() -> Any:
    """Return how Orbax names the checkpoints of a stream: by the examples that were learned."""
    name_format = load_orbax()[0].path.step.standard_name_format
    return name_format(step_prefix="examples", step_format_fixed_length=15)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let no thread of Orbax print what the block raises, nor, if it does, that it comes too late.

    When one of many writes fails, Orbax raises and logs. The threads of the others find its event
    loop closed, and print a traceback each.
    """
    hook, log = sys.unraisablehook, logging.getLogger("absl")
    level = log.level

    def filtered(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = filtered
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
    sys.unraisablehook = hook


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """Return whether a record is of anything but one more array that Orbax could not write."""
    return record.exc_info is None or ".orbax-checkpoint-tmp" not in str(record.exc_info[1])


@contextlib.contextmanager
def removed_if_it_fails(folder: Path) -> Iterator[None]:
    """Remove a folder whose writing fails, until no write that was under way makes it anew."""
    try:
        yield
    except BaseException:
        num_gone = 0
        for _ in range(100):
            num_gone = 0 if folder.exists() else num_gone + 1
            if num_gone > 5:
                break
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.05)
        raise


def reason_of_system(error: Exception) -> tuple[int | None, str]:
    """Return the number and the words of the system's error that made Orbax fail, if it was one."""
    number = getattr(error, "errno", None)
    if found := re.search(r"os_error_code=\W*(\d+)", str(error)):
        number = int(found[1])
    return number, reason_of(error) if number is None else os.strerror(number)


def files_with_sums(folder: Path) -> dict[str, int]:
    """Return the bytes of every file that is to have a sum, by name."""
    return {name: size for name, size in files_in(folder).items() if name not in _WITHOUT_SUM}


def _sums(folder: Path) -> dict[str, str]:
    return sums_of(folder, files_with_sums(folder))


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk: its name must not outlive a power cut alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
