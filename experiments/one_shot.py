"""Whether one drawing of a character is enough to know it again: Omniglot, one shot, 20 ways.

    python -m experiments.one_shot --folder FOLDER [--only METHOD] [--split test|validation]
                                   [--out FOLDER] [--quick]

A task shows one drawing of each of 20 characters of an alphabet. Then it asks for 20 drawings of
the same characters by another hand. The test is the 20 runs that come with Omniglot (Lake,
Salakhutdinov and Tenenbaum, 2015). ``--folder`` has their ``all_runs.zip``, and the small sets of
other alphabets ``images_background_small1.zip`` and ``images_background_small2.zip``, as they lie
in the folder ``python`` of https://github.com/brendenlake/omniglot. Nothing is downloaded.

The validation split is 200 tasks drawn from three of the other alphabets, which are then not
learned. One of these has only 17 characters. All settings were chosen there. What is measured:

- "1-NN in pixels": the nearest of the 20 drawings as they are, of 105 by 105 pixels.
- "memory": ``memory_network`` with one neighbour. Each drawing is cut out, scaled to 22 pixels and
  laid into 28 by 28 by its centre of mass, as the digits of MNIST were.
- "memory, views": each of the 20 drawings is also learned turned, slanted and stretched a little.
  These are 19 lessons from one example.
- "memory, views, other alphabets": the same, on edges that are decorrelated. How the drawings of
  one character differ was learned from the characters of other alphabets, and counts for less.
"""

import io
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from PIL import Image

import memjax
from experiments import figures
from experiments.records import field, markdown_table, options, percent, place_by, publish, read

HELD_OUT = ("Balinese", "Japanese_(katakana)", "Tagalog")
_SIDE, _SCALED, _WAYS, _FLOOR = 28, 22, 20, 2.0


Codes = Callable[[Any], Any]
"""From codes [N, D] to codes [N, D]."""


class Task(NamedTuple):
    """One task; drawings are uint8 [20, 105, 105], with ink as 255."""

    shown: np.ndarray
    asked: np.ndarray
    answers: np.ndarray  # int [20]: for each drawing that is asked for, the one that was shown


class Drawings(NamedTuple):
    """Drawings of several alphabets."""

    images: np.ndarray  # uint8 [N, 105, 105]
    characters: np.ndarray  # str [N]: alphabet/character
    alphabets: np.ndarray  # str [N]


_RUNS = "all_runs.zip"
_OTHERS = ("images_background_small1.zip", "images_background_small2.zip")


def read_runs(folder: Path) -> list[Task]:
    """Return the 20 runs of ``all_runs.zip``."""
    with zipfile.ZipFile(folder / _RUNS) as archive:
        lists = sorted(name for name in archive.namelist() if name.endswith("/class_labels.txt"))
        return [_read_run(archive, Path(name)) for name in lists]


def read_other_alphabets(folder: Path) -> Drawings:
    """Return the drawings of the two small background sets, each drawing once."""
    found = {}
    for name in _OTHERS:
        with zipfile.ZipFile(folder / name) as archive:
            for image in archive.namelist():
                if image.endswith(".png") and not image.startswith("__MACOSX"):
                    found.setdefault(tuple(image.split("/")[-3:]), _read_image(archive, image))
    names = sorted(found)
    return Drawings(
        np.stack([found[name] for name in names]),
        np.array([f"{alphabet}/{character}" for alphabet, character, _ in names]),
        np.array([alphabet for alphabet, _, _ in names]),
    )


def tasks_from(drawings: Drawings, number: int) -> list[Task]:
    """Return tasks drawn at random: an alphabet, at most 20 of its characters, and two hands."""
    generator = np.random.default_rng(0)
    alphabets = np.unique(drawings.alphabets)
    tasks = []
    for _ in range(number):
        mine = drawings.alphabets == generator.choice(alphabets)
        characters = generator.permutation(np.unique(drawings.characters[mine]))[:_WAYS]
        of_each = [np.flatnonzero(drawings.characters == name) for name in characters]
        hands = generator.permutation(min(map(len, of_each)))[:2]
        shown, asked = (drawings.images[[rows[hand] for rows in of_each]] for hand in hands)
        tasks.append(Task(shown, asked, np.arange(len(characters))))
    return tasks


def prepared(image: np.ndarray) -> np.ndarray:
    """Return a drawing as those of MNIST are: float32 [28, 28], 0 to 1, centred by its mass."""
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width, height = (max(1, round(_SCALED * size / max(box.shape))) for size in box.shape[::-1])
    small = np.asarray(Image.fromarray(box).resize((width, height), Image.Resampling.BOX)) / 255
    result = np.zeros((_SIDE, _SIDE), np.float32)
    top, left = (
        int(np.clip(round((_SIDE - 1) / 2 - centre), 0, _SIDE - size))
        for centre, size in zip(_centre(small), small.shape, strict=True)
    )
    result[top : top + height, left : left + width] = small
    return result


def _transforms() -> np.ndarray:
    """Return the matrices of the 19 views; the first leaves a drawing as it is."""
    angles = [(0, 0), *((turn, slant) for turn in (-10, 10) for slant in (-0.2, 0.2))]
    angles += [(turn, 0) for turn in (-15, -7, 7, 15)] + [(0, s) for s in (-0.3, -0.15, 0.15, 0.3)]
    stretches = [(0.8, 1), (1.2, 1), (1, 0.8), (1, 1.2), (0.85, 0.85), (1.15, 1.15)]
    turned = [
        [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] @ np.array([[1, 0], [slant, 1]])
        for a, slant in ((np.deg2rad(turn), slant) for turn, slant in angles)
    ]
    return np.array([*turned, *map(np.diag, stretches)], np.float32)


@jax.jit
def views(images: jax.Array) -> jax.Array:
    """Return every image [N, 28, 28] in 19 views: [N, 19, 28, 28]."""
    centre = (_SIDE - 1) / 2
    grid = jnp.stack(
        jnp.meshgrid(*2 * [jnp.arange(_SIDE, dtype=jnp.float32) - centre], indexing="ij"), axis=-1
    )
    places = jnp.einsum("vij,rcj->virc", _transforms(), grid) + centre

    def look(image):
        return jax.vmap(lambda place: map_coordinates(image, list(place), order=1))(places)

    return jax.vmap(look)(images)


def decorrelation_within(codes: np.ndarray, names: np.ndarray, floor: float) -> Codes:
    """Return a function after which codes of one character differ alike in all directions.

    It is a ``Decorrelation`` that has learned how codes differ from the mean of their character.

    Args:
        codes: float32 [N, D].
        names: the character of each, [N].
        floor: that of the decorrelation.
    """
    _, rows, counts = np.unique(names, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), codes.shape[1]))
    np.add.at(sums, rows, codes)
    deviations = (codes - (sums / counts[:, None])[rows]).astype(np.float32)
    layer = memjax.Decorrelation(codes.shape[1], codes.shape[1])
    params = layer.params(decorrelation_period=len(codes), decorrelation_floor=floor)
    state, _ = memjax.fit(layer, params, layer.init(jax.random.key(0)), deviations, rows)
    return lambda xs: layer.recall_block(params, state, xs)


Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the drawings that are shown and asked, [20, 105, 105] each, to the answers [20]."""


def _nearest_in_pixels(others: Drawings) -> Answer:
    del others

    def answer(shown, asked):
        learned, questions = (part.reshape(len(part), -1) / 255 for part in (shown, asked))
        distances = np.sum(np.square(questions[:, None] - learned[None]), axis=2)
        return np.argmin(distances, axis=1)

    return answer


def _by_memories(
    seen: Callable[[np.ndarray], np.ndarray], laid_out: Codes = lambda codes: codes
) -> Answer:
    """Return how a memory network answers.

    Args:
        seen: from drawings to the views that are learned, [20, views, 28, 28]; the first is asked.
        laid_out: what becomes of their edges before they are compared.
    """

    def answer(shown, asked):
        learned, questions = seen(shown), seen(asked)[:, :1]
        num_views = learned.shape[1]
        rows, questions = (
            laid_out(_edges(part.reshape(-1, _SIDE, _SIDE))) for part in (learned, questions)
        )
        network, params = memjax.memory_network(
            (rows.shape[1],),
            len(shown),
            capacity=len(rows),
            distance=memjax.cosine,
            novelty_threshold=0.0,
            num_neighbours=1,
        )
        labels = np.repeat(np.arange(len(shown)), num_views)
        state, _ = memjax.fit(network, params, network.init(jax.random.key(0)), rows, labels)
        return memjax.predict(network, params, state, questions)

    return answer


def _as_it_is(images: np.ndarray) -> np.ndarray:
    """Return drawings [N, 105, 105] prepared, in one view: [N, 1, 28, 28]."""
    return np.stack([prepared(image) for image in images])[:, None]


def _in_views(images: np.ndarray) -> np.ndarray:
    """Return drawings [N, 105, 105] prepared, in 19 views: [N, 19, 28, 28]."""
    return np.asarray(views(_as_it_is(images)[:, 0]))


def _knowing(others: Drawings) -> Answer:
    codes = _edges(_as_it_is(others.images)[:, 0])
    return _by_memories(_in_views, decorrelation_within(codes, others.characters, _FLOOR))


METHODS: dict[str, Callable[[Drawings], Answer]] = {
    "1-NN in pixels": _nearest_in_pixels,
    "memory": lambda _: _by_memories(_as_it_is),
    "memory, views": lambda _: _by_memories(_in_views),
    "memory, views, other alphabets": _knowing,
}
"""The methods by name, each from the drawings of other alphabets to how it answers."""


def read_split(folder: Path, split: str) -> tuple[list[Task], Drawings]:
    """Return the tasks of "test" or "validation", and the drawings that may be learned before."""
    drawings = read_other_alphabets(folder)
    if split == "test":
        return read_runs(folder), drawings
    is_held_out = np.isin(drawings.alphabets, HELD_OUT)
    held_out, others = (
        Drawings(*(part[rows] for part in drawings)) for rows in (is_held_out, ~is_held_out)
    )
    return tasks_from(held_out, 200), others


def measure(method: str, split: str, tasks: list[Task], others: Drawings) -> dict[str, Any]:
    """Return the record of a method: its accuracy in each task.

    Args:
        method: one of ``METHODS``.
        split: what the tasks are of, "test" or "validation".
        tasks: those of ``read_split``, or some of them.
        others: the drawings that may be learned before.
    """
    answer = METHODS[method](others)
    return {
        "method": method,
        "split": split,
        "command": "python -m experiments.one_shot --folder FOLDER "
        f"--only '{method}' --split {split}",
        "runs": [
            {"seed": 0, "accuracy": float(np.mean(answer(task.shown, task.asked) == task.answers))}
            for task in tasks
        ],
    }


records = partial(read, "one_shot", place_by(method=METHODS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table: the mean over the tasks, and their range."""
    return markdown_table(
        {
            "method": record["method"],
            "accuracy, % (mean ± s.d. over the tasks)": percent(field(record, "accuracy")),
            "worst to best task, %": " to ".join(
                f"{100 * extreme(field(record, 'accuracy')):.0f}" for extreme in (min, max)
            ),
            "tasks": len(record["runs"]),
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy of each method, with a faint dot for each task."""
    drawn, place = figures.axes("accuracy, %", "", height=0.8 + 0.5 * len(records))
    for height, record in enumerate(records):
        shares = 100 * np.array(field(record, "accuracy"))
        look = figures.style(0)
        place.plot(shares, np.full(len(shares), height), **look, linestyle="none", alpha=0.15)
        place.plot(shares.mean(), height, **look, markersize=10)
    figures.name_rows(place, [record["method"] for record in records])
    place.set_xlim(0, 100)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the methods, print their accuracies and keep the records."""
    parser = options(__doc__, names=tuple(METHODS))
    parser.add_argument("--folder", type=Path, required=True, help="where Omniglot's archives lie")
    parser.add_argument("--split", choices=("test", "validation"), default="validation")
    chosen = parser.parse_args(arguments)
    needed = [*_OTHERS, _RUNS] if chosen.split == "test" else _OTHERS
    if missing := [name for name in needed if not (chosen.folder / name).is_file()]:
        parser.error(f"--folder: expected {' and '.join(missing)} in it, got {chosen.folder}.")
    tasks, others = read_split(chosen.folder, chosen.split)
    tasks = tasks[:2] if chosen.quick else tasks
    for method in (chosen.only,) if chosen.only else METHODS:
        publish(table, chosen.out, method, measure(method, chosen.split, tasks, others))


def _read_run(archive: zipfile.ZipFile, labels: Path) -> Task:
    pairs = [line.split() for line in archive.read(str(labels)).decode().split("\n") if line]
    names = sorted({shown for _, shown in pairs})
    root = labels.parent.parent
    shown, asked = (
        np.stack([_read_image(archive, str(root / name)) for name in part])
        for part in (names, [question for question, _ in pairs])
    )
    return Task(shown, asked, np.array([names.index(answer) for _, answer in pairs]))


def _read_image(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with Image.open(io.BytesIO(archive.read(name))) as image:
        return 255 - np.asarray(image.convert("L"))


def _centre(image: np.ndarray) -> Iterator[float]:
    """Return the centre of mass of an image, its row and its column."""
    for axis in (1, 0):
        weights = image.sum(axis=axis)
        yield float(weights @ np.arange(len(weights)) / weights.sum())


def _edges(images: np.ndarray) -> np.ndarray:
    """Return the edges of images [N, 28, 28], of length 1: float32 [N, D]."""
    encoder = memjax.OrientedEdges(
        (_SIDE, _SIDE, 1), grid=6, sharpness=8, pooling=0.6, normalisation=1
    )
    return np.asarray(encoder.recall_block((), (), images[..., None]))


if __name__ == "__main__":
    main()
