"""Several processes of one machine: joined while they work, and ended together."""

import functools
import os
import time
from pathlib import Path

import jax
import pytest

from memjax.processes import run_in_processes


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


def test_processes_know_of_each_other(tmp_path):
    run_in_processes(functools.partial(tell, tmp_path), 2)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"0": "2", "1": "2"}


@pytest.mark.parametrize("work", [refuse, refuse_and_abort])
def test_an_error_in_one_of_them_is_told_in_its_words(work, tmp_path):
    with pytest.raises(ValueError, match="no such memory"):
        run_in_processes(functools.partial(work, tmp_path), 2)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_number_of_processes_that_has_no_sense_is_refused(number, error):
    with pytest.raises(error, match="number"):
        run_in_processes(print, number)
