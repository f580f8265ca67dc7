"""Work that is done only where it is asked for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["max_over_members", "run_if"]


def run_if(
    condition: jax.Array, compute: Callable[..., Any], otherwise: Any, *operands: Any
) -> Any:
    """Return ``compute(*operands)`` where the condition holds, at no cost where it does not.

    A loop of at most one turn: under ``vmap`` it runs when any member asks for it, where
    ``lax.cond`` would always run. XLA moves out of a loop, and so runs always, what does not depend
    on what the loop carries; the operands do here, so all that costs must depend on one of them.
    """

    def turn(carry):
        _, is_first, _ = carry
        # Always the operand itself, which XLA cannot know.
        tied = jax.tree.map(lambda x: jnp.where(is_first, x, jnp.zeros_like(x)), operands)
        return jnp.zeros_like(condition), jnp.zeros_like(is_first), compute(*tied)

    begin = condition, jnp.asarray(True), otherwise
    return lax.while_loop(lambda carry: carry[0], turn, begin)[2]


@jax.custom_batching.custom_vmap
def max_over_members(value: jax.Array) -> jax.Array:
    """Return the value; under ``vmap`` the highest one among the members, alike for all.

    As the bound of a loop it lets all members take the turns that the longest needs. With a bound
    for each, ``vmap`` would copy the whole carry in every turn to undo what a member had not asked.
    """
    return value


@max_over_members.def_vmap
def _highest_of_members(axis_size: int, in_batched: list[bool], values: jax.Array):
    del axis_size
    return max_over_members(jnp.max(values, axis=0) if in_batched[0] else values), False
