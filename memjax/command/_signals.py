"""SIGINT and SIGTERM end the command with one line, at any moment.

An exception in the midst of an import, of a thread, or of a call that compiles for seconds comes
late, and ends in pages of tracebacks. So a thread hears the signals and ends the process, unless
the command has asked to end by itself. No package is imported here: this room is the first one.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from memjax._text import printable

_ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}
_ordinary = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

# Each is called when a signal ends the process; what it returns is said.
_farewells: list[Callable[[], str | None]] = []


class Interrupted(Exception):
    """The command was asked to end by a signal, and has kept what it had."""

    def __init__(self, number: int):
        super().__init__(_ENDED[signal.Signals(number)])
        self.status = 128 + number


class Request:
    """Whether the process was asked to end, and by which signal."""

    number = 0


_request: Request | None = None
_lock = threading.Lock()


def is_the_command() -> bool:
    """Return whether this process is the command ``memjax``, and no program of a user."""
    number = len(sys.argv)
    if not 0 < number <= len(sys.orig_argv):
        return False
    program = sys.orig_argv[-number]
    if sys.argv[0] == "-m":
        return program.removeprefix("-m") == "memjax"
    return program == sys.argv[0] and Path(program).name == "memjax"


def watch_to_the_end() -> None:
    """Watch this process until the interpreter ends, whose last steps no signal disturbs."""
    watch()
    for number in _ordinary:
        # There a handler would be gone, and a signal would end the command without a word.
        atexit.register(signal.signal, number, signal.SIG_IGN)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Watch inside the block, unless this process is watched already or has handlers of its own."""
    undo = watch()
    try:
        yield
    finally:
        undo()


@contextlib.contextmanager
def at_end(farewell: Callable[[], str | None]) -> Iterator[None]:
    """Call a function when a signal ends the process inside the block, and say what it returns."""
    _farewells.append(farewell)
    try:
        yield
    finally:
        _farewells.remove(farewell)


@contextlib.contextmanager
def postponed() -> Iterator[Request]:
    """Only tell the block of the first signal; the second one ends the process all the same."""
    global _request
    request = _request = Request()
    try:
        yield request
    finally:
        with _lock:  # A signal that is not told to the block any more ends the process.
            _request = None


def watch() -> Callable[[], None]:
    """Let a signal end this process with one line; return a function that undoes it."""
    is_main = threading.current_thread() is threading.main_thread()
    # What another program has set is left alone; a shell ignores SIGINT in the background.
    mine = [number for number, usual in _ordinary.items() if signal.getsignal(number) == usual]
    if not is_main or not mine:
        return lambda: None
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    for number in mine:
        signal.signal(number, lambda *_: None)
    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    thread = threading.Thread(target=_hear, args=(readable,), daemon=True)
    thread.start()

    def undo():
        signal.set_wakeup_fd(before)
        for number in mine:
            signal.signal(number, _ordinary[number])
        os.close(writable)
        thread.join()
        os.close(readable)

    return undo


def _hear(readable: int) -> None:
    while byte := os.read(readable, 1):
        if byte[0] in _ENDED:
            with _lock:
                if (request := _request) is None or request.number:
                    _end(byte[0])
                request.number = byte[0]


def _end(number: int) -> NoReturn:
    """End the process: not by way of the interpreter, which may be anywhere."""
    said = [_ENDED[signal.Signals(number)]]
    for farewell in reversed(_farewells):
        with contextlib.suppress(Exception):
            said.append(farewell() or "")
    line = printable(f"memjax: {'; '.join(filter(None, said))}.")
    before = "\n" if os.isatty(2) else ""  # A terminal may show a bar, or ^C.
    with contextlib.suppress(OSError):
        os.write(2, f"{before}{line}\n".encode())
    os._exit(128 + number)
