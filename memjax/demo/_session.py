"""The one state that all tabs share: each step is atomic, and can be undone."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from memjax.checkpoint import state_digest
from memjax.demo import _steps as steps
from memjax.demo._beginnings import load_source
from memjax.demo._knowledge import Knowledge, banks, can_learn, has_one_bank

_MOST_UNDONE = 50  # steps, if they have room
_MOST_BYTES = 1 << 29
_SECONDS_PER_TICK = steps.PLAYED_AT_ONCE / 100  # 100 examples each second


class NotReadyError(RuntimeError):
    """The first network is still being learned."""


class Before(NamedTuple):
    """What was known before a step, and the name of the step."""

    title: str
    knowledge: Knowledge


class Moment(NamedTuple):
    """What is known, how it can be gone back from, and a number that grows with each change."""

    version: int
    knowledge: Knowledge
    past: tuple[Before, ...]


class Session:
    """What is known now, and how to go on and back from it.

    A question reads the moment once, and needs no lock: a moment is never changed. A step holds the
    lock from reading to writing, so of many steps at once none is lost.
    """

    def __init__(self, begin: Callable[[], Knowledge]):
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._failure: str | None = None
        self._plays = threading.Event()
        self._has_closed = threading.Event()
        threading.Thread(target=self._run, args=(begin,), daemon=True).start()

    def close(self) -> None:
        """Let the stream end."""
        self._has_closed.set()

    @property
    def now(self) -> Moment:
        """The moment."""
        if self._failure is not None:
            raise NotReadyError(self._failure)
        if self._moment is None:
            raise NotReadyError("The network is still being learned.")
        return self._moment

    def overview(self, version: int) -> dict[str, Any]:
        """Return the memories, the classes and the course, if they are not those of a version."""
        if self._moment is None:
            return {"version": 0, "failure": self._failure}
        now, knowledge, past = self._moment
        if now == version:
            return {"version": now, "plays": self._plays.is_set()}
        found = banks(knowledge)
        serials = [knowledge.pictures[number].serial for number in found.numbers.tolist()]
        columns = serials, found.labels.tolist(), found.counts.tolist()
        return {
            "version": now,
            "plays": self._plays.is_set(),
            "shape": knowledge.network.input_shape,
            "about": knowledge.about,
            "teaches": can_learn(knowledge.network),
            "edits": has_one_bank(knowledge),
            "streams": knowledge.source is not None,
            "position": knowledge.position,
            "course": _course(knowledge.hits),
            "undo": past[-1].title if past else None,
            "names": knowledge.names,
            "memories": list(zip(*columns, strict=True)),
        }

    def pictures(self, serials: list[int]) -> bytes:
        """Return the pixels of some pictures, one after the other; of unknown ones, zeros."""
        knowledge = self.now.knowledge
        by_serial = {one.serial: one.pixels for one in knowledge.pictures.values()}
        nothing = np.zeros(knowledge.network.input_shape, np.uint8)
        return b"".join(by_serial.get(serial, nothing).tobytes() for serial in serials)

    def digest(self) -> str:
        """Return the digest of what is known: equal digests, equal bits."""
        return state_digest(self.now.knowledge.state)

    def answer(self, image: np.ndarray) -> dict[str, Any]:
        """Return what the network says of an image."""
        version, knowledge, _ = self.now
        return {"version": version, **steps.answer(knowledge, image)}

    def example(self) -> tuple[bytes, str]:
        """Return an image of the source that was not learned yet, and the name of its class."""
        knowledge = self.now.knowledge
        if knowledge.source is None:
            raise ValueError("There are no examples beside what was learned.")
        stream = load_source(knowledge.source)
        later = np.arange(knowledge.position, len(stream.labels))
        index = np.random.default_rng().choice(later if len(later) else len(stream.labels))
        return stream.images[index].tobytes(), stream.class_names[stream.labels[index]]

    def step(
        self, title: str, change: Callable[[Knowledge], tuple[Knowledge, str]]
    ) -> dict[str, Any]:
        """Take a step that can be undone, and return what it says."""
        with self._lock:
            _, before, past = self.now
            after, said = change(before)
            if after.network != before.network:
                steps.compile_all(after)
            self._go_to(after, (*past, Before(title, before)))
        return {"said": said}

    def undo(self) -> dict[str, Any]:
        """Go back to what was known before the latest step."""
        self._plays.clear()
        with self._lock:
            *past, before = self.now.past or (None,)
            if before is None:
                raise ValueError("There is nothing to undo.")
            self._go_to(before.knowledge, tuple(past))
        return {"said": f"Undone: {before.title}."}

    def play(self, is_on: bool) -> dict[str, Any]:
        """Let the stream go on, or stop it; what it teaches until it stops is one step."""
        with self._lock:
            _, knowledge, past = self.now
            if not is_on or self._plays.is_set():
                self._plays.clear()
                return {"said": "The stream has stopped."}
            if knowledge.source is None or not can_learn(knowledge.network):
                raise ValueError("There is no stream that this network could learn.")
            if not len(self._next(knowledge)[1]):
                raise ValueError("The stream has come to its end.")
            self._go_to(knowledge, (*past, Before("the stream", knowledge)))
            self._plays.set()
        return {"said": "The stream plays."}

    def _run(self, begin: Callable[[], Knowledge]) -> None:
        """Learn the first network, and then what the stream brings, as long as there is a page."""
        try:
            knowledge = begin()
            steps.compile_all(knowledge)
            self._moment = Moment(1, knowledge, ())
        except Exception as error:
            self._failure = f"The network could not be learned: {error}"
            raise
        while not self._has_closed.wait(_SECONDS_PER_TICK):
            with self._lock:
                if self._plays.is_set():
                    self._tick()

    def _tick(self) -> None:
        _, knowledge, past = self.now
        images, labels = self._next(knowledge)
        if len(labels):
            self._go_to(steps.play(knowledge, images, labels), past)
        else:
            self._plays.clear()

    def _next(self, knowledge: Knowledge) -> tuple[np.ndarray, np.ndarray]:
        """Return the next examples of the stream; none where fewer are left than a step needs."""
        assert knowledge.source is not None
        stream = load_source(knowledge.source)
        stop = knowledge.position + steps.PLAYED_AT_ONCE
        rows = slice(knowledge.position, stop if stop <= len(stream.labels) else 0)
        return stream.images[rows], stream.labels[rows]

    def _go_to(self, knowledge: Knowledge, past: tuple[Before, ...]) -> None:
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(knowledge.state))
        kept = min(_MOST_UNDONE, max(_MOST_BYTES // max(size, 1), 1))
        self._moment = Moment(self.now.version + 1, knowledge, past[-kept:])


def _course(hits: np.ndarray, parts: int = 120) -> dict[str, Any]:
    """Return the accuracy of at most ``parts`` equal stretches of the stream, and of all."""
    if not len(hits):
        return {"stretch": 0, "shares": [], "whole": None}
    stretch = max(50, 50 * -(-len(hits) // (50 * parts)))
    shares = [float(hits[i : i + stretch].mean()) for i in range(0, len(hits), stretch)]
    return {
        "stretch": stretch,
        "shares": [round(s, 4) for s in shares],
        "whole": float(hits.mean()),
    }
