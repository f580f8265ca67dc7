"""What an endless stream of deformed digits brings, if no image is ever shown twice.

    python -m experiments.deformed [--dataset NAME] [--size NAME] [--examples N] [--seeds N]
                                   [--folder FOLDER] [--split test|validation] [--out FOLDER]
                                   [--quick]

The columnar network learns one stream once. The stream goes through the training images again and
again, each time in another order, and every image is turned, slanted, stretched, shifted and bent
anew before it is shown. The images that are asked are shown as they are. The amounts were set by
hand, such that a person still reads every digit.

This learns from the same labels as one pass over the images does, but it knows which deformations
leave a digit what it is. So its figures stand apart from all others.

A long stream writes a checkpoint after every 20,000 examples into ``--folder``, and goes on from
the last one there, also from that of a shorter stream.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

import memjax
from experiments.columnar import SIZES
from experiments.figures import axes, legend, style
from experiments.records import (
    TITLES,
    field,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    publish,
    read,
    spread,
)

NUMBERS = (60_000, 600_000, 2_000_000)
_BATCH = 500
_BLOCK = 250  # divides all numbers, so that the last block of a stream is in its checkpoint

# The greatest turn in degrees, slant, stretch, and shift. Lengths are in 28ths of the image's side.
TURN, SLANT, STRETCH, SHIFT = 10.0, 0.15, 0.1, 1.0
# Bending: its root mean square length, and the width over which neighbours bend alike.
BEND, SMOOTHNESS = 1.0, 4.0


@jax.jit
def deform(images: jax.Array, key: jax.Array) -> jax.Array:
    """Return images uint8 [N, H, W, 1], each of them deformed in its own way.

    Example:
        >>> images = np.full((2, 8, 8, 1), 7, np.uint8)
        >>> deform(images, jax.random.key(0)).shape
        (2, 8, 8, 1)
    """
    height, width = images.shape[1:3]
    centre = np.array([height - 1, width - 1], np.float32)[:, None, None] / 2
    from_centre = np.indices((height, width), np.float32) - centre
    unit = min(height, width) / 28

    def one(image, key):
        keys = jax.random.split(key, 5)
        turn = jnp.deg2rad(jax.random.uniform(keys[0], minval=-TURN, maxval=TURN))
        slant = jax.random.uniform(keys[1], minval=-SLANT, maxval=SLANT)
        stretch = 1 + jax.random.uniform(keys[2], (2,), minval=-STRETCH, maxval=STRETCH)
        shift = jax.random.uniform(keys[3], (2, 1, 1), minval=-SHIFT, maxval=SHIFT)
        turned = jnp.array([[jnp.cos(turn), -jnp.sin(turn)], [jnp.sin(turn), jnp.cos(turn)]])
        matrix = turned @ jnp.array([[1.0, 0.0], [slant, 1.0]]) @ jnp.diag(stretch)
        noise = jax.random.normal(keys[4], (2, height, width))
        bend = jnp.einsum("ir,drc,jc->dij", _near(height), noise, _near(width))
        bend = BEND * bend / jnp.sqrt(2 * jnp.mean(bend**2))
        moved = unit * (shift + bend)
        places = jnp.einsum("de,erc->drc", matrix, from_centre) + centre + moved
        return map_coordinates(image[..., 0].astype(jnp.float32), list(places), order=1)

    bent = jax.vmap(one)(images, jax.random.split(key, len(images)))
    return jnp.round(bent)[..., None].astype(jnp.uint8)


def _near(length: int) -> np.ndarray:
    """Return how much a place takes over from each other place along one side."""
    offsets = (np.arange(length)[:, None] - np.arange(length)) * 28 / length
    return np.exp(-0.5 * (offsets / SMOOTHNESS) ** 2).astype(np.float32)


def stream(
    images: np.ndarray, labels: np.ndarray, seed: int, number: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the examples from ``start`` to ``number`` of an endless stream, in batches.

    The stream depends on the images and on ``seed`` alone, wherever it is taken up.
    """
    if start >= number:
        return

    @lru_cache(2)
    def order(turn):
        return np.random.default_rng((seed, turn)).permutation(len(labels))

    for batch in range(start // _BATCH, -(-number // _BATCH)):
        places = np.arange(batch * _BATCH, (batch + 1) * _BATCH)
        turns, indices = np.divmod(places, len(labels))
        rows = np.array([order(turn)[index] for turn, index in zip(turns, indices, strict=True)])
        shown = deform(images[rows], jax.random.fold_in(jax.random.key(seed), batch))
        wanted = (places >= start) & (places < number)
        yield np.asarray(shown)[wanted], labels[rows][wanted]


def measure(
    dataset: str, size: str, number: int, split: str, seeds: int, folder: Path | None
) -> dict[str, Any]:
    """Return the record of streams of one length, each in its own order."""
    train, test = load(dataset, split, 0)
    shape = train.images.shape[1:]
    network, params = memjax.columnar_network(shape, train.num_classes, size)
    runs = []
    for seed in range(seeds):
        with TemporaryDirectory() as temporary:
            place = Path(temporary) if folder is None else folder
            state, tally = memjax.fit_stream(
                network,
                params,
                network.init(jax.random.key(seed)),
                partial(stream, train.images, train.labels, seed, number),
                _BLOCK,
                checkpoint_dir=place / f"{dataset}-{size}-{split}-{seed}",
                checkpoint_every=min(20_000, number),
                progress=number,
            )
        result = memjax.evaluate(network, params, state, test.images, test.labels)
        runs.append(
            {
                "seed": seed,
                "accuracy": result.accuracy,
                "num_memories": memjax.num_memories(network, state),
                "num_seen": tally.num_seen,
                "num_test": len(test.labels),
            }
        )
    command = f"python -m experiments.deformed --dataset {dataset} --size {size}"
    command += f" --examples {number} --seeds {seeds} --split {split}"
    about = {"dataset": dataset, "size": size, "num_examples": number, "split": split}
    return {**about, "command": command, "runs": runs}


_place = place_by(dataset=TITLES, size=SIZES)
records = partial(read, "deformed", lambda record: (*_place(record), record["num_examples"]))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "dataset": TITLES[record["dataset"]],
            "size": record["size"],
            "deformed images": f"{record['num_examples']:,}",
            "accuracy, % (mean ± s.d.)": percent(field(record, "accuracy")),
            "streams": len(record["runs"]),
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy over the number of images, one line per network."""
    drawing, place = axes("deformed images, each shown once", "accuracy, % (mean ± s.d.)")
    lines: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        lines.setdefault(f"{TITLES[record['dataset']]}, {record['size']}", []).append(record)
    for index, (name, mine) in enumerate(lines.items()):
        means, deviations = zip(*(spread(field(each, "accuracy")) for each in mine), strict=True)
        numbers = [each["num_examples"] for each in mine]
        place.errorbar(numbers, means, yerr=deviations, capsize=4, label=name, **style(index))
    place.set_xscale("log")
    legend(drawing, place)
    return drawing


def main(arguments: list[str] | None = None) -> None:
    """Measure the streams, print the table and keep the records."""
    parser = options(__doc__, dataset="mnist", seeds=3)
    parser.add_argument("--size", choices=SIZES, help="measure only this size")
    parser.add_argument("--examples", type=int, metavar="N", help="measure only this many")
    parser.add_argument("--folder", type=Path, help="keep checkpoints here, and go on from them")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    sizes = ("small",) if chosen.quick else (chosen.size,) if chosen.size else SIZES
    numbers = (2000,) if chosen.quick else (chosen.examples,) if chosen.examples else NUMBERS
    for size in sizes:
        for number in numbers:
            record = measure(dataset, size, number, chosen.split, seeds, chosen.folder)
            publish(table, chosen.out, f"{dataset} {size} {number}", record)


if __name__ == "__main__":
    main()
