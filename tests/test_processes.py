"""Several processes of one machine: joined while they work, and ended together."""

import functools
import multiprocessing.connection
import os
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import jax
import pytest

from memjax.command.processes import run_in_processes


def tell(folder: Path) -> None:
    """Write how many processes there are into a file named by this one's place among them."""
    (folder / str(jax.process_index())).write_text(str(jax.process_count()))


def refuse(folder: Path) -> None:
    """Tell, and let the second process raise an error."""
    tell(folder)
    if jax.process_index() == 1:
        raise KeyError("no such memory")


def refuse_and_abort(folder: Path) -> None:
    """Refuse, and let the first process abort because of it, as JAX does when another is gone."""
    refuse(folder)
    while not (folder / "1").exists():
        time.sleep(0.001)
    os.abort()


def fail() -> None:
    """Raise an error."""
    raise KeyError("no such memory")


def test_processes_know_of_each_other(tmp_path):
    run_in_processes(functools.partial(tell, tmp_path), 2)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"0": "2", "1": "2"}


@pytest.mark.parametrize("work", [refuse, refuse_and_abort])
def test_an_error_in_one_of_them_is_told_in_its_words(work, tmp_path):
    with pytest.raises(ValueError, match="no such memory"):
        run_in_processes(functools.partial(work, tmp_path), 2)


def test_an_end_that_is_known_only_after_it_was_announced_is_told(monkeypatch):
    # The system closes what announces the end of a process before it tells how it ended.
    known = cast(property, BaseProcess.exitcode).fget
    assert known is not None
    announced = set()

    def late(process):
        if process in announced:
            process.join()
            return known(process)
        if multiprocessing.connection.wait([process.sentinel], timeout=0):
            announced.add(process)
        return None

    monkeypatch.setattr(BaseProcess, "exitcode", property(late))
    with pytest.raises(ValueError, match="no such memory"):
        run_in_processes(fail, 1)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_number_of_processes_that_has_no_sense_is_refused(number, error):
    with pytest.raises(error, match="number"):
        run_in_processes(print, number)
