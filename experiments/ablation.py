"""What each part of the columnar network brings, and what each of its rules costs.

    python -m experiments.ablation [--dataset mnist|cifar10] [--only NAME] [--out FOLDER]
                                   [--quick]

Every row learns the first 8,000 training images in one stream order (seed 0), once, and is tested
on the validation split. Three readouts learn from the same codes in the same pass. The sizes are
small, so that a row takes a minute. Compare the rows with each other, not with the networks that
they lead to.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import memjax
from experiments.costs import count
from experiments.figures import dataset_panels, legend, name_rows, style
from experiments.records import TITLES, markdown_table, options, place_by, publish, read
from memjax import (
    Chain,
    Columns,
    Concatenate,
    DeltaReadout,
    FeatureMap,
    Grey,
    Layer,
    Mirrored,
    OrientedEdges,
    Pixels,
    Reshape,
    RidgeReadout,
    VoteReadout,
    datasets,
)
from memjax.datasets._source import batches
from memjax.networks import _with_exemplars
from memjax.vision._eye import Looks

_DATASETS = ("mnist", "cifar10")
_READOUTS = ("ridge", "delta", "vote")
_NUM_CLASSES = 10
_WARM_UP = 1000
_BLOCK = 250

Eye = tuple[Layer, Any]  # layers below the readouts, and their params


@dataclasses.dataclass(frozen=True)
class SharedColumns(Columns):
    """Columns that break the rule: the places take turns, and all learn what one of them sees.

    So all places hold the same memories and thresholds, as the kernels of a convolution do.
    """

    def _store(self, params, state, looks, turn, is_real):
        """Show all places what the place whose turn it is sees."""
        place = state.num_seen % self.places**2
        patches = jnp.stack(looks.patches)[place]
        scales = jnp.broadcast_to(looks.scales[place], looks.scales.shape)
        seen = Looks((patches,) * len(looks.patches), scales)
        return super()._store(params, state, seen, turn, is_real)


def _encoder(kind: Callable[..., Layer]) -> Callable[[tuple[int, int, int]], Eye]:
    return lambda image_shape: (kind(image_shape), ())


def _columns(
    image_shape: tuple[int, int, int],
    kind: type[Columns] = Columns,
    period: float = 1000,
    is_photograph: bool = False,
    **changes,
) -> Eye:
    """Return one set of columns and their params; ``changes`` are fields that differ."""
    is_photograph = is_photograph or image_shape[2] == 3
    fields: dict[str, Any] = {"patch": 9, "places": 5, "capacity": 100, "fixations": 4, "reach": 8}
    if is_photograph:
        fields |= {"patch": 5, "places": 3, "fixations": 12, "reach": 12, "sigma": 4.25}
        fields |= {"padding": "reflect", "contrast_constant": 0.0115, "margin": 5}
        fields |= {"square_root": True, "dimensions": 64}
    columns = kind(image_shape, **(fields | changes))
    is_plain = columns.dimensions is None
    params = columns.params(
        novelty_threshold=0.25 if is_plain and not is_photograph else 0,
        blank_contrast=0 if is_photograph else 0.5,
        critical_period=700 if is_photograph else 2000,
        homeostasis_period=period,
    )
    return columns, params


def _second_columns(image_shape: tuple[int, int, int], **changes: Any) -> Eye:
    """Return two sets side by side; the second sees edges, or in colour the image in grey."""
    first, params = _columns(image_shape, **changes)
    if image_shape[2] == 3:
        eye: Layer = Grey(image_shape)
        fields = {"patch": 7, "contrast_constant": 0.0075, "dimensions": 48}
        grey = (*image_shape[:2], 1)
        second, numbers = _columns(grey, is_photograph=True, **(fields | changes))
    else:
        eye = FeatureMap(
            OrientedEdges(image_shape, grid=16, sharpness=4, pooling=0.6, normalisation=0)
        )
        rows, columns, features = eye.output_shape
        second = Columns(
            (rows, columns, features),
            5,
            places=5,
            capacity=100,
            fixations=4,
            reach=4,
            sigma=1.0,
            **changes,
        )
        numbers = second.params(novelty_threshold=0.25, homeostasis_period=1000)
    return Concatenate((first, Chain((eye, second)))), (params, ((), numbers))


def _exemplars(image_shape: tuple[int, int, int]) -> Eye:
    columns, params = _second_columns(image_shape, response="two-sided")
    return _with_exemplars(columns, params, 1000, start=600, period=1000)


def _second_layer(image_shape: tuple[int, int, int]) -> Eye:
    """Return two layers of columns, one on the other, with the codes of both side by side."""
    first, params = _columns(image_shape)
    assert isinstance(first, Columns)
    (number,), places = first.output_shape, first.places
    above = Columns((places, places, number // places**2), 2, places - 1, capacity=200)
    upper = Chain((Reshape((number,), above.image_shape), above))
    numbers = above.params(
        novelty_threshold=0, blank_contrast=0, critical_period=2000, homeostasis_period=1000
    )
    return Chain((first, Concatenate((Reshape((number,)), upper)))), (params, ((), ((), numbers)))


ROWS: dict[str, Callable[[tuple[int, int, int]], Eye]] = {
    "pixels": _encoder(Pixels),
    "edges": _encoder(OrientedEdges),
    "columns": lambda shape: _columns(shape, fixations=1, reach=1, dimensions=None),
    "columns + decorrelation": lambda shape: _columns(shape, fixations=1, reach=1, dimensions=64),
    "columns + fixations": lambda shape: _columns(shape, dimensions=None),
    "columns + decorrelation + fixations": lambda shape: _columns(shape, dimensions=64),
    "two sets of columns": _second_columns,
    "two sets, two-sided": lambda shape: _second_columns(shape, response="two-sided"),
    "two sets, two-sided + exemplars": _exemplars,
    "two sets, two-sided + exemplars + mirror": _exemplars,
    "one set, two-sided": lambda shape: _columns(shape, response="two-sided"),
    "one set, neurons that never settle": lambda shape: _columns(shape, period=math.inf),
    "one set, memories shared by all places": lambda shape: _columns(shape, SharedColumns),
    "one set, places drawn at random": lambda shape: _columns(shape, seed=0),
    "one set, triangle code": lambda shape: _columns(shape, response="triangle"),
    "one set, a second layer on it": _second_layer,
    "one set, early codes not read out": _columns,
    "one set, columns grown before the pass": _columns,
}
"""The rows by name. "one set" is columns with fixations, and in colour with decorrelation."""


def measure(dataset: str, name: str, num_train: int, num_test: int) -> dict[str, Any]:
    """Return the record of one row."""
    train = datasets.load(dataset, "train_without_validation", seed=0)
    test = datasets.load(dataset, "validation", seed=0)
    images, labels = train.images[:num_train], np.array(train.labels[:num_train])
    height, width, channels = images.shape[1:]
    eye, eye_params = ROWS[name]((height, width, channels))
    number = eye.output_shape[0]
    readouts = (
        RidgeReadout(number, _NUM_CLASSES),
        DeltaReadout(number, _NUM_CLASSES),
        VoteReadout(number, _NUM_CLASSES),
    )
    read_out = Concatenate(readouts)
    network: Layer = Chain((eye, read_out))
    params = (eye_params, (readouts[0].params(ridge=3e-3), *read_out.default_params()[1:]))
    if name.endswith("mirror"):
        network = Mirrored(network)
    if name.endswith("not read out"):
        labels[:_WARM_UP] = memjax.base.UNLABELLED
    state = network.init(jax.random.key(0))
    if name.endswith("before the pass"):
        grown, seconds = _learn(network, params, state, images[:_WARM_UP], labels[:_WARM_UP])
        state = (grown[0], state[1])
    state, seconds = _learn(network, params, state, images, labels)
    evidence = memjax.predict_proba(
        network, params, state, test.images[:num_test], batch_size=_BLOCK
    ).reshape(-1, len(_READOUTS), _NUM_CLASSES)
    right = np.argmax(evidence, axis=2) == test.labels[:num_test, None]
    body = state[0]
    return {
        "dataset": dataset,
        "row": name,
        "accuracy": dict(zip(_READOUTS, right.mean(axis=0).tolist(), strict=True)),
        "num_train": num_train,
        "num_test": num_test,
        "neurons": number,
        "num_memories": memjax.num_memories(network, state),
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(body)),
        "operations": count(eye.recall, eye_params, body, jnp.asarray(images[0])).operations,
        "milliseconds": 1000 * seconds,
        "seed": 0,
        "command": f"python -m experiments.ablation --dataset {dataset} --only '{name}'",
    }


def _learn(network: Layer, params: Any, state: Any, images, labels) -> tuple[Any, float]:
    """Return the state, and the seconds per example in the second half of the stream."""
    stream = batches(images, labels, _BLOCK)
    times = {}

    def note(state, _, tally):
        jax.block_until_ready(state)
        times[tally.num_seen] = time.perf_counter()

    learned, _ = memjax.fit_stream(network, params, state, stream, _BLOCK, callbacks=[note])
    middle = next(seen for seen in times if seen >= len(labels) // 2)
    return learned, (times[len(labels)] - times[middle]) / max(len(labels) - middle, 1)


records = partial(read, "ablation", place_by(dataset=TITLES, row=ROWS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "dataset": TITLES[record["dataset"]],
            "network": record["row"],
            **{f"{name}, %": f"{100 * record['accuracy'][name]:.2f}" for name in _READOUTS},
            "neurons": f"{record['neurons']:,}",
            "MB": f"{record['bytes'] / 1e6:.1f}",
            "MFLOP per code": f"{record['operations'] / 1e6:.1f}",
            "ms per lesson": f"{record['milliseconds']:.1f}",
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy of every row with each readout, one panel per dataset."""
    rows = [row for row in ROWS if any(record["row"] == row for record in records)]
    height = 1.2 + 0.26 * len(rows)
    drawn, places, groups = dataset_panels(
        records, "accuracy, %", "", width=9.5, height=height, is_y_shared=True
    )
    for place, mine in zip(places, groups, strict=True):
        for number, readout in enumerate(_READOUTS):
            place.plot(
                [100 * record["accuracy"][readout] for record in mine],
                [rows.index(record["row"]) for record in mine],
                linestyle="none",
                label=readout,
                **style(number),
            )
    name_rows(places[0], rows)
    legend(drawn, *places)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the rows, print the table and keep the records."""
    parser = options(__doc__, names=tuple(ROWS))
    parser.add_argument("--dataset", choices=_DATASETS, help="measure only this one")
    chosen = parser.parse_args(arguments)
    num_train, num_test = (500, 500) if chosen.quick else (8000, 10000)
    for dataset in [chosen.dataset] if chosen.dataset else _DATASETS:
        for name in [chosen.only] if chosen.only else ROWS:
            if dataset == "mnist" and name.endswith("mirror"):
                continue  # a mirrored digit is no digit
            record = measure(dataset, name, num_train, num_test)
            publish(table, chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
