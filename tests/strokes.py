"""Digits as strokes: the lines of an image are thinned and followed, as a hand would draw them."""

import numpy as np

Stroke = list[tuple[float, float]]


def trace(image: np.ndarray, scale: int = 4) -> list[Stroke]:
    """Return the strokes of an image [H, W], each a list of (x, y) from 0 to 1."""
    large = _enlarge(image.astype(float), scale)
    points = {(int(row), int(column)) for row, column in np.argwhere(_thin(large > 100))}
    strokes = []
    while points:
        # A stroke begins at an end of a line, if there is one.
        row = min(points, key=lambda point: (len(_around(point, points)), point))
        line, ahead = [row], (0, 0)
        points.remove(row)
        while near := _around(row, points):
            following = min(near, key=lambda p: (_turn(row, p, ahead), p))
            ahead = following[0] - row[0], following[1] - row[1]
            points.difference_update(near if len(near) < 3 else {following})
            row = following
            line.append(row)
        if len(line) >= scale or not strokes:
            smooth = np.array(line, float)
            smooth[1:-1] = (smooth[:-2] + smooth[1:-1] + smooth[2:]) / 3
            smooth = np.concatenate([smooth[:-1:scale], smooth[-1:]])  # a point in each pixel
            size = np.array(large.shape)
            strokes.append([(float(x), float(y)) for y, x in (smooth + 0.5) / size])
    return strokes


def _turn(row: tuple[int, int], following: tuple[int, int], ahead: tuple[int, int]) -> int:
    """Return how much a line turns, least where it goes straight on."""
    return -sum((b - a) * c for a, b, c in zip(row, following, ahead, strict=True))


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    places = [(np.arange(n * scale) + 0.5) / scale - 0.5 for n in image.shape]
    across = np.stack([np.interp(places[1], np.arange(image.shape[1]), row) for row in image])
    return np.stack([np.interp(places[0], np.arange(len(across)), c) for c in across.T], axis=1)


def _around(point: tuple[int, int], points: set) -> set:
    row, column = point
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    return {(row + i, column + j) for i, j in steps} & points


def _thin(is_ink: np.ndarray) -> np.ndarray:
    """Thin lines to one pixel, by Zhang and Suen (1984)."""
    ink = np.pad(is_ink, 1)
    while True:
        before = ink.sum()
        for turn in (0, 1):
            ring = [
                np.roll(ink, (-i, -j), (0, 1))
                for i, j in [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
            ]
            number = sum(part.astype(int) for part in ring)
            following = [*ring[1:], ring[0]]
            changes = sum((~a & b).astype(int) for a, b in zip(ring, following, strict=True))
            north, east, south, west = ring[::2]
            if turn == 0:
                is_edge = ~(north & east & south) & ~(east & south & west)
            else:
                is_edge = ~(north & east & west) & ~(north & south & west)
            ink = ink & ~((number >= 2) & (number <= 6) & (changes == 1) & is_edge)
        if ink.sum() == before:
            return ink[1:-1, 1:-1]
