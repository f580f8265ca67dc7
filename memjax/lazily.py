"""Work that is done only where it is asked for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["when"]


def when(condition: jax.Array, compute: Callable[[], Any], otherwise: Any) -> Any:
    """Return ``compute()`` where the condition holds, at no cost where it does not.

    A loop of at most one turn: under ``vmap`` it runs when any member asks for it, where
    ``lax.cond`` would always run.
    """
    return lax.while_loop(
        lambda carry: carry[0],
        lambda carry: (jnp.zeros_like(carry[0]), compute()),
        (condition, otherwise),
    )[1]
