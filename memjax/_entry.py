"""The door of a layer: its inputs are checked, its fields settled, its eager calls compiled."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from memjax._checks import check_array, check_integers, check_shape, check_values
from memjax._places import in_auto_mesh, vary_alike

MOST_LEVELS = 30
"""How many layers may be inside one another: JAX traces them by recursion."""


def entry(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer's method behind its door: inputs are checked, and eager calls compiled.

    Without the checks an input of one number would be broadcast, and a missing label read twice.
    Under ``jit`` they cost nothing after the first call. Inputs [D], features, reach the method as
    float32; images as they are, since their dtype says their scale.
    """
    signature = inspect.signature(method)
    names = list(signature.parameters)[1:]
    is_block, is_step = method.__name__.endswith("_block"), method.__name__.startswith("step")

    def run(layer, *arguments):
        if is_step:  # learning is no function to be differentiated: its gradient is zero
            arguments = lax.stop_gradient(arguments)
        params, state, x, *rest = vary_alike(*arguments)

        def places(place):
            # A code lies as the batch does, and a state as it did before.
            code = place(x, 1) if is_block else place()
            return (jax.tree.map(place, state), code, code) if is_step else code

        return in_auto_mesh(partial(method, layer), places, params, state, x, *rest)

    compiled = jax.jit(run, static_argnums=0)

    @wraps(method)
    def enter(layer, *args, **kwargs):
        given = signature.bind(layer, *args, **kwargs)
        given.apply_defaults()
        arguments, shape = given.arguments, layer.input_shape
        x = arguments[names[2]]
        check_values(names[2], x, ("B", *shape) if is_block else shape)
        if is_step:
            label = arguments[names[3]]
            label = np.int32(label) if isinstance(label, int) else label
            arguments[names[3]] = label
            check_array(names[3], label)
            check_shape(names[3], label, x.shape[:1] if is_block else ())
            # What a layer without classes is told instead of labels does not matter.
            if classes_of(layer) is not None:
                check_integers(names[3], label)
                arguments[names[3]] = jnp.asarray(label, jnp.int32)
        if len(shape) == 1:
            arguments[names[2]] = jnp.asarray(x, jnp.float32)
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given.args[1:])):
            return compiled(*given.args)
        for name in names[:2]:  # a NumPy array cannot be read at a traced index
            arguments[name] = jax.tree.map(jnp.asarray, arguments[name])
        return run(*given.args)

    return enter


def classes_of(layer: Any) -> int | None:
    """Return C of a layer that knows its classes, None of any other."""
    return getattr(layer, "num_classes", None)


def settle_fields(layer: Any) -> None:
    """Make NumPy scalars in the fields of a frozen dataclass the numbers of Python that they are.

    An equal hash would let ``jit`` take one for the other, and their arithmetic differs.
    """

    def settle(value):
        if isinstance(value, np.generic):
            return value.item()
        return tuple(map(settle, value)) if type(value) is tuple else value

    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if (settled := settle(value)) is not value:
            object.__setattr__(layer, field.name, settled)


def check_levels(layer: Any) -> None:
    """Raise if a layer has layers inside one another too often."""
    level = [layer]
    for _ in range(MOST_LEVELS):
        # One that stands in several places is looked into once.
        level = list({id(part): part for one in level for part in _parts(one)}.values())
        if not level:
            return
    raise ValueError(
        f"{type(layer).__name__}: expected at most {MOST_LEVELS} layers inside one another, "
        "got more."
    )


def _parts(value: Any) -> list[Any]:
    """Return the dataclasses in the fields of one, and in the tuples in them."""
    found = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name, None)
        found += held if isinstance(held, tuple) else [held]
    return [part for part in found if dataclasses.is_dataclass(part) and not isinstance(part, type)]
