"""What all figures share."""

import math
from collections.abc import Sequence
from typing import Any

from memjax._checks import check_kind, import_package


def make_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """Return an empty figure of a size in inches."""
    figures = import_package("matplotlib.figure", "A figure")
    return figures.Figure(figsize=(width, height), layout=layout, dpi=160)


def check_names(class_names: Any, least: int, most: float = math.inf) -> None:
    """Raise unless there is a name for each class."""
    check_kind("class_names", class_names, Sequence, "a name for each class")
    for index, name in enumerate(class_names):
        check_kind(f"class_names[{index}]", name, str, "a string")
    if not least <= len(class_names) <= most:
        raise ValueError(
            f"class_names: expected {least} names{'' if least == most else ' or more'}, "
            f"got {len(class_names)}."
        )
