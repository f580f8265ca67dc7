"""Several processes on one machine, joined by ``jax.distributed``, that end together."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import jax

from memjax._checks import check_positive

__all__ = ["run_in_processes"]


def run_in_processes(work: Callable[[], Any], number: int) -> None:
    """Call a function in each of several processes, which share their devices and end together.

    In each process ``jax.devices()`` are the devices of all processes, and ``jax.process_index()``
    is its number. What they print is lost. On a cluster the scheduler starts the processes instead,
    and ``jax.distributed.initialize`` joins them.

    Args:
        work: the function, called once in each process. It must be importable, as
            ``multiprocessing`` asks.
        number: how many processes.

    Raises:
        TypeError, ValueError: the number is no positive integer.
        ValueError: work raised an error; the message is the same.
        ChildProcessError: a process was killed.

    Example:
        >>> run_in_processes(print, number=1)
    """
    check_positive("number", number)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    processes = [
        context.Process(target=_work_as, args=(index, number, address, work, sender), daemon=True)
        for index in range(number)
    ]
    for process in processes:
        process.start()
    try:
        if not _wait(processes):
            _raise(processes, receiver)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _wait(processes: Sequence[BaseProcess]) -> bool:
    """Wait until all processes have ended well, or one has not; return whether they have."""
    while not any(codes := [process.exitcode for process in processes]):
        running = [
            process.sentinel for process, code in zip(processes, codes, strict=True) if code is None
        ]
        if not running:
            return True
        multiprocessing.connection.wait(running)
    return False


def _raise(processes: Sequence[BaseProcess], receiver: Any) -> None:
    """Raise the error of the process that failed first.

    When one process is killed or raises an error, the others fail because of it, and JAX aborts
    them. So a process that was killed counts before one that raised an error, and that one before
    one that was aborted.
    """
    time.sleep(0.2)  # for the process that failed first to be told from the others
    codes = [process.exitcode or 0 for process in processes]
    killed = [code for code in codes if code < 0 and code != -signal.SIGABRT]
    if not killed and receiver.poll():
        raise ValueError(receiver.recv())
    index = codes.index(max(killed or [code for code in codes if code]))
    raise ChildProcessError(
        f"processes: process {index} of {len(codes)} ended with status {codes[index]}, and the "
        "others were stopped."
    )


def _work_as(index: int, number: int, address: str, work: Callable[[], Any], sender: Any) -> None:
    """Call the function as one of several processes, and end when the parent process ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    # The user need not read what the processes say to each other.
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    try:
        jax.distributed.initialize(address, number, index)
        work()
    except Exception as error:
        sender.send(str(error) or type(error).__name__)
        os._exit(1)  # not by way of JAX, which would wait for the other processes
