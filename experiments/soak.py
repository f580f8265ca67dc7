"""What is lost when the command is stopped again and again, at moments that nobody chose.

    python -m experiments.soak [--minutes N] [--seed N] [--out FOLDER] [--quick]

The command learns small parts of the digits, with checkpoints. It is ended at random moments by
SIGKILL, SIGTERM and SIGINT, while it imports, loads, compiles, learns, tests, draws or ends, and
gone on with, at times by two processes at once. Runs without checkpoints are begun in between. A
run that has ended is compared with one that was never stopped, and then evaluated and asked about
an image. What is lost is counted: a run that ends with another state, a run that cannot be gone on
with, an answer that cannot be had, words that are no single line, and files that are left over.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from experiments.figures import COLOURS, axes
from experiments.records import markdown_table, options, publish, read

_ROOT = Path(__file__).parents[1]
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_ORDERS = (0, 1)  # the seeds of the runs
_NETWORK = ["--capacity", "60", "--encoder", "pixels", "--limit", "900", "--block-size", "8"]
_CHECKPOINTS = ["--checkpoint-every", "200"]
_PICTURE = "digit.png"
_LIMIT = 300.0  # seconds that a command may take


class Soak:
    """Runs in a folder of its own, and what was lost of them."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.moments = folder, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.lost: list[str] = []
        self.environment = os.environ | {
            "PYTHONPATH": str(_ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        # A shell may have it ignored, and then the commands would ignore it as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _save_picture(folder / _PICTURE)
        self.expected, self.seconds = {}, 0.0
        for order in _ORDERS:
            started = time.monotonic()
            record = self.answer("fit", *self.begin(order, "whole"), "--json")
            self.seconds = time.monotonic() - started
            self.expected[order] = record["state_digest"]
            (folder / "whole").rename(folder / f"whole-{order}")

    def begin(self, order: int, name: str) -> list[str]:
        """Return the words that begin a run with checkpoints."""
        return ["digits", *_NETWORK, *_CHECKPOINTS, "--seed", str(order), "--out", name]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        self.counts["commands"] += 1
        return subprocess.Popen(
            [sys.executable, "-m", "memjax", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], may_end_with: tuple[int, ...]) -> str:
        """Wait for a command, and count it as lost if it ends in another way or says too much."""
        out, err = process.communicate(timeout=_LIMIT)
        words, status = " ".join(map(str, process.args[3:])), process.returncode  # type: ignore[index]
        if status not in may_end_with:
            self.lost.append(f"{words}: ended with status {status}: {err[-300:]}")
        elif err.count("\n") > 1 or (status in (0, -signal.SIGKILL)) != (not err):
            self.lost.append(f"{words}: ended with status {status} and said {err[-300:]!r}")
        return out

    def answer(self, *words: str) -> Any:
        """Return the JSON that a command prints; an empty dictionary where it is lost."""
        try:
            return json.loads(self.end(self.start(*words), (0,)))
        except ValueError:
            self.lost.append(f"{' '.join(words)}: printed no JSON")
            return {}

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End a command at a random moment, by a signal or because it was done before."""
        number = self.moments.choice(_SIGNALS)
        _wait_until_it_is_watched(process)
        # Half of the time late, when it learns, tests, draws and ends.
        earliest = self.moments.choice([0.0, self.seconds / 2])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.moments.uniform(earliest, self.seconds))
        if process.poll() is None:
            self.counts[number.name] += 1
            process.send_signal(number)
        self.end(process, (0, -number if number == signal.SIGKILL else 128 + number))

    def round(self) -> None:
        """Begin a run, stop it and go on with it until it has ended, and ask it."""
        order, name = self.moments.choice(_ORDERS), f"run-{self.counts['runs']}"
        self.counts["runs"] += 1
        self.stop(self.start("fit", *self.begin(order, name)))
        while not (self.folder / name / "record.json").exists():
            if not (self.folder / name).exists():  # stopped before it had begun
                words = ["fit", *self.begin(order, name)]
            else:
                words = ["fit", "--resume", name]
            kind = self.moments.choice(["stop", "stop", "two", "unkept", "end"])
            self.counts["gone on"] += words[1] == "--resume"
            if kind == "stop":
                self.stop(self.start(*words))
            elif kind == "unkept":
                self.stop(self.start("fit", "digits", *_NETWORK, "--out", "unkept"))
            elif kind == "two" and words[1] == "--resume":
                both = [self.start(*words) for _ in range(2)]
                for process in both:
                    self.end(process, (0, 2))
                if all(process.returncode for process in both):
                    self.lost.append(f"{name}: neither of two went on with it")
            else:
                self.end(self.start(*words), (0,))
            self.forget("unkept")
        self.ask(name, order)

    def ask(self, name: str, order: int) -> None:
        """Compare a run that has ended with one that was never stopped, and remove it."""
        record = self.answer("fit", "--resume", name, "--json")
        if record.get("state_digest") != self.expected[order]:
            self.lost.append(f"{name}: has another state than a run that was never stopped")
        found = self.answer("evaluate", name, "digits", "--json")
        if found.get("test_accuracy") != record.get("test_accuracy"):
            self.lost.append(f"{name}: has another accuracy than its record")
        if not self.answer("predict", name, _PICTURE, "--json"):
            self.lost.append(f"{name}: answers nothing")
        self.forget(f"{name}/predictions")
        expected = sorted(os.listdir(self.folder / f"whole-{order}"))
        if sorted(os.listdir(self.folder / name)) != expected:
            self.lost.append(f"{name}: holds {sorted(os.listdir(self.folder / name))}")
        self.forget(name)
        left = [entry for entry in os.listdir(self.folder) if entry.startswith("incomplete.")]
        if left:
            self.lost.append(f"{name}: left {left} behind")

    def forget(self, name: str) -> None:
        """Remove a folder, if there is one."""
        subprocess.run(["rm", "-rf", name], cwd=self.folder, check=True)


def measure(minutes: float, seed: int) -> dict[str, Any]:
    """Return the record of some minutes; what has begun by then is brought to its end."""
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seed)
        started = time.monotonic()
        while not soak.counts["runs"] or time.monotonic() - started < 60 * minutes:
            soak.round()
    return {
        "minutes": minutes,
        "seed": seed,
        "command": f"python -m experiments.soak --minutes {minutes:g} --seed {seed}",
        "num_commands": soak.counts["commands"],
        "num_runs": soak.counts["runs"],
        "num_resumed": soak.counts["gone on"],
        "signals": {number.name: soak.counts[number.name] for number in _SIGNALS},
        "num_lost": len(soak.lost),
        "lost": soak.lost,
    }


def _save_picture(file: Path) -> None:
    from PIL import Image

    from memjax import datasets

    Image.fromarray(datasets.load("digits", "test").images[0].squeeze()).save(file)


def _wait_until_it_is_watched(process: subprocess.Popen[str]) -> None:
    """Wait until a command hears SIGTERM itself: the start of Python is none of its moments."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.001)


records = partial(read, "soak", itemgetter("minutes"))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "minutes": f"{record['minutes']:g}",
            "commands": record["num_commands"],
            "runs": record["num_runs"],
            **{f"ended by {name}": number for name, number in record["signals"].items()},
            "gone on with": record["num_resumed"],
            "lost": record["num_lost"],
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of how often the longest record has stopped a command, and what was lost."""
    record = records[-1]
    drawing, place = axes("what happened", "times")
    counts = record["signals"] | {"gone on with": record["num_resumed"], "lost": record["num_lost"]}
    bars = place.bar(list(counts), list(counts.values()), color=COLOURS[0])
    place.bar_label(bars)
    return drawing


def main(arguments: list[str] | None = None) -> None:
    """Stop the command for some minutes, print the table and keep the record."""
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    chosen = parser.parse_args(arguments)
    record = measure(0 if chosen.quick else chosen.minutes, chosen.seed)
    publish(table, chosen.out, f"{record['minutes']:g} minutes", record)
    for loss in record["lost"]:
        print(loss, file=sys.stderr)


if __name__ == "__main__":
    main()
