"""Compiled programs, kept from one command to the next."""

import hashlib
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import jax

from memjax.datasets._cache import cache_folder

_MOST_BYTES = 256 * 2**20
_LEAST_SECONDS = 0.05


def keep_compiled() -> None:
    """Let JAX keep what it compiles in the user's cache folder, where that is safe.

    A program that is read is run, so a folder that others can write to is not used. Programs for
    another processor have another folder, since a home may be shared by many machines. A cache that
    the user has given JAX, or has turned off, is left as it is.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
        return
    try:
        folder = cache_folder(None) / f"compiled-{_processor()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return
        if not stat.S_ISDIR(status.st_mode):
            return
        remove_oldest(folder, _MOST_BYTES)
    except (OSError, RuntimeError):  # The command works without.
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    config.update("jax_compilation_cache_dir", str(folder))


def remove_oldest(folder: Path, most_bytes: int) -> None:
    """Remove the files that were read longest ago, until the rest has at most so many bytes.

    An empty file goes as well: no room was left for it, and JAX would not write it again.
    """
    files = [(file, file.lstat()) for file in folder.iterdir()]
    total = 0
    for file, status in sorted(files, key=lambda found: -found[1].st_atime):
        total += status.st_size
        if total > most_bytes or not status.st_size:
            file.unlink(missing_ok=True)


def _processor() -> str:
    """Return a name of this kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [" ".join(os.uname())]
    described = sorted({line for line in lines if line.startswith(("flags", "Features", "model"))})
    return hashlib.sha256("\n".join(described or lines).encode()).hexdigest()[:8]
