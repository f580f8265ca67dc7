"""What the command says: on a terminal what it does just now, and at the end what came of it."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

from memjax._text import printable
from memjax.base import Layer
from memjax.evaluation import num_memories
from memjax.streams import Tally

SECONDS = {
    "start_seconds": "starting",
    "load_seconds": "loading",
    "compile_seconds": "compiling",
    "fit_seconds": "learning",
    "evaluate_seconds": "testing",
    "save_seconds": "saving",
    "draw_seconds": "drawing",
}
"""What each number of seconds in a record was spent on; together they are its total."""

_TURN = 0.5  # seconds after which the line is written anew


class Talk:
    """A line on a terminal that says what is done, and for how long; silent where it is not heard.

    It is written by a thread of its own, so it goes on while one call takes long. At the end it is
    wiped off.
    """

    def __init__(self, is_heard: bool):
        self._is_heard = is_heard
        self._doing, self._since, self._detail = "starting", time.perf_counter(), ""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> "Talk":
        if self._is_heard:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._is_heard:
            self._is_over.set()
            self._thread.join()
            self._write("")

    def says(self, doing: str) -> None:
        """Say from now on what is done."""
        self._doing, self._since, self._detail = doing, time.perf_counter(), ""
        if self._is_heard:
            self._write(self._line())

    def counts(self, network: Layer, number: int) -> Any:
        """Return a callback of ``fit_stream`` that says how many of the examples are learned."""

        def count(state: Any, infos: Any, tally: Tally) -> None:
            del infos
            if not self._is_heard:
                return
            if self._doing != "learning":
                self.says("learning")
            self._detail = (
                f", {tally.num_seen:,} of {number:,} examples, "
                f"{num_memories(network, state):,} memories, "
                f"{100 * tally.prequential_accuracy:.1f} % right before learning"
            )
            self._write(self._line())

        return count

    def _go_on(self) -> None:
        while not self._is_over.wait(_TURN):
            self._write(self._line())

    def _line(self) -> str:
        return f"{self._doing}{self._detail}, {time.perf_counter() - self._since:.0f} s"

    def _write(self, line: str) -> None:
        # Back to the beginning of the line, whose rest is wiped off.
        print(f"\r{printable(line)}\x1b[K", end="", file=sys.stderr, flush=True)


def print_record(record: dict[str, Any], run: Path) -> None:
    """Print what came of a run, and where its time went."""
    rows = {
        f"{record['test_split']} accuracy": percent(record["test_accuracy"]),
        **{name: percent(accuracy) for name, accuracy in record.get("compared", {}).items()},
        "prequential accuracy": f"{100 * record['prequential_accuracy']:.2f} %",
        "memories": f"{record['num_memories']:,}",
        "examples learned": f"{record['num_train']:,}",
        # A run of an earlier version does not know them all.
        **{name: f"{record[key]:.2f} s" for key, name in SECONDS.items() if key in record},
        "whole command": f"{record['total_seconds']:.2f} s",
        "written to": str(run),
    }
    number = record.get("num_unanswered", 0)
    if 0 < number == record["num_test"]:
        rows["no answer"] = f"to any of {number:,} test images: it has learned from too few"
    elif number:
        rows["no answer"] = f"to {number:,} of {record['num_test']:,} test images"
    for name, value in rows.items():
        print(printable(f"{name:>22}  {value}"))


def percent(accuracy: float | None) -> str:
    """Return an accuracy in words; None is that of a test without examples."""
    return "too few to test" if accuracy is None else f"{100 * accuracy:.2f} %"
