"""What it still recognises in changed images, and whether it knows what it does not know.

    python -m experiments.robust [--dataset NAME] [--only CONTENDER] [--seeds N]
                                 [--split test|validation] [--out FOLDER] [--quick]

Every contender learns the clean training images and is then asked about changed ones, which none of
them has met: Gaussian noise, blur, a grey square at a random place, a shift and a rotation in a
random direction, and contrast that fades and turns into its inverse. The figure shows accuracy
against the strength of a change, the first table its mean over the strengths above 0. The changed
images are the same for all contenders and orders.

The second table is about novelty. Each contender scores how new an image is to it: a memory network
by the distance to its nearest memory (`memjax.novelty_score`), nearest neighbours by that to the
nearest training image, and the networks that know no distance by 1 - the greatest evidence or
probability of a class. The area under the ROC curve says how often a strange image scores higher
than a clean test image, 50 % by chance. Strange are the test images themselves when their pixels
are permuted, their contrast is inverted or they are rotated by 90 degrees, uniform noise, and
images of other datasets, cut or enlarged to the same size. The digits of scikit-learn are digits
too, from another source. A dataset that is not at hand is left out.

What counts against the memory network: noise is all edges, and hides those of a digit from an
encoder of edges. And what an encoder was made to ignore costs nothing, which is no merit of the
memories: edges of unit length say nearly the same at lower contrast, and when a stroke is inverted
its two sides only change places. What counts against the comparison: the convolutional network has
learned every image ten times, and nearest neighbours keep all of them, where a memory network keeps
3,000.
"""

import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import memjax
from experiments import backprop
from experiments.figures import COLOURS, MARKERS, legend, panels
from experiments.records import RESULTS, TITLES, flat, keep, learned, load, options, percent, read
from memjax import datasets

_EPOCHS = 10
_MOST_STRANGERS = 2000  # images of a kind that novelty is asked of

Ask = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From images to labels int [N] and novelty scores float [N]."""


def noise(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to uint8 images; strength is its standard deviation, as a part of 255."""
    drawn = generator.standard_normal(images.shape, np.float32)
    return _as_pixels(images + np.float32(255 * strength) * drawn)


def blur(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Blur images [N, H, W, channels]; strength is the Gaussian's width, as a part of the side."""
    from scipy import ndimage

    del generator
    sigma = strength * images.shape[1]
    return _as_pixels(
        ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
    )


def occlusion(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Put a grey square at a random place of each image; strength is its side by the image's."""
    count, height, width, _ = images.shape
    side = round(strength * height)
    tops = generator.integers(0, height - side + 1, count)[:, None, None]
    lefts = generator.integers(0, width - side + 1, count)[:, None, None]
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    is_hidden = (rows >= tops) & (rows < tops + side) & (columns >= lefts)
    is_hidden &= columns < lefts + side
    return np.where(is_hidden[..., None], np.uint8(128), images)


def shift(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Shift each image up, down, left or right; strength in sides of the image.

    What comes in at the edge is black.
    """
    pixels = round(strength * images.shape[1])
    turns = generator.integers(0, 4, len(images))
    shifted = np.empty_like(images)
    for turn in range(4):
        turned = np.rot90(images[turns == turn], turn, axes=(1, 2))
        moved = np.zeros_like(turned)
        moved[:, pixels:] = turned[:, : turned.shape[1] - pixels]
        shifted[turns == turn] = np.rot90(moved, -turn, axes=(1, 2))
    return shifted


def rotation(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Rotate each image to the left or to the right; strength in degrees.

    Values between pixels are interpolated; what comes in at the corners is black.
    """
    from scipy import ndimage

    is_left = generator.integers(0, 2, len(images)) == 1
    rotated = np.empty_like(images)
    for chosen, angle in ((is_left, strength), (~is_left, -strength)):
        turned = ndimage.rotate(
            images[chosen].astype(np.float32), angle, axes=(1, 2), reshape=False, order=1
        )
        rotated[chosen] = _as_pixels(turned)
    return rotated


def inversion(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Mix images with their negatives; strength is the part of the negative, 1/2 is all grey."""
    del generator
    return _as_pixels(images + np.float32(strength) * (255 - 2 * images.astype(np.float32)))


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


class Change(NamedTuple):
    """A change of images, and the strengths at which it is measured."""

    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, ...]  # 0 is the clean image
    unit: str


CHANGES = {
    "noise": Change(noise, (0, 0.2, 0.4, 0.6), "standard deviation, parts of 255"),
    "blur": Change(blur, (0, 0.05, 0.1, 0.15), "width, parts of the side"),
    "occlusion": Change(occlusion, (0, 0.2, 0.35, 0.5), "its side, parts of the image's"),
    "shift": Change(shift, (0, 0.04, 0.07, 0.15), "way, parts of the side"),
    "rotation": Change(rotation, (0, 15, 30, 45), "angle, degrees"),
    "inversion": Change(inversion, (0, 0.25, 0.75, 1), "part of the negative"),
}
"""The changes by name."""


def changed(images: np.ndarray, name: str, strength: float) -> np.ndarray:
    """Return images uint8 [N, H, W, channels] under a change, the same at every call."""
    return CHANGES[name].apply(images, strength, np.random.default_rng(0))


def fitted(images: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Return images of another dataset as images of this shape.

    Args:
        images: uint8 [N, H, W, channels].
        image_shape: what they become: the centre is cut from larger ones, smaller ones are
            enlarged; colour becomes grey by luminance, and grey is the same in all channels.
    """
    from scipy import ndimage

    side, channels = image_shape[0], image_shape[2]
    margin = (images.shape[1] - side) // 2
    found = images.astype(np.float32)
    if margin > 0:
        found = found[:, margin : margin + side, margin : margin + side]
    if margin < 0:
        zoom = (1, side / images.shape[1], side / images.shape[1], 1)
        found = np.asarray(ndimage.zoom(found, zoom, order=1, mode="nearest", grid_mode=True))
    if channels < images.shape[3]:
        found = found @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return np.broadcast_to(_as_pixels(found), (len(images), side, side, channels))


_OTHERS = {
    "digits": (),
    "mnist": ("cifar10", "digits", "fashion_mnist"),
    "cifar10": ("mnist", "fashion_mnist"),
}
"""The other datasets whose images are strange to each dataset."""


def strangers(dataset: str, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield kinds of images that are strange to a dataset, by name, made from its test images."""
    generator = np.random.default_rng(0)
    order = generator.permutation(images.shape[1] * images.shape[2])
    places = images.reshape(len(images), -1, images.shape[3])
    yield "permuted pixels", places[:, order].reshape(images.shape)
    yield "inverted", inversion(images, 1, generator)
    yield "rotated by 90°", np.rot90(images, axes=(1, 2))
    yield "uniform noise", generator.integers(0, 256, images.shape, np.uint8)
    for other in _OTHERS[dataset]:
        try:
            found = datasets.load(other, "train").images[: len(images)]
        except datasets.DatasetError as error:
            print(f"{other} is left out: {error}", file=sys.stderr)
        else:
            yield other, fitted(found, images.shape[1:])


def _memories(train: datasets.Dataset, seed: int, encoder: str) -> Ask:
    build = partial(memjax.memory_network, encoder=encoder, capacity=3000)
    network, params, state = learned(build, train.images, train.labels, train.num_classes, seed)

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            memjax.predict(network, params, state, images),
            memjax.novelty_score(network, params, state, images),
        )

    return ask


def _columnar(train: datasets.Dataset, seed: int, size: str) -> Ask:
    build = partial(memjax.columnar_network, size=size)
    network, params, state = learned(build, train.images, train.labels, train.num_classes, seed)

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _strongest(memjax.predict_proba(network, params, state, images))

    return ask


def _strongest(evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class with most evidence, and as novelty how far that is from 1."""
    return evidence.argmax(axis=1), 1 - evidence.max(axis=1)


def _neighbours(train: datasets.Dataset, seed: int) -> Ask:
    from sklearn.neighbors import NearestNeighbors

    del seed
    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat(train.images))

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances, rows = model.kneighbors(flat(images))
        return train.labels[rows[:, 0]], distances[:, 0]

    return ask


def _convolutional(train: datasets.Dataset, seed: int) -> Ask:
    trained = backprop.train(
        "cnn", train.images, train.labels, train.num_classes, epochs=_EPOCHS, seed=seed
    )

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _strongest(backprop.predict_proba(trained, images))

    return ask


CONTENDERS: dict[str, Callable[[datasets.Dataset, int], Ask]] = {
    "memory, edges": partial(_memories, encoder="edges"),
    "memory, pixels": partial(_memories, encoder="pixels"),
    "columnar small": partial(_columnar, size="small"),
    "columnar medium": partial(_columnar, size="medium"),
    "1-NN, all images": _neighbours,
    "CNN, backpropagation": _convolutional,
}

_ONE_ORDER = ("1-NN, all images", "CNN, backpropagation")
"""Contenders that do not learn from a stream."""


def measure(dataset: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one contender over several stream orders."""
    seeds = 1 if name in _ONE_ORDER else seeds
    test = load(dataset, split, seed=0)[1]  # the same images, changed alike, for all orders
    strange = dict(strangers(dataset, test.images[:_MOST_STRANGERS]))
    runs = []
    for seed in range(seeds):
        train, _ = load(dataset, split, seed)
        ask = CONTENDERS[name](train, seed)
        labels, clean = ask(test.images)
        run: dict[str, Any] = {
            "seed": seed,
            "accuracy": {change: [_share(labels == test.labels)] for change in CHANGES},
            "novelty": {change: [0.5] for change in CHANGES},  # clean images against themselves
            "strangers": {
                kind: _roc_area(clean, ask(images)[1]) for kind, images in strange.items()
            },
        }
        for change, (_, strengths, _) in CHANGES.items():
            for strength in strengths[1:]:
                labels, scores = ask(changed(test.images, change, strength))
                run["accuracy"][change].append(_share(labels == test.labels))
                run["novelty"][change].append(_roc_area(clean, scores))
        runs.append(run)
    return {
        "dataset": dataset,
        "contender": name,
        "split": split,
        "command": f"python -m experiments.robust --dataset {dataset} --only '{name}' "
        f"--seeds {seeds} --split {split}",
        "strengths": {change: strengths for change, (_, strengths, _) in CHANGES.items()},
        "runs": runs,
    }


def _share(are_right: np.ndarray) -> float:
    return round(float(np.mean(are_right)), 5)


def _roc_area(clean: np.ndarray, other: np.ndarray) -> float:
    """Return how often another image scores higher than a clean one."""
    from sklearn.metrics import roc_auc_score

    are_other = np.repeat([False, True], [len(clean), len(other)])
    return round(float(roc_auc_score(are_other, np.concatenate([clean, other]))), 5)


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "robust", _place)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as two Markdown tables: what is recognised, and what is known as new."""
    heads = " | ".join(f"{name}, %" for name in ("clean", *CHANGES))
    lines = [
        f"| dataset | contender | {heads} | orders |",
        "|---|---|---|" + "---|" * len(CHANGES) + "---|",
    ]
    for record in records:
        runs = record["runs"]
        accuracies = [
            [run["accuracy"]["noise"][0] for run in runs],
            *([statistics.mean(run["accuracy"][name][1:]) for run in runs] for name in CHANGES),
        ]
        lines.append(
            f"| {TITLES[record['dataset']]} | {record['contender']} | "
            f"{' | '.join(map(percent, accuracies))} | {len(runs)} |"
        )
    kinds = list(dict.fromkeys(kind for record in records for kind in _kinds(record)))
    lines += [
        "",
        "Area under the ROC curve of novelty, %: strange images, and test images that are changed, "
        "from the weakest strength to the strongest (mean over the changes).",
        "",
        f"| dataset | contender | {' | '.join(kinds)} | changed |",
        "|---|---|" + "---|" * len(kinds) + "---|",
    ]
    for record in records:
        runs = record["runs"]
        cells = [
            percent([run["strangers"][kind] for run in runs]) if kind in _kinds(record) else ""
            for kind in kinds
        ]
        by_strength = np.mean([list(run["novelty"].values()) for run in runs], axis=(0, 1))
        cells.append(" → ".join(f"{100 * area:.1f}" for area in by_strength[1:]))
        lines.append(
            f"| {TITLES[record['dataset']]} | {record['contender']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _kinds(record: dict[str, Any]) -> list[str]:
    return list(record["runs"][0]["strangers"])


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of accuracy against strength, one panel a change."""
    names = list(dict.fromkeys(record["dataset"] for record in records))
    shown = [(dataset, change) for dataset in names for change in CHANGES]
    drawn, places = panels(
        [f"{TITLES[dataset]}: {change}" for dataset, change in shown],
        "strength of the change",
        "accuracy, % (mean over orders)",
        width=10.5,
        height=5.5 * len(names),
        is_y_shared=True,
        num_columns=3,
    )
    for (dataset, change), place in zip(shown, places, strict=True):
        for record in records:
            if record["dataset"] != dataset:
                continue
            number = list(CONTENDERS).index(record["contender"])
            curves = [run["accuracy"][change] for run in record["runs"]]
            place.plot(
                record["strengths"][change],
                100 * np.mean(curves, axis=0),
                color=COLOURS[number],
                marker=MARKERS[number],
                linewidth=1.2,
                label=record["contender"],
            )
        place.set_xlabel(CHANGES[change].unit, fontsize="small")
    legend(drawn, places[0])
    return drawn


def _place(record: dict[str, Any]) -> tuple[int, int]:
    return list(TITLES).index(record["dataset"]), list(CONTENDERS).index(record["contender"])


def main(arguments: list[str] | None = None) -> None:
    """Measure the contenders, print what is found and keep the records."""
    parser = options(__doc__, names=tuple(CONTENDERS), dataset="mnist", seeds=3)
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    quick = ("memory, edges", "columnar small", *_ONE_ORDER)
    every = quick if chosen.quick else tuple(CONTENDERS)
    for name in [chosen.only] if chosen.only else every:
        record = measure(dataset, name, chosen.split, seeds)
        rows = table([record]).splitlines()
        print(rows[2], rows[-1], sep="\n", flush=True)
        keep(chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
