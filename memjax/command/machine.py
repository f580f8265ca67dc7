"""What a record says of the machine: device, versions, time, memory and compilation."""

import contextlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from memjax import __version__

__all__ = [
    "Stopwatch",
    "allocated_bytes",
    "compile_seconds",
    "description",
    "peak_memory_bytes",
    "seconds_since_start",
]

_PACKAGES = ("jax", "jaxlib", "numpy", "optax")
_IMPORTED = time.perf_counter()


class Stopwatch:
    """The seconds added up so far."""

    seconds = 0.0


@contextlib.contextmanager
def compile_seconds() -> Iterator[Stopwatch]:
    """Add up the seconds that JAX traces, lowers and compiles inside the block.

    Example:
        >>> with compile_seconds() as compiling:
        ...     total = jax.jit(lambda x: x + 1)(1.0)
        >>> compiling.seconds > 0
        True
    """
    watch = Stopwatch()

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            watch.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield watch
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def seconds_since_start() -> float:
    """Return the seconds since this process started, which include its imports.

    Linux says when a process started. Elsewhere it is the seconds since this module was imported.

    Example:
        >>> seconds_since_start() > 0
        True
    """
    try:
        # Field 22 of the line, in ticks since the machine started. Field 2 is a name in brackets,
        # which may hold spaces.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError):
        return time.perf_counter() - _IMPORTED


def peak_memory_bytes() -> int:
    """Return the most host memory that this process has held so far, in bytes.

    Example:
        >>> peak_memory_bytes() > 10**7
        True
    """
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def allocated_bytes(function: Any, *arguments: Any) -> int:
    """Return the bytes that a jitted function allocates on one device, without its arguments.

    They include the results. The compiler states the number; nothing is run.

    Args:
        function: what ``jax.jit`` returns.
        *arguments: the arguments of a call: arrays, or their shapes as ``jax.ShapeDtypeStruct``.

    Example:
        >>> numbers = jax.ShapeDtypeStruct((1000,), "float32")
        >>> allocated_bytes(jax.jit(lambda x: 2 * x), numbers)
        4000
    """
    sizes = function.lower(*arguments).compile().memory_analysis()
    assert sizes is not None, "this backend does not state what a program allocates"
    return sizes.temp_size_in_bytes + sizes.output_size_in_bytes


def description() -> dict[str, Any]:
    """Return what a record says of where it was made: the device and the package versions.

    Example:
        >>> sorted(description())
        ['device', 'versions']
    """
    device = jax.devices()[0]
    cores = f", {os.cpu_count()} cores" if device.platform == "cpu" else ""
    versions = {"python": platform.python_version(), "memjax": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "device": f"{device.device_kind} ({platform.machine()}{cores})",
        "versions": versions,
    }
