"""A network as JSON and back: what it is made of is named, and nothing is imported by a name."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

from memjax._checks import as_iterator
from memjax._entry import MOST_LEVELS
from memjax._files import levels_of
from memjax._text import printable
from memjax.base import Layer
from memjax.distances import DISTANCES, Distance
from memjax.readouts import adam

_MOST_PARTS = 500
"""How many layers and functions a network may be made of: JAX traces them one by one."""
_TOO_LARGE = (
    f"network: expected at most {_MOST_PARTS} layers, and {MOST_LEVELS} inside one another, "
    "got more."
)


def describe(network: Layer, parts: dict[str, Any] | None = None) -> Any:
    """Return a network as JSON values.

    Args:
        network: made of dataclasses, whose fields are numbers, strings, tuples, distances, and
            classes and functions that stand at the top level of a module. A field with
            ``metadata={"saved": False}`` is left out.
        parts: takes up the classes and functions by their names.

    Raises:
        TypeError: something else.
        ValueError: layers are inside one another too often, or there are too many.
    """
    description = _describe(network, {} if parts is None else parts)
    _check_size(description)
    return description


def _describe(value: Any, parts: dict[str, Any]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_describe(item, parts) for item in value]
    if isinstance(value, Distance) and DISTANCES.get(value.name) == value:
        return {"name": _name_of_distance(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: _describe(getattr(value, name), parts) for name in _saved_fields(value)}
        return _describe(type(value), parts) | {"fields": fields}
    if isinstance(value, Callable):
        parts[name := _name("network", value)] = value
        return {"name": name}
    raise TypeError(
        "network: expected dataclasses with fields of numbers, strings, tuples, layers, distances, "
        f"classes and functions, got {value!r}."
    )


def build(description: Any, known: dict[str, Any]) -> Any:
    """Return what ``describe`` described, made of ``known`` parts only.

    Raises:
        Exception: the description is none, or a class raises whatever its fields lead it to.
    """
    _check_size(description)
    return _build(description, known)


def _build(description: Any, known: dict[str, Any]) -> Any:
    if isinstance(description, list):
        return tuple(_build(item, known) for item in description)
    if not isinstance(description, dict):
        return description
    if (name := description["name"]) not in known:
        raise ValueError(
            f"{printable(str(name)[:100])!r} is not part of memjax: pass it in layers=[...], or "
            "the network in network="
        )
    if "fields" not in description:
        return known[name]
    kind, fields = known[name], description["fields"]
    # What memjax did not have when it was saved must not silently take the default of today.
    missing = ", ".join(key for key in _saved_fields(kind) if key not in fields)
    if missing and kind.__module__.startswith("memjax."):
        raise ValueError(f"an older memjax saved {kind.__name__} without {missing}: learn it anew")
    return kind(**{key: _build(field, known) for key, field in fields.items()})


def _saved_fields(part: Any) -> list[str]:
    """Return the names of the fields of a dataclass that are saved."""
    return [field.name for field in dataclasses.fields(part) if field.metadata.get("saved", True)]


def _check_size(description: Any) -> None:
    number = 0
    for depth, level in enumerate(levels_of(description)):
        number += sum(isinstance(item, dict) and "name" in item for item in level)
        # A layer lies in the list of a field, in the fields of another; numbers lie in it likewise.
        if number > _MOST_PARTS or depth > 3 * MOST_LEVELS + 2:
            raise ValueError(_TOO_LARGE)


def known_parts(network: Layer | None, layers: Iterable[Any]) -> dict[str, Any]:
    """Return by name what may be built: parts of memjax, of ``network``, and ``layers``."""
    what = "classes and functions"
    given = {_name("layers", part): part for part in as_iterator("layers", layers, what)}
    if network is not None:
        describe(network, given)
    # To the script that saved it, a class of that script was one of __main__.
    given |= {f"__main__:{name.partition(':')[2]}": part for name, part in given.items()}
    own = [kind for kind in _subclasses(Layer) if kind.__module__.startswith("memjax.")]
    own = {_name("layers", part): part for part in (*own, Distance, adam)}
    return own | {_name_of_distance(item): item for item in DISTANCES.values()} | given


def _name_of_distance(distance: Distance) -> str:
    return f"memjax.distances:{distance.name}"


def _name(argument: str, part: Any) -> str:
    """Return ``module:name``, with the outermost module that has it: a private home may move."""
    name, home = getattr(part, "__qualname__", ""), getattr(part, "__module__", "")
    for module in accumulate(str(home).split("."), "{}.{}".format):
        if module in sys.modules and vars(sys.modules[module]).get(name) is part:
            return f"{module}:{name}"
    raise TypeError(
        f"{argument}: expected classes and functions at the top level of a module, got {part!r}."
    )


def _subclasses(kind: type) -> Iterator[type]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)
