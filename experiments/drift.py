"""How fast a learner follows a world that changes.

    python -m experiments.drift [--dataset NAME] [--world WORLD] [--only CONTENDER] [--seeds N]
                                [--split test|validation] [--out FOLDER] [--quick]

The training images come once each. Midway the world changes without notice: either the pixels of
all images are permuted by one fixed permutation, or class c is called 9 - c from then on. Every
example is first asked and then taught. The figure and the table show the share of right answers in
windows of 1,000 (prequential accuracy). The table also shows the accuracy at the end on the test
images of the new world and of the old one. If labels are swapped, no answer is right in both.

Memory networks with room for 3,000 memories follow with every policy for a full bank and every
plasticity floor, with the automatic novelty threshold and with none ("errors only"). All of these
learn all stream orders in one compiled call. The figure and the first table show each network at
the settings that answered most examples right in the 20 windows after the change, a choice made
from the training stream alone. The second table shows all settings. In the stream a memory network
answers by the vote of the nearest memory, which is a little less exact than recall. Columnar
networks are consolidated after every window. A linear model, a perceptron and a convolutional
network learn the same stream once, online, by gradient descent with a constant learning rate. They
are asked 64 examples at a time, before these are taught.

These are earlier findings with 20,000 images and room for 1,000 memories, in one order of the
validation split. They were made by hand, and no command repeats them:

- **Permuted pixels** look new, so a network needs room. With "replace", raw pixels answered 82 % of
  the first 1,000 examples of the new world, more than a linear model (68 %) or a perceptron (49 %),
  and kept 91 % on the old world. A full bank reached 80 % over the second half with "adapt", and
  learned nothing with "ignore". A bank of errors only was not yet full at the change and recovered
  with every policy, at low floors. Floors did not help here.
- **Swapped labels** are the hard case. Votes are counted and never forgotten: a memory keeps its
  old answer until it is overwritten. With "adapt" 6 % of the second half were right, and with
  "ignore" less than 1 %. With errors only, "adapt" reached 29 % (pixels) and 57 % (edges).
  "Replace" reached 38 % and 58 %, and 75 % and 81 % with a floor of 1, where the winner becomes the
  example. That floor costs half a point to a point in a world that stays. It also costs much of an
  old world that is not contradicted: after the permutation 32 % of it (pixels) and 63 % (edges)
  were left, in place of 91 % and 96 %.
- **A ridge readout** adds up sums and never forgets, so new labels outvote old ones only once there
  are as many of them (19 % of the second half). A delta readout on the same columns follows (89 %).
  Columns store in their critical period only, so none of them grows for the permuted pixels.

This counts against the memory network: with swapped labels a linear model answered 54 % of the
first 1,000 examples, and the best memory network 43 %. It takes longer to overwrite more memories:
with room for 3,000 and a change after 25,000 images, edges with "replace" and a floor of 1 answered
20 % of them, in place of 41 %. And no setting is best in both worlds.
"""

import itertools
import math
import operator
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import memjax
from experiments import backprop, sweeps
from experiments.figures import legend, panels, style
from experiments.records import (
    TITLES,
    flat,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    publish,
    read,
)
from memjax.base import UNLABELLED
from memjax.datasets import Dataset
from memjax.datasets._source import batches
from memjax.training import CALIBRATION_EXAMPLES

WORLDS = ("permuted pixels", "swapped labels")
FLOORS = (0.0, 0.05, 0.2, 0.5, 1.0)
_THRESHOLDS = {"auto": 1.0, "errors only": math.inf}  # multiples of the calibrated threshold
_SPANS = (1, 5, 20)  # windows after the change that the table averages over
_LEARNING_RATE = {"linear": 0.03, "delta": 3e-3}  # each the best of three on validation streams


class Stream(NamedTuple):
    """A stream whose second half comes from another world, and what both are tested on."""

    data: Dataset
    window: int  # examples that are averaged; both halves are whole windows
    tests: dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels of the new and old world


class Follower(NamedTuple):
    """A learner after its stream."""

    seed: int
    settings: dict[str, Any]
    was_right: np.ndarray  # bool [N]: its answer to each example, asked before learning it
    answer: Callable[[np.ndarray], np.ndarray]


def change(
    world: str, images: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, H, W, channels] and labels [N] of a changed world.

    Args:
        world: "permuted pixels", by one permutation for all images and all seeds, or "swapped
            labels", where class c is called C - 1 - c.
        images: of the old world.
        labels: of the old world.
        num_classes: C.
    """
    if world == "swapped labels":
        return images, num_classes - 1 - labels
    places = images.reshape(len(images), -1, images.shape[-1])
    order = np.random.default_rng(0).permutation(places.shape[1])
    return places[:, order].reshape(images.shape), labels


def stream(dataset: str, world: str, split: str, seed: int) -> Stream:
    """Return a dataset in the order of a seed, with its second half from a changed world."""
    train, test = load(dataset, split, seed)
    window = min(1000, len(train.labels) // (2 * _SPANS[-1]))
    half = len(train.labels) // (2 * window) * window
    early, late = slice(half), slice(half, 2 * half)
    images, labels = change(world, train.images[late], train.labels[late], train.num_classes)
    data = train._replace(
        images=np.concatenate([train.images[early], images]),
        labels=np.concatenate([train.labels[early], labels]),
    )
    new = change(world, test.images, test.labels, train.num_classes)
    return Stream(data, window, {"new": new, "old": (test.images, test.labels)})


def _memories(streams: list[Stream], encoder: str, on_full: str) -> Iterator[Follower]:
    """Follow all streams with all settings at once."""
    data = streams[0].data
    network, params = memjax.memory_network(
        data.images.shape[1:], data.num_classes, encoder=encoder, on_full=on_full
    )
    empty, first = network.init(jax.random.key(0)), slice(CALIBRATION_EXAMPLES)

    def follow(images, labels, multiple, floor):
        mine = memjax.replace_params(params, plasticity_floor=floor)
        mine = memjax.calibrate(network, mine, images[first], labels[first])
        mine = sweeps.times_threshold(mine, multiple)
        state, infos = memjax.fit(network, mine, empty, images, labels)
        return (mine, state), infos.predicted == labels

    settings = list(itertools.product(_THRESHOLDS, FLOORS))
    multiples = jnp.array([_THRESHOLDS[name] for name, _ in settings])
    floors = jnp.array([floor for _, floor in settings])
    over_settings = jax.vmap(follow, in_axes=(None, None, 0, 0))
    over_streams = jax.vmap(over_settings, in_axes=(0, 0, None, None))
    learned, was_right = over_streams(
        np.stack([one.data.images for one in streams]),
        np.stack([one.data.labels for one in streams]),
        multiples,
        floors,
    )
    was_right = np.asarray(was_right)
    for row, one in enumerate(streams):
        for column, (threshold, floor) in enumerate(settings):
            mine, state = jax.tree.map(operator.itemgetter((row, column)), learned)
            yield Follower(
                one.data.seed,
                {"novelty_threshold": threshold, "plasticity_floor": floor},
                was_right[row, column],
                partial(memjax.predict, network, mine, state),
            )


def _columnar(streams: list[Stream], has_delta: bool = False) -> Iterator[Follower]:
    """Follow each stream with columns, read out by ridge or by the delta rule."""
    for one in streams:
        image_shape, num_classes = one.data.images.shape[1:], one.data.num_classes
        network, params = memjax.columnar_network(image_shape, num_classes, size="small")
        if has_delta:
            assert isinstance(network, memjax.Chain)
            eye = network.layers[0]
            readout = memjax.DeltaReadout(eye.output_shape[0], num_classes)
            network = memjax.Chain((eye, readout))
            params = (params[0], readout.params(learning_rate=_LEARNING_RATE["delta"]))
        yield _in_windows(one, network, params)


def _in_windows(one: Stream, network: memjax.Layer, params: Any) -> Follower:
    """Follow a stream window by window, since every ``fit`` ends in consolidation."""
    state = network.init(jax.random.key(one.data.seed))
    was_right = []
    for images, labels in batches(one.data.images, one.data.labels, one.window):
        state, infos = memjax.fit(network, params, state, images, labels)
        was_right.append(np.asarray(infos.predicted) == labels)
    answer = partial(memjax.predict, network, params, state)
    return Follower(one.data.seed, {}, np.concatenate(was_right), answer)


def _linear(streams: list[Stream]) -> Iterator[Follower]:
    from sklearn.linear_model import SGDClassifier

    for one in streams:
        model = SGDClassifier(
            loss="log_loss",
            learning_rate="constant",
            eta0=_LEARNING_RATE["linear"],
            random_state=one.data.seed,
        )
        classes = np.arange(one.data.num_classes)
        was_right = []
        for images, labels in batches(one.data.images, one.data.labels, backprop.BATCH):
            # Before its first lesson it has no answer, which counts as wrong.
            answers = model.predict(flat(images)) if was_right else np.full(len(labels), UNLABELLED)
            was_right.append(answers == labels)
            model.partial_fit(flat(images), labels, classes=classes)

        def answer(images: np.ndarray, model: Any = model) -> np.ndarray:
            return model.predict(flat(images))

        yield Follower(one.data.seed, {}, np.concatenate(was_right), answer)


def _by_backpropagation(streams: list[Stream], kind: str) -> Iterator[Follower]:
    for one in streams:
        trained = backprop.train(kind, one.data, epochs=1, falls=False)
        yield Follower(one.data.seed, {}, trained.was_right, partial(backprop.predict, trained))


CONTENDERS: dict[str, Callable[[list[Stream]], Iterator[Follower]]] = {
    f"memory, {encoder}, {on_full}": partial(_memories, encoder=encoder, on_full=on_full)
    for encoder in ("pixels", "edges")
    for on_full in ("adapt", "replace", "ignore")
} | {
    "columnar small": _columnar,
    "columnar small, delta readout": partial(_columnar, has_delta=True),
    "linear, online": _linear,
    "MLP, online": partial(_by_backpropagation, kind="mlp"),
    "CNN, online": partial(_by_backpropagation, kind="cnn"),
}

_DRAWN = (
    "memory, edges, adapt",
    "memory, edges, replace",
    "memory, pixels, replace",
    "columnar small",
    "columnar small, delta readout",
    "linear, online",
    "CNN, online",
)
"""The contenders that the figure shows; with all of them nobody could read it."""


def measure(dataset: str, world: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one contender in one world, in several stream orders."""
    streams = [stream(dataset, world, split, seed) for seed in range(seeds)]
    window = streams[0].window
    runs = []
    for follower in CONTENDERS[name](streams):
        right = follower.was_right
        windows = [right[start : start + window] for start in range(0, len(right), window)]
        tests = streams[follower.seed].tests
        accuracy = {
            where: float(np.mean(follower.answer(images) == labels))
            for where, (images, labels) in tests.items()
        }
        runs.append(
            {
                "seed": follower.seed,
                "settings": follower.settings,
                "prequential": [round(float(np.mean(part)), 4) for part in windows],
                "accuracy": accuracy,  # at the end, in the new and in the old world
            }
        )
    return {
        "dataset": dataset,
        "world": world,
        "contender": name,
        "split": split,
        "command": f"python -m experiments.drift --dataset {dataset} --world '{world}' "
        f"--only '{name}' --seeds {seeds} --split {split}",
        "window": window,  # examples per entry of "prequential"
        "change_at": len(streams[0].data.labels) // 2,
        "runs": runs,
    }


def _after(record: dict[str, Any], run: dict[str, Any], span: int = _SPANS[-1]) -> float:
    """Return the prequential accuracy in the first ``span`` windows after the change."""
    change = record["change_at"] // record["window"]
    return statistics.mean(run["prequential"][change : change + span])


def _by_settings(record: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the runs of each setting, each a list over the stream orders."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in record["runs"]:
        groups.setdefault(str(run["settings"]), []).append(run)
    return list(groups.values())


def best(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs at the settings that answered most right in the windows after the change."""
    return max(
        _by_settings(record), key=lambda runs: statistics.mean(_after(record, run) for run in runs)
    )


records = partial(read, "drift", place_by(dataset=TITLES, world=WORLDS, contender=CONTENDERS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as two Markdown tables: the contenders, and the settings of memories."""
    contenders, settings = [], []
    for record in records:
        runs, window = best(record), record["window"]
        names = {
            "dataset": TITLES[record["dataset"]],
            "change": record["world"],
            "contender": record["contender"],
        }
        before = record["change_at"] // window - 1
        shares = {
            f"last {window:,} before the change, %": [run["prequential"][before] for run in runs]
        }
        for span in _SPANS:
            head = f"first {span * window:,} after it, %"
            shares[head] = [_after(record, run, span) for run in runs]
        for world in ("new", "old"):
            shares[f"{world} world at the end, %"] = [run["accuracy"][world] for run in runs]
        contenders.append(
            names
            | {"threshold, floor": ", ".join(map(str, runs[0]["settings"].values()))}
            | {head: percent(values) for head, values in shares.items()}
            | {"orders": len(runs)}
        )
        groups = [runs for runs in _by_settings(record) if runs[0]["settings"]]
        for threshold, runs in itertools.groupby(groups, key=_threshold):
            cells = [percent([_after(record, run) for run in group]) for group in runs]
            row = names | {"threshold": threshold} | dict(zip(FLOORS, cells, strict=True))
            settings.append(row)
    parts = [markdown_table(contenders)]
    if settings:
        parts += [
            "All settings of the memory networks: right answers to the first "
            f"{_SPANS[-1] * records[0]['window']:,} examples after the change, %, by plasticity "
            "floor.",
            markdown_table(settings),
        ]
    return "\n\n".join(parts)


def _threshold(runs: list[dict[str, Any]]) -> str:
    return runs[0]["settings"]["novelty_threshold"]


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the prequential accuracy along the stream, one panel per world."""
    shown = [record for record in records if record["contender"] in _DRAWN]
    worlds = list(dict.fromkeys((record["dataset"], record["world"]) for record in shown))
    drawn, places = panels(
        [f"{TITLES[dataset]}, {world}" for dataset, world in worlds],
        "examples of the stream, thousands",
        "prequential accuracy, %\n(mean over orders)",
        width=10.5,
        is_y_shared=True,
    )
    for record in shown:
        place = places[worlds.index((record["dataset"], record["world"]))]
        number = _DRAWN.index(record["contender"])
        runs = best(record)
        windows = zip(*(run["prequential"] for run in runs), strict=True)
        means = [100 * statistics.mean(shares) for shares in windows]
        place.plot(
            [(index + 1) * record["window"] / 1000 for index in range(len(means))],
            means,
            markersize=4,
            markevery=(number % 4, 4),
            linewidth=1.2,
            label=record["contender"],
            **style(number),
        )
        place.axvline(record["change_at"] / 1000, color="black", linestyle="--", linewidth=1)
    legend(drawn, places[0])
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the contenders, print their rows and keep the records."""
    parser = options(__doc__, names=tuple(CONTENDERS), dataset="mnist", seeds=3)
    parser.add_argument("--world", choices=WORLDS, help="measure only this one")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    quick = ("memory, pixels, replace", "columnar small, delta readout", "linear, online")
    every = quick if chosen.quick else tuple(CONTENDERS)
    for world in [chosen.world] if chosen.world else WORLDS:
        for name in [chosen.only] if chosen.only else every:
            record = measure(dataset, world, name, chosen.split, seeds)
            publish(table, chosen.out, f"{dataset} {world} {name}", record)


if __name__ == "__main__":
    main()
