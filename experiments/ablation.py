"""What each part of the columnar network brings, and what each of its rules costs.

    python -m experiments.ablation [--dataset mnist|cifar10] [--only NAME] [--out FOLDER]
                                   [--quick]

Every row learns the first 8,000 images of one stream order (seed 0) of the training data without
the validation split, once, and is tested on the validation split. Three readouts learn from the
same codes in the same pass. Sizes are small, so that a row takes a minute: rows are to be compared
with each other, not with the networks that they lead to.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import memjax
from experiments.figures import COLOURS, MARKERS, legend, name_rows, panels
from experiments.records import RESULTS, TITLES, keep, measured_datasets, options, read
from memjax import datasets
from memjax.base import Layer
from memjax.composition import Chain, Concatenate, Reshape
from memjax.evaluation import num_memories
from memjax.exemplars import Exemplars
from memjax.projections import Decorrelation, RandomProjection
from memjax.readouts import DeltaReadout, RidgeReadout, VoteReadout
from memjax.vision import Mirrored
from memjax.vision.columns import Columns, Fixations
from memjax.vision.encoders import FeatureMap, OrientedEdges, Pixels

_DATASETS = ("mnist", "cifar10")
_READOUTS = ("ridge", "delta", "vote")
_NUM_CLASSES = 10
_WARM_UP = 1000
_BLOCK = 250

Eye = tuple[Layer, Any]  # layers below the readouts, and their params


@dataclasses.dataclass(frozen=True)
class SharedColumns(Columns):
    """Columns against the rule: every place learns from what one of them sees, by turns.

    So all places hold the same memories and thresholds, as the kernels of a convolution.
    """

    def learn(self, params, state, looks, turn, is_real=True):
        """Show all places what the place whose turn it is sees."""
        place = state.num_seen % self.places**2
        seen = jax.tree.map(lambda rows: jnp.broadcast_to(rows[place], rows.shape), looks)
        return super().learn(params, state, seen, turn, is_real)


def _encoder(kind: Callable[..., Layer]) -> Callable[[tuple[int, int, int]], Eye]:
    return lambda image_shape: (kind(image_shape), ())


def _columns(image_shape: tuple[int, int, int], kind: type[Columns] = Columns, **changes) -> Eye:
    """Return one set of columns and their params, with or without what ``changes`` says."""
    is_coloured = image_shape[2] == 3
    fields: dict[str, Any] = (
        {"patch": 5, "places": 3, "contrast_constant": 0.0115, "margin": 5, "square_root": True}
        if is_coloured
        else {"patch": 9, "places": 5}
    )
    has_fixations = changes.pop("fixations", True)
    if changes.pop("decorrelation", is_coloured):
        fields["dimensions"] = 64
    fields |= {"capacity": 100} | changes
    columns = kind(image_shape, **fields)
    is_plain = fields.get("dimensions") is None
    params = columns.params(
        novelty_threshold=0.25 if is_plain and not is_coloured else 0,
        blank_contrast=0 if is_coloured else 0.5,
        critical_period=2000 if not is_coloured else 700,
    )
    if not has_fixations:
        return columns, params
    if is_coloured:
        return Fixations(columns, 12, 12, sigma=4.25, padding="reflect"), params
    return Fixations(columns, 4, 8, sigma=2.0), params


def _second_columns(image_shape: tuple[int, int, int]) -> Eye:
    """Two sets side by side: with edges for grey images, with larger patches for colour."""
    first, params = _columns(image_shape)
    if image_shape[2] == 3:
        second, second_params = _columns(image_shape, patch=8, margin=4, contrast_constant=0.0295)
    else:
        edges = FeatureMap(OrientedEdges(image_shape, grid=16, sharpness=4))
        rows, columns, features = edges.output_shape
        textures = Columns((rows, columns, features), patch=5, places=5, capacity=100)
        second = Chain((edges, Fixations(textures, 4, 4, sigma=1.0)))
        second_params = ((), textures.params(novelty_threshold=0.25))
    return Concatenate((first, second)), (params, second_params)


def _with_exemplars(image_shape: tuple[int, int, int]) -> Eye:
    columns, params = _second_columns(image_shape)
    (number,) = columns.output_shape
    components, exemplars = Decorrelation(1024, 200), Exemplars(200, 1000)
    numbers = components.params(1000, 2000, decorrelation_floor=0, exponent=0.25)
    whole = Chain((RandomProjection(number, 1024), components, exemplars))
    eye = Chain((columns, Concatenate((Reshape((number,)), whole))))
    return eye, (params, ((), ((), numbers, exemplars.params())))


def _second_layer(image_shape: tuple[int, int, int]) -> Eye:
    """Lay a second layer of columns on the first, its code beside that of the first."""
    first, params = _columns(image_shape)
    (number,) = first.output_shape
    assert isinstance(first, Fixations)
    places = first.columns.places
    above = Columns((places, places, number // places**2), 2, places - 1, capacity=200)
    upper = Chain((Reshape((number,), above.image_shape), above))
    numbers = above.params(novelty_threshold=0, blank_contrast=0, critical_period=2000)
    return Chain((first, Concatenate((Reshape((number,)), upper)))), (params, ((), ((), numbers)))


ROWS: dict[str, Callable[[tuple[int, int, int]], Eye]] = {
    "pixels": _encoder(Pixels),
    "edges": _encoder(OrientedEdges),
    "columns": lambda shape: _columns(shape, fixations=False, decorrelation=False),
    "columns + decorrelation": lambda shape: _columns(shape, fixations=False, decorrelation=True),
    "columns + fixations": lambda shape: _columns(shape, decorrelation=False),
    "columns + decorrelation + fixations": lambda shape: _columns(shape, decorrelation=True),
    "two sets of columns": _second_columns,
    "two sets + exemplars": _with_exemplars,
    "two sets + exemplars + mirror": _with_exemplars,
    "one set, memories shared by all places": lambda shape: _columns(shape, SharedColumns),
    "one set, places drawn at random": lambda shape: _columns(shape, seed=0),
    "one set, triangle code": lambda shape: _columns(shape, response="triangle"),
    "one set, a second layer on it": _second_layer,
    "one set, early codes not read out": _columns,
    "one set, columns grown before the pass": _columns,
}
"""The rows by name; "one set" is columns with fixations, in colour with decorrelation."""


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
        "num_memories": num_memories(body),
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(body)),
        "operations": _operations(eye, eye_params, body, images[0]),
        "milliseconds": 1000 * seconds,
        "seed": 0,
        "command": f"python -m experiments.ablation --dataset {dataset} --only '{name}'",
    }


def _learn(network: Layer, params: Any, state: Any, images, labels) -> tuple[Any, float]:
    """Return the state, and the seconds an example that the second half of the stream took."""
    batches = (
        (images[start : start + _BLOCK], labels[start : start + _BLOCK])
        for start in range(0, len(labels), _BLOCK)
    )
    times = {}

    def note(state, _, tally):
        jax.block_until_ready(state)
        times[tally.num_seen] = time.perf_counter()

    learned, _ = memjax.fit_stream(network, params, state, batches, _BLOCK, callbacks=[note])
    middle = next(seen for seen in times if seen >= len(labels) // 2)
    return learned, (times[len(labels)] - times[middle]) / max(len(labels) - middle, 1)


def _operations(eye: Layer, params: Any, state: Any, image: np.ndarray) -> float:
    """Return the floating-point operations of one code, as the compiler counts them."""
    compiled = jax.jit(eye.recall).lower(params, state, jnp.asarray(image)).compile()
    return float((compiled.cost_analysis() or {})["flops"])


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "ablation", _place)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| dataset | network | ridge, % | delta, % | vote, % | neurons | MB | MFLOP a code "
        "| ms a lesson |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        shares = " | ".join(f"{100 * record['accuracy'][name]:.2f}" for name in _READOUTS)
        lines.append(
            f"| {TITLES[record['dataset']]} | {record['row']} | {shares} | "
            f"{record['neurons']:,} | {record['bytes'] / 1e6:.1f} | "
            f"{record['operations'] / 1e6:.1f} | {record['milliseconds']:.1f} |"
        )
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy of every row with each readout, one panel a dataset."""
    names = measured_datasets(records)
    rows = [row for row in ROWS if any(record["row"] == row for record in records)]
    drawn, places = panels(
        [TITLES[name] for name in names],
        "accuracy, %",
        "",
        width=9.5,
        height=1.2 + 0.26 * len(rows),
        is_y_shared=True,
    )
    for name, place in zip(names, places, strict=True):
        mine = [record for record in records if record["dataset"] == name]
        for number, readout in enumerate(_READOUTS):
            place.plot(
                [100 * record["accuracy"][readout] for record in mine],
                [rows.index(record["row"]) for record in mine],
                MARKERS[number],
                color=COLOURS[number],
                label=readout,
            )
    name_rows(places[0], rows)
    legend(drawn, *places)
    return drawn


def _place(record: dict[str, Any]) -> tuple[int, int]:
    return _DATASETS.index(record["dataset"]), list(ROWS).index(record["row"])


def main(arguments: list[str] | None = None) -> None:
    """Measure the rows, print the table and keep the records."""
    parser = options(__doc__, names=tuple(ROWS))
    parser.add_argument("--dataset", choices=_DATASETS, help="one of both")
    chosen = parser.parse_args(arguments)
    num_train, num_test = (500, 500) if chosen.quick else (8000, 10000)
    for dataset in [chosen.dataset] if chosen.dataset else _DATASETS:
        for name in [chosen.only] if chosen.only else ROWS:
            if dataset == "mnist" and name.endswith("mirror"):
                continue  # a mirrored digit is no digit
            record = measure(dataset, name, num_train, num_test)
            print(table([record]).splitlines()[-1], flush=True)
            keep(chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
