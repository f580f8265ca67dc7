"""What a network still recognises in changed images, and whether it notices strange ones.

    python -m experiments.robust [--dataset NAME] [--only CONTENDER] [--seeds N]
                                 [--split test|validation] [--out FOLDER] [--quick]

Every contender learns the clean training images. Then it is asked about changed images, which it
has never met: Gaussian noise, blur, a grey square at a random place, a shift or a rotation in a
random direction, and contrast that fades and turns into its inverse. The figure shows the accuracy
against the strength of a change, and the first table the mean accuracy over the strengths above 0.
The changed images are the same for all contenders and orders.

The second table is about novelty. Each contender scores how new an image is to it. The networks of
memjax do so by the share of their examples that were nearer to their memories
(`memjax.novelty_score`), nearest neighbours by the distance to the nearest training image, and the
convolutional network by 1 minus the greatest probability of a class. The area under the ROC curve
says how often a strange image scores higher than a clean test image; it is 50 % by chance. These
images are strange: the test images themselves with their pixels permuted, with inverted contrast,
or rotated by 90 degrees; uniform noise; and images of other datasets, cut or enlarged to the same
size. The digits of scikit-learn are digits too, from another source. A dataset that is not at hand
is left out.

This counts against the memory network: noise is all edges, and hides the edges of a digit from an
encoder of edges. And the memories deserve no credit for what an encoder ignores. Edges of unit
length are nearly the same at lower contrast. When a stroke is inverted its two sides change places,
which the default edges tell apart and wider ones do not. This counts against the comparison: the
convolutional network has learned every image ten times, and nearest neighbours keep all images,
while a memory network keeps 3,000.
"""

import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import memjax
from experiments import backprop
from experiments.figures import legend, panels, style
from experiments.records import (
    TITLES,
    Build,
    first_rows,
    flat,
    keep,
    learn,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    read,
)
from memjax import datasets

_EPOCHS = 10
_MOST_STRANGERS = 2000  # images of each strange kind

Ask = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From images to labels int [N] and novelty scores float [N]."""


def noise(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to uint8 images; 255 times the strength is its standard deviation."""
    drawn = generator.standard_normal(images.shape, np.float32)
    return _as_pixels(images + np.float32(255 * strength) * drawn)


def blur(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Blur images [N, H, W, channels] by a Gaussian; its width is the strength times the side."""
    from scipy import ndimage

    del generator
    sigma = strength * images.shape[1]
    return _as_pixels(
        ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
    )


def occlusion(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Put a grey square at a random place of each image; its side is the strength times theirs."""
    count, height, width, _ = images.shape
    side = round(strength * height)
    tops = generator.integers(0, height - side + 1, count)[:, None, None]
    lefts = generator.integers(0, width - side + 1, count)[:, None, None]
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    is_hidden = (rows >= tops) & (rows < tops + side) & (columns >= lefts)
    is_hidden &= columns < lefts + side
    return np.where(is_hidden[..., None], np.uint8(128), images)


def shift(images: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Shift each image up, down, left or right by the strength times its side.

    The area that opens at the edge is black.
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
    """Rotate each image to the left or to the right; the strength is in degrees.

    Values between pixels are interpolated. The corners that open are black.
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
    """Mix images with their negatives; the strength is the negative's share (1/2 is all grey)."""
    del generator
    return _as_pixels(images + np.float32(strength) * (255 - 2 * images.astype(np.float32)))


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


class Change(NamedTuple):
    """A change of images, and the strengths at which it is measured."""

    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, ...]  # 0 leaves the image clean
    unit: str


CHANGES = {
    "noise": Change(noise, (0, 0.2, 0.4, 0.6), "standard deviation / 255"),
    "blur": Change(blur, (0, 0.05, 0.1, 0.15), "width / side of the image"),
    "occlusion": Change(occlusion, (0, 0.2, 0.35, 0.5), "side / side of the image"),
    "shift": Change(shift, (0, 0.04, 0.07, 0.15), "distance / side of the image"),
    "rotation": Change(rotation, (0, 15, 30, 45), "angle, degrees"),
    "inversion": Change(inversion, (0, 0.25, 0.75, 1), "share of the negative"),
}
"""The changes by name."""


def change(images: np.ndarray, name: str, strength: float) -> np.ndarray:
    """Return changed images uint8 [N, H, W, channels], the same at every call."""
    return CHANGES[name].apply(images, strength, np.random.default_rng(0))


def resize(images: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Return images of another dataset in this shape.

    Larger images are cut to their centre, and smaller ones are enlarged. Colour becomes grey by
    luminance, and grey becomes the same in all channels.

    Args:
        images: uint8 [N, H, W, channels].
        image_shape: the new (H, W, channels).
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
    "fashion_mnist": ("cifar10", "digits", "mnist"),
    "cifar10": ("mnist", "fashion_mnist"),
}
"""For each dataset, the others whose images are strange to it."""


def strangers(dataset: str, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the kinds of images that are strange to a dataset with these test images, by name."""
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
            yield other, resize(found, images.shape[1:])


def _memories(train: datasets.Dataset, build: Build) -> Ask:
    network, params, state = learn(build, train)

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            memjax.predict(network, params, state, images),
            memjax.novelty_score(network, params, state, images),
        )

    return ask


def _neighbours(train: datasets.Dataset) -> Ask:
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat(train.images))

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances, rows = model.kneighbors(flat(images))
        return train.labels[rows[:, 0]], distances[:, 0]

    return ask


def _convolutional(train: datasets.Dataset) -> Ask:
    trained = backprop.train("cnn", train, _EPOCHS)

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        evidence = backprop.predict_proba(trained, images)
        return evidence.argmax(axis=1), 1 - evidence.max(axis=1)

    return ask


def _contender(build: Callable[..., Any], **fields: Any) -> Callable[[datasets.Dataset], Ask]:
    return partial(_memories, build=partial(build, **fields))


CONTENDERS: dict[str, Callable[[datasets.Dataset], Ask]] = {
    "memory, edges": _contender(memjax.memory_network, encoder="edges", capacity=3000),
    "memory, pixels": _contender(memjax.memory_network, encoder="pixels", capacity=3000),
    "columnar small": _contender(memjax.columnar_network, size="small"),
    "columnar medium": _contender(memjax.columnar_network, size="medium"),
    "1-NN, all images": _neighbours,
    "CNN, backpropagation": _convolutional,
}

_ONE_ORDER = ("1-NN, all images", "CNN, backpropagation")
"""Contenders that do not learn from a stream."""


def measure(dataset: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one contender in several stream orders."""
    seeds = 1 if name in _ONE_ORDER else seeds
    test = load(dataset, split, seed=0)[1]  # all orders get the same images with the same changes
    strange = dict(strangers(dataset, test.images[:_MOST_STRANGERS]))
    runs = []
    for seed in range(seeds):
        train, _ = load(dataset, split, seed)
        ask = CONTENDERS[name](train)
        labels, clean = ask(test.images)
        run: dict[str, Any] = {
            "seed": seed,
            "accuracy": {kind: [_share(labels == test.labels)] for kind in CHANGES},
            "novelty": {kind: [0.5] for kind in CHANGES},  # clean images against themselves
            "strangers": {
                kind: _roc_area(clean, ask(images)[1]) for kind, images in strange.items()
            },
        }
        for kind, (_, strengths, _) in CHANGES.items():
            for strength in strengths[1:]:
                labels, scores = ask(change(test.images, kind, strength))
                run["accuracy"][kind].append(_share(labels == test.labels))
                run["novelty"][kind].append(_roc_area(clean, scores))
        runs.append(run)
    return {
        "dataset": dataset,
        "contender": name,
        "split": split,
        "command": f"python -m experiments.robust --dataset {dataset} --only '{name}' "
        f"--seeds {seeds} --split {split}",
        "strengths": {kind: strengths for kind, (_, strengths, _) in CHANGES.items()},
        "runs": runs,
    }


def _share(are_right: np.ndarray) -> float:
    return round(float(np.mean(are_right)), 5)


def _roc_area(clean: np.ndarray, other: np.ndarray) -> float:
    """Return how often another image scores higher than a clean one."""
    from sklearn.metrics import roc_auc_score

    are_other = np.repeat([False, True], [len(clean), len(other)])
    return round(float(roc_auc_score(are_other, np.concatenate([clean, other]))), 5)


records = partial(read, "robust", place_by(dataset=TITLES, contender=CONTENDERS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as two Markdown tables: what is recognised, and what is noticed as new."""
    kinds = list(dict.fromkeys(kind for record in records for kind in _kinds(record)))
    recognised, noticed = [], []
    for record in records:
        runs = record["runs"]
        row = {"dataset": TITLES[record["dataset"]], "contender": record["contender"]}
        shares = {"clean, %": percent([run["accuracy"]["noise"][0] for run in runs])}
        for kind in CHANGES:
            means = [statistics.mean(run["accuracy"][kind][1:]) for run in runs]
            shares[f"{kind}, %"] = percent(means)
        recognised.append(row | shares | {"orders": len(runs)})
        areas = dict.fromkeys(kinds, "")
        for kind in _kinds(record):
            areas[kind] = percent([run["strangers"][kind] for run in runs])
        by_strength = np.mean([list(run["novelty"].values()) for run in runs], axis=(0, 1))
        changed = " → ".join(f"{100 * area:.1f}" for area in by_strength[1:])
        noticed.append(row | areas | {"changed": changed})
    parts = (
        markdown_table(recognised),
        "Area under the ROC curve of novelty, %, for strange images and for changed test images, "
        "from the weakest strength to the strongest (mean over the changes).",
        markdown_table(noticed),
    )
    return "\n\n".join(parts)


def _kinds(record: dict[str, Any]) -> list[str]:
    return list(record["runs"][0]["strangers"])


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of accuracy against strength, one panel per change."""
    names = list(dict.fromkeys(record["dataset"] for record in records))
    shown = [(dataset, kind) for dataset in names for kind in CHANGES]
    drawn, places = panels(
        [f"{TITLES[dataset]}: {kind}" for dataset, kind in shown],
        "strength of the change",
        "accuracy, % (mean over orders)",
        width=10.5,
        height=5.5 * len(names),
        is_y_shared=True,
        num_columns=3,
    )
    for (dataset, kind), place in zip(shown, places, strict=True):
        for record in records:
            if record["dataset"] != dataset:
                continue
            number = list(CONTENDERS).index(record["contender"])
            curves = [run["accuracy"][kind] for run in record["runs"]]
            place.plot(
                record["strengths"][kind],
                100 * np.mean(curves, axis=0),
                linewidth=1.2,
                label=record["contender"],
                **style(number),
            )
        place.set_xlabel(CHANGES[kind].unit, fontsize="small")
    legend(drawn, places[0])
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the contenders, print what is found and keep the records."""
    parser = options(__doc__, names=tuple(CONTENDERS), dataset="mnist", seeds=3)
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    quick = ("memory, edges", "columnar small", *_ONE_ORDER)
    every = quick if chosen.quick else tuple(CONTENDERS)
    for name in [chosen.only] if chosen.only else every:
        record = measure(dataset, name, chosen.split, seeds)
        tables = table([record])
        print(first_rows(tables), tables.splitlines()[-1], sep="\n", flush=True)
        keep(chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
