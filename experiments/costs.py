"""What a program costs: its operations, the bytes that it moves, and its products alone.

The compiler counts the operations and the bytes of the very program that runs (``cost_analysis``
of a CPU program), but it counts the body of a loop once. Here the body of a loop is counted as
often as the loop turns. A loop that turns on demand counts for nothing: memjax puts work there that
an example seldom asks for, such as the search that follows a surprise in a full bank. Where memjax
multiplies only the memories in use, all of them are taken to be in use.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.extend.core.primitives import closed_call_p
from jax.interpreters.partial_eval import dce_jaxpr, dce_rules


class Cost(NamedTuple):
    """What a program costs."""

    operations: float  # on floating-point numbers, and the few on integers
    bytes: float  # read and written by the parts of the program

    def times(self, number: float) -> "Cost":
        """Return the cost of ``number`` such programs."""
        return Cost(self.operations * number, self.bytes * number)

    def plus(self, other: "Cost") -> "Cost":
        """Return the cost of both programs."""
        return Cost(self.operations + other.operations, self.bytes + other.bytes)


def count(
    function: Callable[..., Any], *arguments: Any, donated: Sequence[int] = (), turns: int = 0
) -> Cost:
    """Return what a call of a function costs once it is compiled, with every turn of its loops.

    Args:
        function: one that JAX can trace.
        *arguments: pytrees of arrays, or of their shapes as ``jax.ShapeDtypeStruct``.
        donated: which arguments may be written over, so that a state is changed in place.
        turns: of a loop that runs up to a number which the program computes.

    Example:
        >>> matrix = jax.ShapeDtypeStruct((8, 8), "float32")
        >>> count(lambda a, b: a @ b, matrix, matrix)  # 2 * 8 * 8 * 8, and three matrices
        Cost(operations=1024.0, bytes=768.0)
    """
    total = _as_compiled(function, arguments, donated)
    for equation in _equations(_traced(function, arguments)):
        if loop := _loop(equation, turns):
            inputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in loop.body.in_avals]
            run = jaxpr_as_fun(loop.body)
            if loop.turns:
                once = count(run, *inputs, donated=loop.carried, turns=turns)
                total = total.plus(once.times(loop.turns))
            # The compiler has counted it once.
            total = total.plus(_as_compiled(run, inputs, loop.carried).times(-1))
    return total


def products(function: Callable[..., Any], *arguments: Any, turns: int = 0) -> float:
    """Return the floating-point operations of the matrix products in a call of a function.

    Arguments are those of ``count``.

    Example:
        >>> matrix = jax.ShapeDtypeStruct((8, 8), "float32")
        >>> products(lambda a, b: jax.numpy.sin(a @ b), matrix, matrix)
        1024.0
    """

    def total(jaxpr: Jaxpr) -> float:
        found = 0.0
        for equation in _equations(jaxpr, unopened=(*_LOOPS, "cond")):
            if loop := _loop(equation, turns):
                found += loop.turns * total(loop.body.jaxpr)
            elif equation.primitive.name == "cond":  # only one branch is taken
                found += max(total(branch.jaxpr) for branch in equation.params["branches"])
            elif equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                shape = equation.invars[0].aval.shape
                summed = math.prod(shape[axis] for axis in contracted)
                found += 2.0 * equation.outvars[0].aval.size * summed
        return found

    return total(_traced(function, arguments))


def _without_unused(is_used: list[bool], equation: Any) -> tuple[list[bool], Any]:
    """Return which inputs a call of ``custom_vmap`` needs, and the call without the rest."""
    called = equation.params["call"]
    body, needs = dce_jaxpr(called.jaxpr, is_used)
    if not any(is_used):
        return needs, None
    return needs, equation.replace(
        primitive=closed_call_p,
        invars=[one for one, is_needed in zip(equation.invars, needs, strict=True) if is_needed],
        outvars=[one for one, is_asked in zip(equation.outvars, is_used, strict=True) if is_asked],
        params={"call_jaxpr": ClosedJaxpr(body, called.consts)},
    )


# JAX has no rule of its own for these calls, which the compiler looks into.
_traced_call = jax.make_jaxpr(jax.custom_batching.sequential_vmap(lambda x: x))(0.0)
dce_rules[_traced_call.eqns[0].primitive] = _without_unused


class _Loop(NamedTuple):
    turns: int  # 0 for one on demand
    body: ClosedJaxpr
    carried: range  # the inputs that the next turn gets anew


def _traced(function: Callable[..., Any], arguments: Sequence[Any]) -> Jaxpr:
    """Return the program of a call without what nobody asks for, as the compiler leaves it out."""
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    return dce_jaxpr(traced, [True] * len(traced.outvars), instantiate=True)[0]


def _as_compiled(
    function: Callable[..., Any], arguments: Sequence[Any], donated: Sequence[int]
) -> Cost:
    """Return the compiler's own count, which has the body of each loop once."""
    compiled = jax.jit(function, donate_argnums=tuple(donated)).lower(*arguments).compile()
    found = compiled.cost_analysis() or {}
    return Cost(found.get("flops", 0.0), found.get("bytes accessed", 0.0))


_LOOPS = ("scan", "while")


def _equations(jaxpr: Jaxpr, unopened: Sequence[str] = _LOOPS) -> Iterator[Any]:
    """Yield the equations of a program and of the programs inside all but ``unopened`` ones."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name not in unopened:
            for inner in jax.tree.leaves(list(equation.params.values())):
                if isinstance(inner, ClosedJaxpr):
                    yield from _equations(inner.jaxpr, unopened)


def _loop(equation: Any, turns: int) -> _Loop | None:
    """Return the loop that an equation is, None if it is none."""
    params = equation.params
    if equation.primitive.name == "scan":
        first, number = params["num_consts"], params["num_carry"]
        return _Loop(params["length"], params["jaxpr"], range(first, first + number))
    if equation.primitive.name == "while":
        body, asks = params["body_jaxpr"], params["cond_jaxpr"].jaxpr.eqns
        counts = any(equation.primitive.name == "lt" for equation in asks)
        return _Loop(turns * counts, body, range(params["body_nconsts"], len(body.in_avals)))
    return None
