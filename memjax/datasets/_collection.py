"""What was found at a source of your own: its rows, its classes and its splits."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from memjax._checks import check_choice, check_positive, check_whole
from memjax._text import printable
from memjax.datasets._files import LazyImages
from memjax.datasets._images import Look
from memjax.datasets._source import Dataset, Reading, batches

SPLITS = ("train", "test", "validation", "train_without_validation")
"""The names of the splits of every dataset."""

_MOST_NAMED = 20  # in a line of what was found


@dataclasses.dataclass(frozen=True)
class Collection:
    """What was found at a source, before anything is learned; ``memjax.datasets.scan`` gives it.

    Attributes:
        name: the source.
        images: uint8 [N, H, W, channels], or float32 [N, D] of features. Where they would take over
            a gibibyte they stay in their files, and slices of them are decoded when they are asked
            for.
        labels: int32 [N].
        class_names: the name of each class.
        look: what each image was brought to; None for features.
        columns: the names of the features, where they have any.
        parts: the rows of "test" and "validation" that the source itself sets apart.
        reading: how it was read.
        unreadable: the name of each file that cannot be read, and why.
        notes: what else was left out or chosen.
        digest: tells whether the same source was found again.
    """

    name: str
    images: Any
    labels: np.ndarray
    class_names: tuple[str, ...]
    look: Look | None
    columns: tuple[str, ...]
    parts: dict[str, np.ndarray]
    reading: Reading
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    digest: str

    def dataset(self, split: str, seed: int = 0, limit: int | None = None) -> Dataset:
        """Return a split in the order that ``seed`` decides, or its first ``limit`` rows.

        Args:
            split: ``train``, ``test``, ``validation``, ``train_without_validation``, or ``all``.
            seed: a whole number of at least 0; it moves no row into another split.
            limit: how many rows; None for all.

        Raises:
            ValueError, TypeError: an argument is not one of the above.

        Example:
            >>> import tempfile
            >>> from memjax.datasets import scan
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     file = f"{folder}/two.npz"
            ...     np.savez(file, images=np.zeros((9, 4, 4)), labels=np.arange(9) % 2)
            ...     scan(file).dataset("train").images.shape
            (7, 4, 4, 1)
        """
        rows = self._rows(split, seed)[:limit]
        is_lazy = isinstance(self.images, LazyImages)
        images = self.images.take(rows) if is_lazy else self.images[rows]
        return Dataset(images, self.labels[rows], self.class_names, self.name, split, int(seed))

    def stream(
        self, split: str = "train", seed: int = 0, batch_size: int = 256
    ) -> Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]:
        """Return a split as a stream of batches, as ``memjax.fit_stream`` takes it.

        Only one batch is decoded at a time, by several threads, so the memory does not grow with
        the number of images. The order is that of ``dataset``, on every call.

        Args:
            split: as for ``dataset``.
            seed: as for ``dataset``.
            batch_size: rows of a batch.

        Raises:
            ValueError, TypeError: an argument is out of its range.
        """
        check_positive("batch_size", batch_size)
        data = self.dataset(split, seed)
        return partial(batches, data.images, data.labels, batch_size)

    def describe(self) -> list[str]:
        """Return in lines what was found, to be read before it is learned."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        kind = "rows" if self.look is None else "images"
        several = [
            f"{name} {number:,}"
            for name, number in zip(self.class_names, counts.tolist(), strict=True)
        ]
        lines = [
            f"{self.name}: {len(self.labels):,} {kind} of {len(self.class_names):,} classes: "
            + some(several)
        ]
        if self.unreadable:
            bad = [f"{name}: {reason}" for name, reason in self.unreadable]
            lines.append(f"files that cannot be read, left out: {len(bad):,} ({some(bad, '; ')})")
        if self.look is None:
            lines.append(f"features of each row: {self.images.shape[1]:,}")
        else:
            height, width = self.look.image_size
            colour = "grey" if self.look.channels == 1 else "colour"
            turned = ", light and dark changed" if self.look.is_inverted else ""
            lines.append(f"all are read as {height} x {width} pixels in {colour}{turned}")
        lines += self.notes
        num_test = len(self._splits["test"])
        if "test" in self.parts:
            lines.append(f"{kind} of the source's own test: {num_test:,}")
        elif num_test:
            share = f"{self.reading.test_share:.0%}"
            lines.append(f"{kind} held out to test: {num_test:,}, {share} of each class")
        else:
            lines.append("too few to test: all are learned")
        return [printable(line) for line in lines]

    @cached_property
    def _splits(self) -> dict[str, np.ndarray]:
        everything = np.arange(len(self.labels))
        apart = np.concatenate([everything[:0], *self.parts.values()])
        rest = np.setdiff1d(everything, apart)
        # No seed of a user moves a row into another split: a test is never learned by accident.
        test = self.parts.get("test")
        if test is None:
            rest, test = self._hold_out(rest, seed=0)
        without, validation = rest, self.parts.get("validation")
        if validation is None:
            without, validation = self._hold_out(rest, seed=1)
        return {
            "train": rest,
            "test": test,
            "validation": validation,
            "train_without_validation": without,
            "all": everything,
        }

    def _rows(self, split: str, seed: int) -> np.ndarray:
        check_choice("split", split, (*SPLITS, "all"))
        check_whole("seed", seed)
        rows = self._splits[split]
        return rows[np.random.default_rng(seed).permutation(len(rows))]

    def _hold_out(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that are left and those held out, the same share of each class.

        At least one row of a class is held out, and one is left.
        """
        generator, share = np.random.default_rng(seed), self.reading.test_share
        held_out = [rows[:0]]
        for label in range(len(self.class_names) if share else 0):
            mine = generator.permutation(rows[self.labels[rows] == label])
            number = min(max(round(share * len(mine)), 1), len(mine) - 1)
            held_out.append(mine[: max(number, 0)])
        held = np.sort(np.concatenate(held_out))
        return np.setdiff1d(rows, held), held


def some(words: list[str], between: str = ", ") -> str:
    """Return the first words of many, and how many more there are."""
    more = len(words) - _MOST_NAMED
    return between.join(words[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
