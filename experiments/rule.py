"""What the learning rule is made of: each part taken out, where it matters.

    python -m experiments.rule [--only NAME] [--out FOLDER] [--quick]

Every row learns with one part of the rule changed, one example at a time. The columns are streams:
the first 12,000 training images of MNIST with edges as features, clean, with wrong labels, in three
levels (0, 1 and 2, as in `experiments.trust`), two classes at a time, and with the nines at the
end; and 600 rows of one binary feature, of which one in ten has the wrong label. Accuracy is that
on 3,000 of the last 10,000 training images, for the late class the recall of nines, and for the
binary feature that on the true labels. There is one seed: differences under 0.3 points on MNIST are
not established.

The rule is written here once more, slowly, with a switch for each part. With all parts it learns
what `memjax.fit` learns; a test compares them.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import memjax
from experiments import sweeps
from experiments.figures import axes, legend, name_rows, style
from experiments.records import markdown_table, options, place_by, publish, read
from experiments.trust import Task, three_levels, wrong_labels
from memjax import datasets
from memjax.memory import MemoryState
from memjax.memory._recall import evidence
from memjax.training import CALIBRATION_EXAMPLES

_NEIGHBOURS = 7


@dataclasses.dataclass(frozen=True)
class Rule:
    """The rule, with its parts as switches; the defaults are those of ``MemoryLayer``."""

    stores: str = "repeated"  # which mistakes: "repeated", "all" or "none"
    stores_rare: bool = True  # whether a mistake with a rare label is stored at once
    makes_room: bool = True  # whether a full bank has room for a class with less than its share
    stores_ties: bool = False  # whether a mistake at distance 0 is stored
    moves_away: bool = True  # whether the mean of many examples counts as farther than it is
    doubts: bool = True  # whether a memory with few votes weighs less
    centre: str = "median"  # of the nearest distances, for the threshold


RULES = {
    "the whole rule": Rule(),
    "every mistake is stored": Rule(stores="all"),
    "no mistake is stored": Rule(stores="none", stores_rare=False),
    "rare labels wait like others": Rule(stores_rare=False),
    "a full bank makes no room": Rule(makes_room=False),
    "a mistake at distance 0 is stored": Rule(stores_ties=True),
    "a mean of many counts as near as it is": Rule(moves_away=False),
    "one vote weighs as much as many": Rule(doubts=False),
    "the threshold is a mean": Rule(centre="mean"),
    "the first rule: all of these, every mistake stored": Rule(
        "all", False, False, True, False, False, "mean"
    ),
}


class Stream(NamedTuple):
    """Examples to learn and to ask, and how many memories there is room for."""

    xs: np.ndarray
    labels: np.ndarray
    asked: np.ndarray
    answers: np.ndarray
    capacity: int
    title: str


def streams(num_train: int = 12_000, num_test: int = 3_000, capacity: int = 3_000) -> list[Stream]:
    """Return the streams, each with its title."""
    network, _ = memjax.memory_network((28, 28, 1), 10)
    (xs, labels), (asked, answers) = (
        sweeps.encode_first(network.layers[0], datasets.load("mnist", split), most)
        for split, most in (("train_without_validation", num_train), ("validation", num_test))
    )
    made = [Stream(xs, labels, asked, answers, capacity, "clean")]
    generator = np.random.default_rng(0)
    for share in (0.2, 0.4):
        noisy = wrong_labels(labels, 10, share, generator)
        made += [Stream(xs, noisy, asked, answers, capacity, f"{share:.0%} wrong labels")]
    task = three_levels(Task(xs, labels, asked, answers, 10, 0), generator)
    made += [Stream(task.xs, labels, task.asked, answers, capacity, "three levels")]
    order = np.argsort(labels // 2, kind="stable")
    made += [Stream(xs[order], labels[order], asked, answers, capacity // 3, "two by two")]
    order, nines = np.argsort(labels == 9, kind="stable"), answers == 9
    late = xs[order], labels[order], asked[nines], answers[nines]
    made += [Stream(*late, capacity // 30, "nines come late")]
    binary = generator.integers(0, 2, 600).astype(np.int32)
    flipped = np.where(generator.random(600) < 0.1, 1 - binary, binary)
    feature = binary[:, None].astype(np.float32)
    return [*made, Stream(feature, flipped, feature, binary, 600, "binary feature")]


@partial(jax.jit, static_argnums=(0, 1, 2))
def learn(
    rule: Rule, num_classes: int, capacity: int, threshold: Any, xs: Any, labels: Any
) -> MemoryState:
    """Return the memories after one pass, one example at a time."""

    def step(state: MemoryState, example: Any) -> tuple[MemoryState, None]:
        x, label = example
        is_used = jnp.arange(capacity) < state.size
        distances = jnp.sum(jnp.square(state.prototypes - x[None]), axis=1)
        if rule.moves_away:
            distances *= 5 * state.averaged / (4 * state.averaged + 1)
        distances = jnp.where(is_used, distances, jnp.inf)
        winner = jnp.argmin(distances)
        votes = state.votes[winner]
        most = jnp.max(state.votes, axis=1)
        is_voter = (state.votes[:, label] == most) & (most > 0)
        num_voters = jnp.sum(is_voter)
        is_rare = num_voters * 2 * num_classes < state.size
        is_short = num_voters * num_classes < state.size
        is_mistaken = votes[label] < most[winner]
        is_stored = {"repeated": votes[label] > 0, "all": True, "none": False}[rule.stores]
        is_stored |= rule.stores_rare & is_rare
        is_stored &= is_mistaken & (rule.stores_ties | (distances[winner] > 0))
        is_novel = (distances[winner] > threshold) | is_stored
        is_full = state.size == capacity
        useful = state.counts / (state.num_seen - state.stored_at + 1)
        is_replaced = is_novel & is_full & rule.makes_room & is_mistaken & is_short
        to_voters = jnp.where(is_voter, distances, jnp.inf)
        adapted = jnp.where(jnp.any(is_voter), jnp.argmin(to_voters), winner)
        adapted = jnp.where(is_replaced, jnp.argmin(useful), adapted)
        slot = jnp.where(is_novel, jnp.where(is_full, adapted, state.size), winner)
        is_fresh = is_novel & (~is_full | is_replaced)
        count = jnp.where(is_fresh, 0, state.counts[slot]) + 1
        is_copy = ~is_novel & (distances[winner] == 0)
        averaged = jnp.where(is_fresh, 0, state.averaged[slot]) + (~is_copy).astype(jnp.int32)
        rate = 1 / count.astype(jnp.float32)
        memory = jnp.where(is_fresh, x, state.prototypes[slot])
        kept = jnp.where(is_fresh, 0, state.votes[slot])
        stored_at = jnp.where(is_fresh, state.num_seen, state.stored_at[slot])
        return MemoryState(
            prototypes=state.prototypes.at[slot].set(memory + rate * (x - memory)),
            counts=state.counts.at[slot].set(count),
            averaged=state.averaged.at[slot].set(averaged),
            votes=state.votes.at[slot].set(kept.at[label].add(1)),
            stored_at=state.stored_at.at[slot].set(stored_at),
            size=jnp.minimum(state.size + is_fresh.astype(jnp.int32), capacity),
            num_seen=state.num_seen + 1,
            distance_counts=state.distance_counts,
        ), None

    layer = memjax.MemoryLayer(xs.shape[1], num_classes, capacity)
    return lax.scan(step, layer.init(jax.random.key(0)), (xs, labels))[0]


def calibrated(rule: Rule, xs: np.ndarray) -> float:
    """Return the threshold from the first 1,000 examples."""
    first = np.float64(xs[:CALIBRATION_EXAMPLES])
    squares = np.sum(first**2, axis=1)
    distances = squares[:, None] + squares[None] - 2 * np.dot(first, first.T)
    np.fill_diagonal(distances, np.inf)
    nearest = np.maximum(np.min(distances, axis=1), 0)
    return float(np.median(nearest) if rule.centre == "median" else np.mean(nearest))


def accuracy(rule: Rule, stream: Stream) -> tuple[float, int]:
    """Return the share of right answers after learning a stream, and the number of memories."""
    num_classes = int(stream.labels.max()) + 1
    threshold = calibrated(rule, stream.xs)
    state = learn(rule, num_classes, stream.capacity, threshold, stream.xs, stream.labels)
    layer = memjax.MemoryLayer(stream.xs.shape[1], num_classes, stream.capacity)
    # A memory of one example counts as near as it is.
    asked = state if rule.moves_away else state._replace(averaged=jnp.ones_like(state.counts))
    distances, memories = layer.nearest(asked, stream.asked, _NEIGHBOURS + 1)
    # With a thousand times the votes, one example is as sure as many.
    votes = state.votes[memories] * (1 if rule.doubts else 1000)
    answer = partial(evidence, num_neighbours=_NEIGHBOURS, size=state.size)
    answers = jnp.argmax(jax.vmap(answer)(distances, votes), axis=1)
    return float(np.mean(np.asarray(answers) == stream.answers)), int(state.size)


def measure(name: str, made: list[Stream]) -> dict[str, Any]:
    """Return what a rule reaches on each stream."""
    found = {stream.title: accuracy(RULES[name], stream) for stream in made}
    return {
        "rule": name,
        "command": f"python -m experiments.rule --only '{name}'",
        "seed": 0,
        "accuracy": {title: share for title, (share, _) in found.items()},
        "memories": {title: number for title, (_, number) in found.items()},
    }


records = partial(read, "rule", place_by(rule=RULES))


def table(found: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table, accuracy in percent."""
    return markdown_table(
        {"rule": record["rule"]}
        | {title: f"{100 * share:.1f}" for title, share in record["accuracy"].items()}
        for record in found
    )


def figure(found: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy of each rule on each stream."""
    titles = list(found[0]["accuracy"])
    drawn, place = axes("accuracy, %", "", width=8.0)
    for number, title in enumerate(titles):
        shares = [100 * record["accuracy"][title] for record in found]
        place.plot(shares, range(len(found)), label=title, linestyle="none", **style(number))
    name_rows(place, [record["rule"] for record in found])
    legend(drawn, place, is_above=True)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the rules, print their rows and keep the records."""
    chosen = options(__doc__, names=tuple(RULES)).parse_args(arguments)
    made = streams(600, 200, 300) if chosen.quick else streams()
    for name in (chosen.only,) if chosen.only else RULES:
        publish(table, chosen.out, name, measure(name, made))


if __name__ == "__main__":
    main()
