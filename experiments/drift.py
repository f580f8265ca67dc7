"""How fast it follows a world that changes.

    python -m experiments.drift [--dataset NAME] [--world WORLD] [--only CONTENDER] [--seeds N]
                                [--split test|validation] [--out FOLDER] [--quick]

A stream of training images, each once. Midway the world changes and nobody is told: either the
pixels of all images are permuted by one fixed permutation, or class c is called 9 - c from then on.
Every example is first asked and then told. The figure and the table show how many were answered
right, in windows of 1,000 (prequential accuracy), and what was right at the end on the test images
of the new world and of the old one. Where labels are swapped no answer is right in both.

Memory networks with room for 3,000 memories follow under every policy for a full bank and every
plasticity floor, with the automatic novelty threshold and with an infinite one ("errors only"). All
of these learn all stream orders in one compiled call. Table and figure show each at the settings
that answered most examples right in the 20 windows after the change, a choice made from the
training stream alone; the second table shows all settings. Their answer in the stream is the vote
of the nearest memory, a little rougher than recall. Columnar networks are consolidated after every
window. A linear model, a perceptron and a convolutional network learn the same stream once, online,
by gradient descent with a learning rate that stays; each 64 examples are asked before they are
told.

What helped, with 20,000 images and room for 1,000 memories, one order of the validation split (made
by hand while this was looked into; no command repeats it):

- **Permuted pixels** look new, so what is needed is room. With "replace", raw pixels answered 82 %
  of the first 1,000 examples of the new world, more than a linear model (68 %) or a perceptron
  (49 %), and kept 91 % on the old world. A full bank with "adapt" came to 80 % over the second
  half, and with "ignore" it learned nothing. A bank of errors only was not yet full at the change
  and recovered under every policy, at low floors. Floors did not help here.
- **Swapped labels** are the hard case. Votes are counted and never forgotten: a memory keeps its
  old answer until it is overwritten. With "adapt" 6 % of the second half were right, and with
  "ignore" less than 1 %; with errors only, "adapt" came to 29 % (pixels) and 57 % (edges).
  "Replace" came to 38 % and 58 %, and with a floor of 1, where the winner becomes the example, to
  75 % and 81 %. That floor costs half a point to a point in a world that stays, and much of an old
  one that is not contradicted: after the permutation 32 % of it (pixels) and 63 % (edges) were
  left, in place of 91 % and 96 %.
- **A ridge readout** adds up sums and never forgets, so new labels outvote old ones only once there
  are as many of them (19 % of the second half). A delta readout on the same columns follows (89 %).
  A homeostasis period keeps more of the old world, and slows the new one. Columns store in their
  critical period only, so none of them grows for the permuted pixels.

What counts against the memory network: with swapped labels a linear model answered 54 % of the
first 1,000 examples, the best memory network 43 %. More memories take longer to be overwritten:
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
from experiments import backprop
from experiments.figures import COLOURS, MARKERS, legend, panels
from experiments.records import RESULTS, TITLES, flat, keep, load, options, percent, read

WORLDS = ("permuted pixels", "swapped labels")
FLOORS = (0.0, 0.05, 0.2, 0.5, 1.0)
_THRESHOLDS = {"auto": math.nan, "errors only": math.inf}  # NaN is still to be estimated
_SPANS = (1, 5, 20)  # windows after the change that the table averages over
_LEARNING_RATE = {"linear": 0.03, "delta": 3e-3}  # the best of three each on validation streams


class Stream(NamedTuple):
    """A stream whose second half comes from another world, and what both are tested on."""

    images: np.ndarray  # uint8 [N, H, W, channels]
    labels: np.ndarray  # integers [N]
    num_classes: int
    window: int  # examples that are averaged; both halves are whole windows
    tests: dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels of the new and old world
    seed: int


class Follower(NamedTuple):
    """A learner after its stream."""

    seed: int
    settings: dict[str, Any]
    was_right: np.ndarray  # bool [N]: its answer to each example, asked before learning it
    answer: Callable[[np.ndarray], np.ndarray]


def changed(
    world: str, images: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, H, W, channels] and labels [N] as they are in a changed world.

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
    """Return a dataset in the order of a seed, its second half from a changed world."""
    train, test = load(dataset, split, seed)
    window = min(1000, len(train.labels) // (2 * _SPANS[-1]))
    half = len(train.labels) // (2 * window) * window
    early, late = slice(half), slice(half, 2 * half)
    images, labels = changed(world, train.images[late], train.labels[late], train.num_classes)
    return Stream(
        images=np.concatenate([train.images[early], images]),
        labels=np.concatenate([train.labels[early], labels]),
        num_classes=train.num_classes,
        window=window,
        tests={
            "new": changed(world, test.images, test.labels, train.num_classes),
            "old": (test.images, test.labels),
        },
        seed=seed,
    )


def _memories(streams: list[Stream], encoder: str, on_full: str) -> Iterator[Follower]:
    """Follow all streams under all settings at once."""
    image_shape = streams[0].images.shape[1:]
    network, params = memjax.memory_network(
        image_shape, streams[0].num_classes, encoder=encoder, on_full=on_full
    )
    empty = network.init(jax.random.key(0))

    def follow(images, labels, threshold, floor):
        mine = memjax.replace_params(params, novelty_threshold=threshold, plasticity_floor=floor)
        mine = memjax.calibrate(network, mine, images[:1000], labels[:1000])
        state, infos = memjax.fit(network, mine, empty, images, labels)
        return (mine, state), infos.predicted == labels

    settings = list(itertools.product(_THRESHOLDS, FLOORS))
    thresholds = jnp.array([_THRESHOLDS[name] for name, _ in settings])
    floors = jnp.array([floor for _, floor in settings])
    over_settings = jax.vmap(follow, in_axes=(None, None, 0, 0))
    over_streams = jax.vmap(over_settings, in_axes=(0, 0, None, None))
    learned, was_right = over_streams(
        np.stack([one.images for one in streams]),
        np.stack([one.labels for one in streams]),
        thresholds,
        floors,
    )
    was_right = np.asarray(was_right)
    for row, one in enumerate(streams):
        for column, (threshold, floor) in enumerate(settings):
            mine, state = jax.tree.map(operator.itemgetter((row, column)), learned)
            yield Follower(
                one.seed,
                {"novelty_threshold": threshold, "plasticity_floor": floor},
                was_right[row, column],
                partial(memjax.predict, network, mine, state),
            )


def _columnar(
    streams: list[Stream], period: float = math.inf, has_delta: bool = False
) -> Iterator[Follower]:
    """Follow each stream with columns, read out by ridge or by the delta rule."""
    for one in streams:
        network, params = memjax.columnar_network(
            one.images.shape[1:], one.num_classes, size="small"
        )
        params = memjax.replace_params(params, homeostasis_period=period)
        if has_delta:
            assert isinstance(network, memjax.Chain)
            eye = network.layers[0]
            readout = memjax.DeltaReadout(eye.output_shape[0], one.num_classes)
            network = memjax.Chain((eye, readout))
            params = (params[0], readout.params(_LEARNING_RATE["delta"]))
        yield _in_windows(one, network, params)


def _in_windows(one: Stream, network: memjax.Layer, params: Any) -> Follower:
    """Follow a stream in windows: ``fit`` ends in consolidation, and the next window is asked."""
    state = network.init(jax.random.key(one.seed))
    was_right = []
    for start in range(0, len(one.labels), one.window):
        rows = slice(start, start + one.window)
        state, infos = memjax.fit(network, params, state, one.images[rows], one.labels[rows])
        was_right.append(np.asarray(infos.predicted) == one.labels[rows])
    answer = partial(memjax.predict, network, params, state)
    return Follower(one.seed, {}, np.concatenate(was_right), answer)


def _linear(streams: list[Stream]) -> Iterator[Follower]:
    from sklearn.linear_model import SGDClassifier

    for one in streams:
        model = SGDClassifier(
            loss="log_loss",
            learning_rate="constant",
            eta0=_LEARNING_RATE["linear"],
            random_state=one.seed,
        )
        classes = np.arange(one.num_classes)
        was_right = []
        for start in range(0, len(one.labels), backprop.BATCH):
            rows = slice(start, start + backprop.BATCH)
            xs, labels = flat(one.images[rows]), one.labels[rows]
            # Before the first lesson it has no answer, which counts as wrong.
            was_right.append(model.predict(xs) == labels if start else np.zeros(len(labels), bool))
            model.partial_fit(xs, labels, classes=classes)

        def answer(images: np.ndarray, model: Any = model) -> np.ndarray:
            return model.predict(flat(images))

        yield Follower(one.seed, {}, np.concatenate(was_right), answer)


def _by_backpropagation(streams: list[Stream], kind: str) -> Iterator[Follower]:
    for one in streams:
        trained = backprop.train(
            kind, one.images, one.labels, one.num_classes, epochs=1, seed=one.seed, falls=False
        )
        yield Follower(one.seed, {}, trained.was_right, partial(backprop.predict, trained))


CONTENDERS: dict[str, Callable[[list[Stream]], Iterator[Follower]]] = {
    f"memory, {encoder}, {on_full}": partial(_memories, encoder=encoder, on_full=on_full)
    for encoder in ("pixels", "edges")
    for on_full in ("adapt", "replace", "ignore")
} | {
    "columnar small": _columnar,
    "columnar small, settled": partial(_columnar, period=1000),
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
"""Contenders of the figure, which would be a thicket with all of them."""


def measure(dataset: str, world: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one contender in one world over several stream orders."""
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
        "window": window,  # examples of one entry of "prequential"
        "change_at": len(streams[0].labels) // 2,
        "runs": runs,
    }


def _after(record: dict[str, Any], run: dict[str, Any], span: int = _SPANS[-1]) -> float:
    """Return prequential accuracy in so many windows after the change."""
    change = record["change_at"] // record["window"]
    return statistics.mean(run["prequential"][change : change + span])


def _by_settings(record: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the runs of each setting, one for each stream order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in record["runs"]:
        groups.setdefault(str(run["settings"]), []).append(run)
    return list(groups.values())


def best(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs at the settings that answered most right in the windows after the change."""
    return max(
        _by_settings(record), key=lambda runs: statistics.mean(_after(record, run) for run in runs)
    )


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "drift", _place)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as two Markdown tables: the contenders, and the settings of memories."""
    window = records[0]["window"] if records else 1000
    spans = " | ".join(f"first {span * window:,} after it" for span in _SPANS)
    lines = [
        f"| dataset | change | contender | threshold, floor | last {window:,} before the change, % "
        f"| {spans} | new world at the end | old world at the end | orders |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        runs = best(record)
        before = record["change_at"] // record["window"] - 1
        shares = [
            [run["prequential"][before] for run in runs],
            *([_after(record, run, span) for run in runs] for span in _SPANS),
            *([run["accuracy"][where] for run in runs] for where in ("new", "old")),
        ]
        settings = ", ".join(map(str, runs[0]["settings"].values()))
        lines.append(
            f"| {TITLES[record['dataset']]} | {record['world']} | {record['contender']} | "
            f"{settings} | {' | '.join(map(percent, shares))} | {len(runs)} |"
        )
    return "\n".join([*lines, *_settings_table(records, window)])


def _settings_table(records: list[dict[str, Any]], window: int) -> Iterator[str]:
    rows = []
    for record in records:
        groups = _by_settings(record)
        for threshold in _THRESHOLDS:
            cells = [
                percent([_after(record, run) for run in runs])
                for runs in groups
                if runs[0]["settings"].get("novelty_threshold") == threshold
            ]
            if cells:
                rows.append(
                    f"| {TITLES[record['dataset']]} | {record['world']} | {record['contender']} | "
                    f"{threshold} | {' | '.join(cells)} |"
                )
    if rows:
        yield from (
            "",
            f"All settings of the memory networks: right in the first {_SPANS[-1] * window:,} "
            "examples after the change, %, by plasticity floor.",
            "",
            f"| dataset | change | contender | threshold | {' | '.join(map(str, FLOORS))} |",
            "|---|---|---|---|" + "---|" * len(FLOORS),
            *rows,
        )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the prequential accuracy along the stream, one panel a world."""
    shown = [record for record in records if record["contender"] in _DRAWN]
    worlds = list(dict.fromkeys((record["dataset"], record["world"]) for record in shown))
    drawn, places = panels(
        [f"{TITLES[dataset]}, {world}" for dataset, world in worlds],
        "examples of the stream, thousands",
        "right before it was told, %\n(prequential, mean over orders)",
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
            color=COLOURS[number],
            marker=MARKERS[number],
            markersize=4,
            markevery=(number % 4, 4),
            linewidth=1.2,
            label=record["contender"],
        )
        place.axvline(record["change_at"] / 1000, color="black", linestyle="--", linewidth=1)
    legend(drawn, places[0])
    return drawn


def _place(record: dict[str, Any]) -> tuple[int, int, int]:
    return (
        list(TITLES).index(record["dataset"]),
        WORLDS.index(record["world"]),
        list(CONTENDERS).index(record["contender"]),
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure the contenders, print their rows and keep the records."""
    parser = options(__doc__, names=tuple(CONTENDERS), dataset="mnist", seeds=3)
    parser.add_argument("--world", choices=WORLDS, help="one of both")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    quick = ("memory, pixels, replace", "columnar small, delta readout", "linear, online")
    every = quick if chosen.quick else tuple(CONTENDERS)
    for world in [chosen.world] if chosen.world else WORLDS:
        for name in [chosen.only] if chosen.only else every:
            record = measure(dataset, world, name, chosen.split, seeds)
            print(table([record]).splitlines()[2], flush=True)
            keep(chosen.out, f"{dataset} {world} {name}", record)


if __name__ == "__main__":
    main()
