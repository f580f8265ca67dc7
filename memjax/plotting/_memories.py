"""What a network remembers: one mosaic of its memories, by label, and a film of how it filled."""

import io
from typing import Any, NamedTuple

import numpy as np

from memjax._checks import check_positive, import_package
from memjax.base import Bank, Layer
from memjax.evaluation import labels_from
from memjax.plotting._figure import LINE, WIDTH, canvas, check_names
from memjax.plotting._images import banks_of, check_images, example_of, fit_square, look_of, mosaic

_MOST_LINES = 20  # of all labels together, where there is more than one line for each
_MOST_PIXELS = 64  # of a square of the mosaic
_SECONDS_AT_THE_END = 2


def memories(
    network: Layer,
    state: Any,
    class_names: tuple[str, ...],
    num_columns: int = 16,
    images: Any = None,
) -> Any:
    """Draw what a network remembers: the memories of each label, in rows.

    The memories that vote for a label stand beside its name, under which is their number. The one
    that learned from most examples comes first. With ``images`` a memory is drawn as the image that
    it was stored from. A memory without such an image is drawn as the pattern that it holds; where
    an encoder stands before the memories, that is the activity at every place. The banks of a
    network (one for each colour channel, for instance) stand side by side.

    Args:
        network: a network whose answer comes from memories.
        state: what it has learned.
        class_names: the name of each label.
        num_columns: the most memories in a row, of all banks together.
        images: the images that were learned, in their order [N, H, W, channels], or a dict of some
            of them by their numbers, as ``stored_images`` returns; None to draw patterns.

    Raises:
        ValueError, TypeError: the network has no such memories, or an argument does not fit it.

    Example:
        >>> import jax
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=2)
        >>> figure = memories(network, network.init(jax.random.key(0)), ("even", "odd"))
        >>> figure.get_suptitle()
        '0 memories'
    """
    shown = _choose(network, state, class_names, num_columns, images)
    picture = mosaic(*_squares(shown, images), shown.num_lines)
    numbers = [f"{number:,}" for number in shown.numbers]
    left = 0.2 + 0.085 * max(map(len, [*class_names, *numbers]))
    width = shown.num_columns * min(max((WIDTH - left) / shown.num_columns, 0.2), 0.8)
    height = width * picture.shape[0] / picture.shape[1]
    top = 1.6 * LINE
    figure, axes = canvas(left + width, top + height, shown.title)
    axes.imshow(picture, extent=(left, left + width, top + height, top))
    for label, (name, number) in enumerate(zip(class_names, numbers, strict=True)):
        y = top + height * (label + 0.45) / len(class_names)
        axes.text(left - 0.08, y, name, fontsize=9, ha="right", va="bottom")
        axes.text(left - 0.08, y, number, fontsize=7, ha="right", va="top", color="0.4")
    return figure


def film(
    network: Layer,
    state: Any,
    class_names: tuple[str, ...],
    num_columns: int = 16,
    images: Any = None,
    num_frames: int = 50,
) -> bytes:
    """Return a film of memories filling up, a GIF of about seven seconds.

    It shows the memories that ``memories`` shows, in the order in which they were stored, each from
    its example on. It is made from the last state alone: memories that were replaced on the way are
    not in it, and patterns are those of the end.

    Args:
        network: a network whose answer comes from memories.
        state: what it has learned.
        class_names: the name of each label.
        num_columns: the most memories in a row, of all banks together.
        images: as for ``memories``.
        num_frames: how many pictures the film has, from the first example to the last.

    Raises:
        ValueError, TypeError: the network has no such memories, or an argument does not fit it.

    Example:
        >>> import jax
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=2)
        >>> film(network, network.init(jax.random.key(0)), ("even", "odd"))[:3]
        b'GIF'
    """
    check_positive("num_frames", num_frames)
    shown = _choose(network, state, class_names, num_columns, images, by_time=True)
    squares, side = _squares(shown, images)
    frame_of = _Frames(shown, class_names, side)
    times = np.array(
        [example_of(bank, row) for bank in shown.banks for row in range(int(bank.state.size))]
    )
    num_seen = max(bank.lesson(int(bank.state.num_seen) - 1).example + 1 for bank in shown.banks)
    frames = []
    for now in np.rint(np.linspace(num_seen, 0, num_frames)[::-1]).astype(int):
        rows = [
            [
                square if place is not None and example_of(*place) < now else None
                for place, square in zip(places, row, strict=True)
            ]
            for places, row in zip(shown.rows, squares, strict=True)
        ]
        text = f"{now:,} examples: {(times < now).sum():,} memories"
        frames.append(frame_of(mosaic(rows, side, shown.num_lines), text))
    # One palette for all: else colours would flicker. White, which it averages, stays white.
    palette = frames[-1].quantize(256)
    palette.putpalette([255 if value > 247 else value for value in palette.getpalette()])
    frames = [frame.quantize(palette=palette, dither=0) for frame in frames]
    between = 5000 // num_frames
    durations = [between] * (num_frames - 1) + [1000 * _SECONDS_AT_THE_END]
    written = io.BytesIO()
    frames[0].save(
        written,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
    )
    return written.getvalue()


class _Place(NamedTuple):
    """A place in the mosaic, and the memory in it."""

    bank: Bank
    memory: int


class _Shown(NamedTuple):
    """Which memories are shown, and where."""

    banks: tuple[Bank, ...]
    rows: list[list[_Place | None]]
    num_columns: int
    num_lines: int  # for each label
    numbers: list[int]  # memories of each label, of all banks
    title: str


def _choose(
    network: Layer,
    state: Any,
    class_names: Any,
    num_columns: int,
    images: Any,
    by_time: bool = False,
) -> _Shown:
    """Return which memories are shown, after checks: those that learned most, by label.

    They come in the order of what they learned, or in that in which they were stored.
    """
    banks = banks_of(network, state)
    check_names(class_names, least=1)
    check_positive("num_columns", num_columns)
    check_images(images, network)
    for_each_bank = max(num_columns // len(banks), 1)
    found = [_by_label(bank, len(class_names)) for bank in banks]
    numbers = [sum(len(of_bank[label]) for of_bank in found) for label in range(len(class_names))]
    most = max(len(memories) for of_bank in found for memories in of_bank)
    num_lines = min(max(_MOST_LINES // len(class_names), 1), max(-(-most // for_each_bank), 1))
    chosen = [[of_label[: num_lines * for_each_bank] for of_label in of_bank] for of_bank in found]
    if by_time:
        chosen = [
            [of_label[np.argsort(bank.state.stored_at[of_label])] for of_label in of_bank]
            for bank, of_bank in zip(banks, chosen, strict=True)
        ]
    rows: list[list[_Place | None]] = []
    for label in range(len(class_names)):
        for line in range(num_lines):
            row = []
            for bank, of_bank in zip(banks, chosen, strict=True):
                part = of_bank[label][line * for_each_bank : (line + 1) * for_each_bank]
                row += [None] * bool(row)  # from one bank to the next
                row += [_Place(bank, memory) for memory in part]
                row += [None] * (for_each_bank - len(part))
            rows.append(row)
    in_use = sum(int(bank.state.size) for bank in banks)
    num_shown = sum(place is not None for row in rows for place in row)
    title = f"{in_use:,} memories"
    if len(banks) > 1:
        title += f" in {len(banks)} banks"
    if num_shown < in_use:
        title += ": for each label those that learned most"
    return _Shown(banks, rows, len(rows[0]), num_lines, numbers, title)


def _by_label(bank: Bank, num_labels: int) -> list[np.ndarray]:
    """Return the memories that vote for each label, those that learned most first."""
    labels, counts = labels_from(bank.state.votes), bank.state.counts
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    return [order[labels[order] == label] for label in range(num_labels)]


def _squares(shown: _Shown, images: Any) -> tuple[list[list[np.ndarray | None]], int]:
    """Return the picture in each place, and the side of the square that all of them fit into."""
    looks = [
        [None if place is None else look_of(*place, images) for place in row] for row in shown.rows
    ]
    sides = [max(look.shape[:2]) for row in looks for look in row if look is not None]
    side = min(max(sides, default=8), _MOST_PIXELS)
    return [
        [None if look is None else fit_square(look, side) for look in row] for row in looks
    ], side


class _Frames:
    """Draws frames: a mosaic enlarged, the labels at its left and a line of text above it."""

    def __init__(self, shown: _Shown, class_names: tuple[str, ...], side: int):
        drawing = import_package("PIL.ImageDraw", "A film")
        self._image = import_package("PIL.Image", "A film")
        self._draw = drawing.Draw
        self._font = import_package("PIL.ImageFont", "A film").load_default(14)
        self._scale = max(24 // side, 1)
        self._names, self._num_lines = class_names, shown.num_lines
        self._left = 16 + max(int(self._font.getlength(name)) for name in class_names)

    def __call__(self, picture: np.ndarray, text: str) -> Any:
        picture = picture.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        top, (height, width) = 28, picture.shape[:2]
        frame = self._image.new("RGB", (max(self._left + width, 300), top + height), "white")
        frame.paste(self._image.fromarray(picture), (self._left, top))
        draw = self._draw(frame)
        draw.text((8, 6), text, "black", self._font)
        for label, name in enumerate(self._names):
            y = top + height * (label + 0.5) / len(self._names)
            draw.text((self._left - 8, y), name, "black", self._font, anchor="rm")
        return frame
