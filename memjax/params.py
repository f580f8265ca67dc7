"""Numbers that one may sweep: each is declared once, with its default, its range and its meaning.

The params of a layer are a NamedTuple of float32 scalars. A field is declared as
``Annotated[jax.Array, Number(default, least, most, meaning)]``; checking, defaults and
documentation follow from that one line.
"""

import functools
import math
import typing
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from memjax._checks import (
    as_numbers,
    check_choice,
    check_number,
    check_shape,
    check_structure,
    shorten,
)

__all__ = ["Number", "find_params", "replace_params"]

_UNSET = (
    -1.0
)  # How "auto" is written into an array; the range of a number that may be "auto" is >= 0


class Number(NamedTuple):
    """What is declared of one number."""

    default: float | str  # the value that serves most data; "auto": ``calibrate`` estimates it
    least: float
    most: float
    meaning: str


@functools.cache
def declared(kind: type) -> dict[str, Number]:
    """Return the numbers that a kind of params declares, by name; none for any other type."""
    if not hasattr(kind, "_fields"):
        return {}
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError:  # a user's own kind, whose annotations name what is not in its module
        return {}
    return {
        name: entry
        for name in kind._fields
        for entry in getattr(hints.get(name), "__metadata__", ())
        if isinstance(entry, Number)
    }


def exportable(kind: Any) -> Any:
    """Decorate a NamedTuple, so that ``jax.export`` can write down a function of it."""
    name = f"memjax.{kind.__name__}"
    return jax.export.register_namedtuple_serialization(kind, serialized_name=name)


def make_params(kind: Any, *values: Any, **numbers: Any) -> Any:
    """Return params of a kind as float32 arrays: those given, checked, and else the defaults.

    Raises:
        TypeError: the kind declares no number of a given name, or a value is no number.
        ValueError: a number is out of its range.
    """
    known = declared(kind)
    if len(values) > len(known):
        raise TypeError(f"params: expected at most {len(known)} numbers, got {len(values)}.")
    given = dict(zip(known, values, strict=False))
    if twice := sorted(set(given) & set(numbers)):
        raise TypeError(f"{twice[0]}: given twice.")
    if unknown := sorted(set(numbers) - set(known)):
        raise TypeError(f"{unknown[0]}: expected one of {', '.join(known)}.")
    numbers |= given
    return kind(
        **{
            name: _as_param(name, numbers.get(name, number.default), number)
            for name, number in known.items()
        }
    )


def replace_params(params: Any, **numbers: Any) -> Any:
    """Return ``params`` with numbers replaced by name, in every layer that has them.

    Args:
        params: the params of a layer or a network.
        **numbers: new values, for instance ``novelty_threshold=0.3``. For a sweep give an array to
            ``jax.vmap(lambda t: replace_params(params, novelty_threshold=t))``. "auto" leaves a
            number to ``memjax.calibrate``.

    Raises:
        ValueError: no layer has a number of that name, or it is out of its range.
        TypeError: a value is no number.

    Example:
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10)
        >>> find_params(replace_params(params, novelty_threshold=0.25), "novelty_threshold")
        (Array(0.25, dtype=float32),)
    """
    found: set[str] = set()

    def replace(node):
        if not _is_named(node):
            return node
        mine = {name: value for name, value in numbers.items() if name in node._fields}
        found.update(mine)
        known = declared(type(node))
        new = {name: _as_param(name, value, known.get(name)) for name, value in mine.items()}
        return node._replace(**new)

    replaced = jax.tree.map(replace, params, is_leaf=_is_named)
    if missing := sorted(set(numbers) - found):
        raise ValueError(f"{missing[0]}: expected the name of a number in params, found none.")
    return replaced


def find_params(params: Any, name: str) -> tuple[Any, ...]:
    """Return the values of a number, one for each layer that has it, in the order of the layers.

    Args:
        params: the params of a layer or a network.
        name: for instance "novelty_threshold".

    Raises:
        ValueError: no layer has a number of that name.

    Example:
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 3), 10, novelty_threshold=0.5)
        >>> [value.item() for value in find_params(params, "novelty_threshold")]
        [0.5, 0.5, 0.5]
    """
    nodes = jax.tree.leaves(params, is_leaf=_is_named)
    found = tuple(getattr(node, name) for node in nodes if name in getattr(node, "_fields", ()))
    if not found:
        raise ValueError(f"name: expected that of a number in params, got {shorten(name)}.")
    return found


def is_unset(number: Any) -> Any:
    """Return whether a number that may be "auto" is still to be estimated, bool []."""
    # Of a concrete array JAX would make a traced one inside of `jit`.
    return (number if isinstance(number, Tracer) else np.asarray(number)) == _UNSET


def has_unset(params: Any) -> bool:
    """Return whether a number in params is, or under a transformation may be, still "auto"."""
    return any(
        isinstance(value := getattr(node, name), Tracer) or bool(is_unset(value))
        for node in jax.tree.leaves(params, is_leaf=_is_named)
        for name, number in declared(type(node)).items()
        if number.default == "auto"
    )


def like(network: Any) -> tuple[Any, Any]:
    """Return params and state with the shapes and dtypes of a network's own, without values."""
    return _begin.eval_shape(network)


# Never compiled, but `jit` remembers the shapes of each network.
@functools.partial(jax.jit, static_argnums=0)
def _begin(network):
    return network.default_params(), network.init(jax.random.key(0))


def check_params(network: Any, params: Any, *, may_be_unset: bool = False) -> None:
    """Raise unless ``params`` are numbers for a network, each set and in its range.

    ``may_be_unset`` lets "auto" pass, which stands for a number that is still to be estimated.
    """
    expected, _ = like(network)
    check_structure("params", params, expected)
    for path, node in jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_named):
        place = "params" + jax.tree_util.keystr(path)
        known = declared(type(node))
        fields = node._asdict() if _is_named(node) else {"": node}
        for field, value in fields.items():
            for inner, leaf in jax.tree_util.tree_leaves_with_path(value):
                name = f"{place}.{field}" if field else place
                name += jax.tree_util.keystr(inner)
                if not isinstance(leaf, Tracer):
                    _check_leaf(name, leaf, known.get(field), may_be_unset)


def _check_leaf(name: str, leaf: Any, number: Number | None, may_be_unset: bool) -> None:
    value = as_numbers(name, leaf)
    check_shape(name, value, ())
    if number is None:
        check_number(name, value, -math.inf)
    elif number.default != "auto" or not is_unset(value):
        check_number(name, value, number.least, number.most)
    elif not may_be_unset:
        raise ValueError(
            f'{name}: is still "auto"; give a number, or estimate it with '
            "memjax.calibrate(network, params, images, labels)."
        )


def settle_params(network: Any, params: Any) -> Any:
    """Return checked params as float32 arrays, since a Python float would compile anew."""
    check_params(network, params)
    return jax.tree.map(as_float32, params)


def as_float32(number: Any) -> jax.Array:
    """Return a number, or numbers for a sweep, as float32; what is too large for it is infinite."""
    with np.errstate(over="ignore"):
        return jnp.asarray(number, jnp.float32)


def _as_param(name: str, value: Any, number: Number | None) -> jax.Array:
    """Return a checked number as float32; "auto" as what stands for it."""
    if isinstance(value, str) and number is not None and number.default == "auto":
        check_choice(name, value, ("auto",))
        return as_float32(_UNSET)
    least, most = (-math.inf, math.inf) if number is None else number[1:3]
    check_number(name, value, least, most)
    return as_float32(value)


def _is_named(node: Any) -> bool:
    return hasattr(node, "_fields")
