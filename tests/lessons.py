"""Two ways to teach a layer the same examples, which must come to the same."""

import jax
import jax.numpy as jnp
import numpy as np


def learn_one_by_one(layer, params, xs, labels=None):
    """Return the state, the codes [N, ...] and the infos of single steps."""
    labels = _labels(xs, labels)
    step = jax.jit(layer.step)
    state, codes, infos = layer.init(jax.random.key(0)), [], []
    for x, label in zip(xs, labels, strict=True):
        state, code, info = step(params, state, jnp.asarray(x), jnp.int32(label))
        codes.append(code)
        infos.append(info)
    return state, np.stack(codes), jax.tree.map(lambda *leaves: np.stack(leaves), *infos)


def learn_in_blocks(layer, params, xs, block_size, labels=None):
    """Return the state, the codes [N, ...] and the infos of blocks, the last one filled up."""
    labels = _labels(xs, labels)
    step_block = jax.jit(layer.step_block)
    state, parts = layer.init(jax.random.key(0)), []
    for start in range(0, len(xs), block_size):
        rows = slice(start, start + block_size)
        count = len(labels[rows])
        # What fills up a block must not matter.
        filled = [
            np.pad(some, [(0, block_size - count)] + [(0, 0)] * (some.ndim - 1), constant_values=2)
            for some in (np.asarray(xs)[rows], labels[rows])
        ]
        state, codes, infos = step_block(params, state, *map(jnp.asarray, filled), jnp.int32(count))
        parts.append(jax.tree.map(lambda leaf, count=count: leaf[:count], (codes, infos)))
    codes, infos = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return state, codes, infos


def _labels(xs, labels):
    return np.full(len(xs), -1, np.int32) if labels is None else np.asarray(labels, np.int32)
