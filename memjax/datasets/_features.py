"""The description of a prepared folder, read before tensorflow-datasets sees the folder.

That library imports whatever module a description names. So here a description is refused unless it
names only the few classes that images with labels need.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memjax.datasets._source import DatasetError

_HOME = "tensorflow_datasets.core.features"
_DICT = f"{_HOME}.features_dict.FeaturesDict"
_IMAGE = f"{_HOME}.image_feature.Image"
_LABEL = f"{_HOME}.class_label_feature.ClassLabel"
_KNOWN = {
    _DICT,
    _IMAGE,
    _LABEL,
    f"{_HOME}.bounding_boxes.BBoxFeature",
    f"{_HOME}.scalar.Scalar",
    f"{_HOME}.tensor_feature.Tensor",
    f"{_HOME}.text_feature.Text",
}
_CLASS_KEYS = {"pythonclassname", "type", "protocls"}


class Description(NamedTuple):
    """What a prepared folder holds.

    Attributes:
        image: the key of the image of an example.
        label: the key of its label.
        shape: (H, W, channels) if all images have one, else None.
        splits: the names of the splits.
    """

    image: str
    label: str
    shape: tuple[int, int, int] | None
    splits: tuple[str, ...]


def read_description(name: str, folder: Path) -> Description:
    """Return what a prepared folder holds.

    Raises:
        DatasetError: its description cannot be read, names a class that is not known, or is not
            that of images with labels.
    """
    try:
        features = _read(folder / "features.json")
        info = _read(folder / "dataset_info.json")
        for content in (features, info):
            for kind in _classes(content):
                if kind not in _KNOWN:
                    raise DatasetError(
                        f"{name}: the prepared folder {folder} names the class {kind!r}, which is "
                        "none of those that images with labels need, so nothing of it is read."
                    )
        inner = features["featuresDict"]["features"]
        images = [key for key, value in inner.items() if value["pythonClassName"] == _IMAGE]
        labels = [key for key, value in inner.items() if value["pythonClassName"] == _LABEL]
        if len(images) != 1 or not labels or (len(labels) > 1 and "label" not in labels):
            raise DatasetError(
                f"{name}: expected images with one label each, got the features {', '.join(inner)}."
            )
        lengths = inner[images[0]]["image"].get("shape", {}).get("dimensions", [])
        shape = tuple(int(length) for length in lengths)
        splits = tuple(split["name"] for split in info.get("splits", ()))
    except DatasetError:
        raise
    except Exception as error:  # A description may be damaged in any way.
        raise DatasetError(
            f"{name}: the prepared folder {folder} cannot be read ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); remove it to have it prepared again, or set "
            "data_dir to another folder."
        ) from error
    is_fixed = len(shape) == 3 and min(shape) > 0 and shape[2] in (1, 3)
    label = "label" if "label" in labels else labels[0]
    return Description(images[0], label, shape if is_fixed else None, splits)  # type: ignore[arg-type]


def _read(file: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # Two readers could take two values.
            raise ValueError(f"{file.name} has one key twice")
        return found

    return json.loads(file.read_text(), object_pairs_hook=once)


def _classes(content: Any) -> Iterator[str]:
    """Yield every name of a class in a description, in any spelling that is understood."""
    if isinstance(content, list):
        for item in content:
            yield from _classes(item)
    elif isinstance(content, dict):
        for key, value in content.items():
            plain = key.replace("_", "").lower()
            if plain in _CLASS_KEYS and isinstance(value, str):
                # The schema of an old description has types such as "INT".
                if "." in value or plain == "pythonclassname":
                    yield value
            elif plain == "json" and isinstance(value, str):
                yield from _classes(json.loads(value))
            else:
                yield from _classes(value)
