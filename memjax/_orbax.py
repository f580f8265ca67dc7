"""Orbax, and what it does not do: the sums by which damage is noticed, beside the arrays.

Orbax writes a folder under another name and renames it when it is whole. What is written here is
written before that.
"""

import contextlib
import functools
import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memjax._checks import import_package

NETWORK_FILE = "network.json"
SUMS_FILE = "SHA256SUMS"  # `sha256sum --check` reads it
# Orbax writes the others after the sums, and reads nothing of a network from them.
_WITHOUT_SUM = {SUMS_FILE, "_CHECKPOINT_METADATA", "commit_success.txt"}


@functools.cache
def load_orbax() -> tuple[Any, Any, Any]:
    """Return Orbax, our handler of arrays for it, and the class of the handler's arguments."""
    ocp = import_package("orbax.checkpoint", "Saving a network")

    class Handler(ocp.PyTreeCheckpointHandler):
        def __init__(self, description: str = "", **options: Any):
            super().__init__(use_zarr3=True, **options)
            self._description = description

        def finalize(self, directory: Any) -> None:
            super().finalize(directory)
            folder = Path(directory)
            (folder / NETWORK_FILE).write_text(self._description)
            lines = [f"{digest}  {name}\n" for name, digest in _sums(folder).items()]
            (folder / SUMS_FILE).write_text("".join(lines))
            for part in (*folder.rglob("*"), folder):
                _sync(part)

    class Arguments(ocp.args.PyTreeSave):
        pass

    ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)(Arguments)
    return ocp, Handler, Arguments


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Let no thread print what the block raises, nor, if it does, later that it comes too late.

    When one of many writes fails, Orbax raises. The threads of the others find its event loop
    closed, and print a traceback each.
    """
    hook, log = sys.unraisablehook, logging.getLogger("absl")
    level = log.level

    def filtered(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = filtered
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
    sys.unraisablehook = hook


def step_names() -> Any:
    """Return how Orbax names the checkpoints of a stream: by the examples that were learned."""
    name_format = load_orbax()[0].path.step.standard_name_format
    return name_format(step_prefix="examples", step_format_fixed_length=15)


def damaged_file(folder: Path) -> Path | None:
    """Return a file that is not as it was saved, if there is one."""
    lines = (folder / SUMS_FILE).read_bytes().decode(errors="replace").splitlines()
    saved = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _sums(folder)
    damaged = (name for name in sorted(saved | found) if saved.get(name) != found.get(name))
    return next((folder / name for name in damaged), None)


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that is to have one, by name."""
    sums = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in _WITHOUT_SUM:
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            sums[file.relative_to(folder).as_posix()] = digest
    return sums


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk: its name must not outlive a power cut alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
