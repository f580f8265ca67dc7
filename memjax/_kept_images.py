"""The images that the memories of a run were stored from, in a file beside its network."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_FILE = "memories.npz"


def read_images(run: Path) -> dict[int, np.ndarray] | None:
    """Return the images of a run's memories by their numbers; None where it has none.

    Raises:
        ValueError: the file is damaged.
    """
    file = run / _FILE
    if not file.is_file():
        return None
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            numbers, images = archive["numbers"], archive["images"]
        return dict(zip(numbers.tolist(), images, strict=True))
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: cannot be read as the images of memories ({error}).") from None


def write_images(run: Path, images: Mapping[int, np.ndarray], image_shape: tuple[int, ...]) -> None:
    """Write images uint8 [H, W, channels] by their numbers; there may be none."""
    numbers = np.array(list(images), np.int32)
    rows = np.array(list(images.values()), np.uint8).reshape(-1, *image_shape)
    np.savez_compressed(run / _FILE, numbers=numbers, images=rows)
