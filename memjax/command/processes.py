"""Several processes on one machine, joined by ``jax.distributed``, that end together."""

import contextlib
import functools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import jax
from jaxlib import _jax  # type: ignore[attr-defined]

from memjax._checks import check_positive
from memjax.command import _signals

__all__ = ["run_in_processes"]

_HOST = "127.0.0.1"  # Nobody from outside is let in.
_PORTS = 5  # tried one after the other
_STOPPED = 128 + signal.SIGTERM
_PATIENCE = 60.0  # seconds that a process may be silent, once it has said that it is there
_FIRST_PATIENCE = 600.0  # seconds until it has said so: imports may come over a network
_A_DAY = 24 * 60 * 60


class _PortTakenError(OSError):
    """Another program listens where the first process was to listen."""


def run_in_processes(
    work: Callable[[], Any], number: int, is_to_stop: Callable[[], bool] = lambda: False
) -> bool:
    """Call a function in each of several processes, which share their devices and end together.

    In each process ``jax.devices()`` are the devices of all processes, and ``jax.process_index()``
    is its number. What they print is lost. They listen on this machine only, and Ctrl-C reaches
    only the process that started them. On a cluster the scheduler starts the processes instead, and
    ``jax.distributed.initialize`` joins them.

    Args:
        work: the function, called once in each process. It must be importable, as
            ``multiprocessing`` asks.
        number: how many processes.
        is_to_stop: is called several times in a second. Once it returns True, SIGTERM is sent to
            each process, where ``jax.experimental.multihost_utils.reached_preemption_sync_point``
            tells work of it.

    Returns:
        True if work has come to its end, False if it was stopped by SIGTERM.

    Raises:
        TypeError, ValueError: the number is no positive integer.
        ValueError: work raised an error; the message is the same.
        ChildProcessError: a process was killed, or has been silent for a minute, as one is that was
            stopped by SIGSTOP; or no port was free.

    Example:
        >>> run_in_processes(print, number=1)
        True
    """
    check_positive("number", number)
    address = ""
    for _ in range(_PORTS):
        address = _free_address()
        with contextlib.suppress(_PortTakenError):
            return _Group(work, number, address).run(is_to_stop)
    raise ChildProcessError(
        f"processes: expected a free port, got {address}, which another program has taken."
    )


def _free_address() -> str:
    """Return an address where nobody listens now; another program may take it any moment."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return f"{_HOST}:{free.getsockname()[1]}"


class _Group:
    """Processes that work together, and what they have said."""

    def __init__(self, work: Callable[[], Any], number: int, address: str):
        context = multiprocessing.get_context("spawn")
        self.receiver, self.sender = context.Pipe(duplex=False)
        self.processes: list[BaseProcess] = [
            context.Process(
                target=_work_as, args=(index, number, address, work, self.sender), daemon=True
            )
            for index in range(number)
        ]
        self.error: Exception | None = None  # the first that was told
        self.silence, self.patience = [0.0] * number, [_FIRST_PATIENCE] * number

    def run(self, is_to_stop: Callable[[], bool]) -> bool:
        """Let them work; return whether they have done so to the end."""
        with _signals.at_end(self.kill):
            try:
                self.start()
                return self.wait(is_to_stop)
            finally:
                self.kill()
                for process in self.processes:
                    if process.pid is not None:
                        process.join()

    def start(self) -> None:
        """Start the processes, which never hear SIGINT: a terminal sends it to all."""
        resource_tracker.ensure_running()  # Whoever starts it lets SIGINT in again.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for process in self.processes:
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def kill(self) -> None:
        """Kill those that have been started."""
        for process in self.processes:
            if process.pid is not None:
                process.kill()

    def wait(self, is_to_stop: Callable[[], bool]) -> bool:
        """Wait until all have ended well, or one has not."""
        now, told_at = time.monotonic(), -math.inf
        while True:
            # Again and again: when it has learned, a process hears it in another way.
            if (is_stopping := is_to_stop()) and now > told_at + 1:
                told_at = now
                for process in self.processes:
                    process.terminate()
            codes = [process.exitcode for process in self.processes]
            good = (None, 0, _STOPPED, -signal.SIGTERM) if is_stopping else (None, 0, _STOPPED)
            if any(code not in good for code in codes):
                self.explain(is_to_stop)
                return False
            if None not in codes:
                return not any(codes)
            before, now = now, time.monotonic()
            # If this process was stopped as well, the time that passed says nothing.
            self.check_silence(min(now - before, 1.0))
            running = [
                process.sentinel
                for process, code in zip(self.processes, codes, strict=True)
                if code is None
            ]
            multiprocessing.connection.wait([self.receiver, *running], timeout=0.2)
            self.listen()

    def listen(self) -> None:
        """Take in what the processes have said."""
        while self.receiver.poll():
            index, error = self.receiver.recv()
            self.silence[index], self.patience[index] = 0.0, _PATIENCE
            self.error = self.error or error

    def check_silence(self, seconds: float) -> None:
        """Raise if a process has said nothing for too long, after some more seconds."""
        for index, process in enumerate(self.processes):
            self.silence[index] += seconds
            if self.silence[index] > self.patience[index] and process.exitcode is None:
                raise ChildProcessError(
                    f"processes: process {index} of {len(self.processes)} has been silent for "
                    f"{self.patience[index]:.0f} seconds, and the others were stopped."
                )

    def explain(self, is_to_stop: Callable[[], bool]) -> None:
        """Raise the error of the process that failed first, unless they were being stopped.

        When one process is killed or raises an error, the others fail because of it, and JAX aborts
        them. So a process that was killed counts before one that raised an error, and that one
        before one that was aborted.
        """
        time.sleep(0.2)  # for the process that failed first to be told from the others
        self.listen()
        codes = [process.exitcode or 0 for process in self.processes]
        killed = [code for code in codes if code < 0 and code != -signal.SIGABRT]
        if is_to_stop() and {_STOPPED, -signal.SIGTERM} & set(codes):
            return
        if not killed and self.error is not None:
            raise self.error
        index = codes.index(max(killed or [code for code in codes if code]))
        raise ChildProcessError(
            f"processes: process {index} of {len(codes)} ended with status {codes[index]}, and the "
            "others were stopped."
        )


def _work_as(index: int, number: int, address: str, work: Callable[[], Any], sender: Any) -> None:
    """Call the function as one of several processes, and end when the parent process ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def say_that_it_lives():
        with contextlib.suppress(OSError):  # Nobody listens any more.
            while not multiprocessing.connection.wait([parent.sentinel], timeout=1):
                sender.send((index, None))
        os._exit(1)

    sender.send((index, None))
    threading.Thread(target=say_that_it_lives, daemon=True).start()
    # The user need not read what the processes say to each other.
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    try:
        _join(index, number, address)
        work()
    except _signals.Interrupted as interrupted:
        os._exit(interrupted.status)
    except Exception as error:
        if not isinstance(error, _PortTakenError):
            # What is short is written at once, even by several processes.
            text = str(error).encode()[:2000].decode(errors="ignore")
            error = ValueError(text or type(error).__name__)
        sender.send((index, error))
        os._exit(1)  # not by way of JAX, which would wait for the other processes


def _join(index: int, number: int, address: str) -> None:
    """Join the processes; all that JAX opens for them listens on this machine only."""
    host, _, port = address.rpartition(":")
    if index == 0:
        try:  # JAX ends with a segmentation fault where it cannot listen.
            with socket.socket() as place:
                place.bind((host, int(port)))
        except OSError as error:
            raise _PortTakenError(str(error)) from None
    # JAX has no options for these: Gloo would listen where the name of this machine leads.
    _jax.make_gloo_tcp_collectives = functools.partial(
        _jax.make_gloo_tcp_collectives, hostname=host
    )
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    jax.distributed.initialize(
        address,
        number,
        index,
        coordinator_bind_address=address,
        heartbeat_timeout_seconds=_A_DAY,  # The process that started them notices earlier.
    )
