"""Several processes of one machine, joined by ``jax.distributed``, that end together."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from memjax._checks import check_positive

__all__ = ["run_in_processes"]


def run_in_processes(work: Callable[[], Any], number: int) -> None:
    """Run work in so many processes, whose devices are those of all; when one ends, all do.

    In each of them ``jax.devices()`` are the devices of all, and ``jax.process_index()`` says which
    it is. What they print is lost. On clusters the scheduler starts the processes instead, and
    ``jax.distributed.initialize`` joins them.

    Args:
        work: is called once in every process; it must be importable, as ``multiprocessing`` asks.
        number: of processes.

    Raises:
        TypeError, ValueError: the number is no positive integer.
        ValueError: work raised an error; in its words.
        ChildProcessError: a process ended before its time.

    Example:
        >>> run_in_processes(print, number=1)
    """
    check_positive("number", number)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    listening, saying = context.Pipe(duplex=False)
    processes = [
        context.Process(
            target=_run_as_one_of, args=(address, number, index, work, saying), daemon=True
        )
        for index in range(number)
    ]
    for process in processes:
        process.start()
    try:
        while not any(codes := [process.exitcode for process in processes]):
            running = [
                process.sentinel
                for process, code in zip(processes, codes, strict=True)
                if code is None
            ]
            if not running:
                return
            multiprocessing.connection.wait(running)
        # One that was killed is told from those that fail because of it, and one that raised an
        # error from those that JAX aborts because of it.
        time.sleep(0.2)
        codes = [process.exitcode or 0 for process in processes]
        killed = [code for code in codes if code < 0 and code != -signal.SIGABRT]
        if not killed and listening.poll():
            raise ValueError(listening.recv())
        index = codes.index(max(killed or [code for code in codes if code]))
        raise ChildProcessError(
            f"processes: process {index} of {number} ended with status {codes[index]}, and the "
            "others were stopped."
        )
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run_as_one_of(
    address: str, number: int, index: int, work: Callable[[], Any], saying: Any
) -> None:
    """Run work as one of several processes, which ends when the one that started it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    # What the processes say to each other is no concern of the user.
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    try:
        jax.distributed.initialize(address, number, index)
        work()
    except Exception as error:
        saying.send(str(error) or type(error).__name__)
        os._exit(1)  # Not by way of JAX, which would wait for the others.
