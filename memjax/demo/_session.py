"""The one state that all tabs share: each step is atomic, and can be undone."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from memjax.checkpoint import state_digest
from memjax.demo import _knowledge as steps
from memjax.demo._beginnings import load_source
from memjax.demo._knowledge import Knowledge

_MOST_UNDONE = 50
_SECONDS_A_TICK = steps.PLAYED_AT_ONCE / 100  # 100 examples each second


class NotReadyError(RuntimeError):
    """The first network is still being learned."""


class Before(NamedTuple):
    """What was known before a step, and the name of the step."""

    title: str
    knowledge: Knowledge


class Session:
    """What is known now, and how to go on and back from it.

    A question reads the knowledge once, and needs no lock: knowledge is never changed. A step holds
    the lock from reading to writing, so of many steps at once none is lost.
    """

    def __init__(self, begin: Callable[[], Knowledge]):
        self._lock = threading.RLock()
        self._known: Knowledge | None = None
        self._past: deque[Before] = deque(maxlen=_MOST_UNDONE)
        self._failure: str | None = None
        self._version = 0
        self._has_closed = threading.Event()
        self._plays = threading.Event()
        threading.Thread(target=self._begin, args=(begin,), daemon=True).start()

    def _begin(self, begin: Callable[[], Knowledge]) -> None:
        try:
            knowledge = begin()
            steps.compile_all(knowledge)
        except Exception as error:
            self._failure = str(error)
            raise
        with self._lock:
            self._known, self._version = knowledge, 1
        self._play()

    def close(self) -> None:
        """Let the stream end."""
        self._has_closed.set()

    @property
    def known(self) -> Knowledge:
        """What is known now."""
        if self._failure is not None:
            raise NotReadyError(self._failure)
        if self._known is None:
            raise NotReadyError("The network is still being learned.")
        return self._known

    def overview(self, version: int) -> dict[str, Any]:
        """Return the memories, the classes and the course, if they are not those of a version."""
        if self._known is None:
            return {"version": 0, "failure": self._failure}
        with self._lock:
            knowledge, now, past = self.known, self._version, list(self._past)
        if now == version:
            return {"version": now, "plays": self._plays.is_set()}
        found = steps.banks(knowledge)
        serials = [knowledge.pictures[number].serial for number in found.numbers.tolist()]
        columns = serials, found.labels.tolist(), found.counts.tolist()
        return {
            "version": now,
            "plays": self._plays.is_set(),
            "shape": knowledge.network.input_shape,
            "about": knowledge.about,
            "teaches": steps.can_learn(knowledge.network),
            "streams": knowledge.source is not None,
            "position": knowledge.position,
            "course": _course(knowledge.hits),
            "undo": past[-1].title if past else None,
            "names": knowledge.names,
            "memories": list(zip(*columns, strict=True)),
        }

    def pictures(self, serials: list[int]) -> bytes:
        """Return the pixels of some pictures, one after the other; of unknown ones, zeros."""
        knowledge = self.known
        by_serial = {one.serial: one.pixels for one in knowledge.pictures.values()}
        nothing = np.zeros(knowledge.network.input_shape, np.uint8)
        return b"".join(by_serial.get(serial, nothing).tobytes() for serial in serials)

    def digest(self) -> str:
        """Return the digest of what is known: equal digests, equal bits."""
        return state_digest(self.known.state)

    def answer(self, image: np.ndarray) -> dict[str, Any]:
        """Return what the network says of an image."""
        return steps.answer(self.known, image)

    def example(self) -> tuple[bytes, str]:
        """Return an image of the source that was not learned yet, and the name of its class."""
        knowledge = self.known
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
            before = self.known
            after, said = change(before)
            if _shapes(after) != _shapes(before):
                steps.compile_all(after)
            self._past.append(Before(title, before))
            self._set(after)
            return {"said": said, "version": self._version}

    def undo(self) -> dict[str, Any]:
        """Go back to what was known before the latest step."""
        self._plays.clear()
        with self._lock:
            if not self._past:
                raise ValueError("There is nothing to undo.")
            before = self._past.pop()
            self._set(before.knowledge)
            return {"said": f"Undone: {before.title}.", "version": self._version}

    def play(self, is_on: bool) -> dict[str, Any]:
        """Let the stream go on, or stop it; all that it teaches until it stops is one step."""
        with self._lock:
            knowledge = self.known
            if is_on and not self._plays.is_set():
                if knowledge.source is None or not steps.can_learn(knowledge.network):
                    raise ValueError("There is no stream that this network could learn.")
                stream = load_source(knowledge.source)
                if knowledge.position + steps.PLAYED_AT_ONCE > len(stream.labels):
                    raise ValueError("The stream has come to its end.")
                self._past.append(Before("the stream", knowledge))
                self._plays.set()
                return {"said": "The stream plays.", "version": self._version}
            self._plays.clear()
            return {"said": "The stream has stopped.", "version": self._version}

    def _play(self) -> None:
        while not self._has_closed.wait(_SECONDS_A_TICK):
            if self._plays.is_set():
                with self._lock:
                    self._tick()

    def _tick(self) -> None:
        knowledge = self.known
        if not self._plays.is_set() or knowledge.source is None:
            return
        stream = load_source(knowledge.source)
        rows = slice(knowledge.position, knowledge.position + steps.PLAYED_AT_ONCE)
        images, labels = stream.images[rows], stream.labels[rows]
        if len(labels) < steps.PLAYED_AT_ONCE:
            self._plays.clear()
            self._version += 1
            return
        self._set(steps.play(knowledge, images, labels))

    def _set(self, knowledge: Knowledge) -> None:
        self._known = knowledge
        self._version += 1


def _shapes(knowledge: Knowledge) -> Any:
    return knowledge.network


def _course(hits: np.ndarray, parts: int = 120) -> dict[str, Any]:
    """Return the accuracy of up to so many equal stretches of the stream, and of all of it."""
    if not len(hits):
        return {"stretch": 0, "shares": [], "whole": None}
    stretch = max(50, 50 * -(-len(hits) // (50 * parts)))
    shares = [float(hits[i : i + stretch].mean()) for i in range(0, len(hits), stretch)]
    return {
        "stretch": stretch,
        "shares": [round(s, 4) for s in shares],
        "whole": float(hits.mean()),
    }
