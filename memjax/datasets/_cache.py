"""The cache of decoded arrays: one uncompressed ``.npz`` for each split of each prepared folder."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np

from memjax.datasets._owned import owned_folder
from memjax.datasets._source import Folder, Rows


def cache_file(cache_dir: Folder, name: str, split: str, folder: Path) -> Path:
    """Return the cache file of exactly these prepared files: changed files have another one."""
    files = sorted((path.name, path.stat()) for path in folder.iterdir())
    sizes = [(file, status.st_size, status.st_mtime_ns) for file, status in files]
    identity = repr((str(folder.resolve()), sizes))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return cache_folder(cache_dir) / f"{name}-{folder.name}-{split}-{digest}.npz"


def read_cache(file: Path) -> Rows | None:
    """Return the cached rows; None where the file is missing or damaged."""
    if not file.is_file():
        return None
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
            class_names = tuple(str(class_name) for class_name in archive["class_names"])
    except Exception:  # Whatever is wrong with a cache file, the answer is to decode again.
        return None
    kinds = (images.dtype, images.ndim, labels.dtype, labels.shape)
    if kinds != (np.uint8, 4, np.int32, images.shape[:1]):
        return None
    return Rows(images, labels, class_names)


def write_cache(file: Path, rows: Rows) -> None:
    """Write the rows in a single move, so that no reader sees half a file, or warn."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with owned_folder(file.parent, "incomplete.") as folder:
            written = folder / file.name
            np.savez(written, images=rows.images, labels=rows.labels, class_names=rows.class_names)
            os.replace(written, file)
    except OSError as error:
        warnings.warn(
            f"The decoded arrays could not be cached in {file.parent} ({error}): "
            "set cache_dir or MEMJAX_CACHE_DIR to a folder that can be written.",
            stacklevel=5,  # the line that called load
        )


def cache_folder(cache_dir: Folder) -> Path:
    given = cache_dir or os.environ.get("MEMJAX_CACHE_DIR")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memjax"
