"""The estimator in several threads: every answer and every count is that of a real moment."""

import copy
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("memjax.sklearn")

from sklearn.base import clone
from sklearn.datasets import load_digits

from memjax.sklearn import MemoryNetworkClassifier

NAMES = np.array([f"digit {number}" for number in range(10)])


@pytest.fixture(scope="module")
def digits():
    """1,797 digits as rows of 64 features, in the order of their labels at first."""
    X, y = load_digits(return_X_y=True)
    late = np.argsort(y[:600], kind="stable")
    order = np.concatenate([late, np.arange(600, len(y))])
    return X[order], NAMES[y[order]]


@pytest.fixture(autouse=True)
def many_switches():
    """Let threads take turns a thousand times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(interval)


def fresh(estimator) -> MemoryNetworkClassifier:
    copied = clone(estimator)
    assert isinstance(copied, MemoryNetworkClassifier)
    return copied


def cut(X, y, size, stop):
    return [(X[start : start + size], y[start : start + size]) for start in range(0, stop, size)]


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """Run jobs in threads of their own, begun at one time; raise what any of them raises."""
    barrier = threading.Barrier(len(jobs))

    def run(job):
        barrier.wait(timeout=60)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(run, job) for job in jobs]
        wait(futures, timeout=300)
        return [future.result(timeout=0) for future in futures]


def asked_in_many_ways(estimator, X):
    """What an estimator says of rows and of itself, each as bytes."""
    return {
        "predict": lambda: estimator.predict(X).tolist(),
        "predict_proba": lambda: estimator.predict_proba(X).tobytes(),
        "explain": lambda: [part.tobytes() for part in estimator.explain(X)],
        "kneighbors": lambda: [part.tobytes() for part in estimator.kneighbors(X, 1)],
        "novelty_score": lambda: estimator.novelty_score(X).tobytes(),
        "num_memories_": lambda: estimator.num_memories_,
        "classes_": lambda: estimator.classes_.tolist(),
        "pickle": lambda: pickle.loads(pickle.dumps(estimator)).predict_proba(X).tobytes(),
        "deepcopy": lambda: copy.deepcopy(estimator).predict_proba(X).tobytes(),
    }


# Batches that the estimator has not grown by an eighth with, and numbers that wait for 1,000 rows.
@pytest.mark.parametrize(("size", "stop"), [(23, 1150), (120, 1440)])
def test_eight_threads_that_ask_while_one_learns_get_answers_of_real_moments(digits, size, stop):
    X, y = digits
    asked, batches = X[::60], cut(X, y, size, stop)
    twin = MemoryNetworkClassifier()
    ways = asked_in_many_ways(twin, asked)
    moments = {name: [] for name in ways}
    for rows, labels in batches:
        twin.partial_fit(rows, labels)
        for name, way in ways.items():
            moments[name].append(way())
    estimator = fresh(twin).partial_fit(*batches[0])
    is_over = threading.Event()

    def learn():
        try:
            for rows, labels in batches[1:]:
                estimator.partial_fit(rows, labels)
        finally:
            is_over.set()

    def ask(turn):
        ways = list(asked_in_many_ways(estimator, asked).items())
        earliest, number = 0, 0
        while not is_over.is_set() or number < len(ways):
            name, way = ways[(turn + number) % len(ways)]
            # Not of a moment before the one that was answered for last.
            earliest = moments[name].index(way(), earliest)
            number += 1
        return number

    together(learn, *(partial(ask, turn) for turn in range(8)))
    assert asked_in_many_ways(estimator, asked)["explain"]() == moments["explain"][-1]


def test_of_two_threads_that_learn_every_row_is_counted_once(digits):
    X, y = digits
    estimator = MemoryNetworkClassifier(novelty_threshold=300.0).partial_fit(X[:8], y[:8], NAMES)
    halves = cut(X[8:], y[8:], 8, 640), cut(X[800:], y[800:], 8, 640)
    counts, is_over = [], threading.Event()

    def learn(batches):
        for rows, labels in batches:
            estimator.partial_fit(rows, labels)

    def count():
        while not is_over.is_set():
            state = estimator.state_
            counts.append((int(state.num_seen), int(np.asarray(state.votes).sum())))

    def learn_both():
        try:
            together(*(partial(learn, half) for half in halves))
        finally:
            is_over.set()

    together(learn_both, count, count)
    assert estimator.state_.num_seen == 8 + 2 * 640
    assert all(seen == votes and seen % 8 == 0 for seen, votes in counts)
    # All rows of both were learned, each in its own order.
    known = estimator.predict(np.concatenate([X[8:648], X[800:1440]]))
    assert np.mean(known == np.concatenate([y[8:648], y[800:1440]])) > 0.95


@pytest.mark.parametrize("turn", range(5))
def test_threads_that_begin_at_once_begin_one_stream(digits, turn):
    X, y = digits
    estimator = MemoryNetworkClassifier(novelty_threshold=300.0 + turn)
    parts = slice(0, 30), slice(30, 60), slice(60, 90)
    together(*(partial(estimator.partial_fit, X[part], y[part], NAMES) for part in parts))
    assert estimator.state_.num_seen == 90


def test_an_estimator_that_is_fitted_anew_answers_as_before_or_as_after(digits):
    X, y = digits
    few = np.isin(y, NAMES[:3])
    data = (X[600:900], y[600:900]), (X[few], y[few]), (X[:, :40], y)
    estimator = MemoryNetworkClassifier()
    expected = []
    for rows, labels in data[:2]:
        expected.append(estimator.fit(rows, labels).predict(X[:50]).tolist())
    is_over = threading.Event()

    def learn():
        try:
            for index in range(6):
                estimator.fit(*data[index % 2])
        finally:
            is_over.set()

    def ask():
        while not is_over.is_set():
            assert estimator.predict(X[:50]).tolist() in expected

    together(learn, ask, ask, ask)


def test_what_an_estimator_waits_with_is_its_own(digits):
    X, y = digits
    estimator = MemoryNetworkClassifier().fit(X[600:900], y[600:900])
    begun = fresh(estimator)
    for other in (copy.deepcopy(estimator), copy.copy(estimator), begun):
        other.partial_fit(X[900:1100], y[900:1100], NAMES)
    assert estimator.state_.num_seen == 300
    with estimator._lock:  # held by a thread that learns, for instance
        job = threading.Thread(target=lambda: begun.partial_fit(X[1100:], y[1100:]), daemon=True)
        job.start()
        job.join(timeout=60)
    assert not job.is_alive()
