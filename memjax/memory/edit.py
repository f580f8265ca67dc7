"""Memories edited: other room, fewer memories, and banks learned apart that become one.

All functions are pure, and work under ``jit`` and ``vmap``. The network, the capacity and the
number of classes are static.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from memjax._checks import (
    brackets,
    check_array,
    check_integers,
    check_kind,
    check_positive,
    check_shape,
    check_whole,
)
from memjax._numerics import minimum
from memjax._places import vary_alike, vary_as
from memjax.base import FixedLayer, Layer, check_state, replace_layers, walk
from memjax.distances import Distance
from memjax.memory._rule import usefulness
from memjax.memory._state import MemoryParams, MemoryState, counters_from, voted_labels
from memjax.params import check_params, like

# Memories whose distances are computed at a time, where only those of one label are asked for.
_TILE = 512

__all__ = ["forget", "merge", "resize"]


def resize(
    network: Layer,
    params: Any,
    state: Any,
    capacity: int | None = None,
    num_classes: int | None = None,
) -> tuple[Layer, Any, Any]:
    r"""Return a network with another capacity or more classes, that knows what it knew.

    More room changes no answer: the new rows are free. More classes change none either: no memory
    has a vote for them yet. If the memories of a bank are too many for a smaller capacity, two
    memories $a, b$ that vote for the same label become one, again and again:

    $$m = \frac{n_a m_a + n_b m_b}{n_a + n_b}, \qquad n = n_a + n_b, \qquad v = v_a + v_b, \qquad
    t = \min(t_a, t_b) .$$

    They are the two that are the cheapest to merge, with the cost
    $d(m_a, m_b)\, n_a n_b / (n_a + n_b)$. For the squared Euclidean distance this is how much the
    squared distances from the examples to their memory grow, in sum.

    If all memories that are left vote for different labels, those with the fewest wins per example
    since they were stored, $n_k / (T - t_k + 1)$, are dropped.

    Each merge takes a look at all memories of one label, and so does the search for the cheapest
    partner of a memory. Beside the bank, a few numbers for each memory are held, and no table of
    all distances.

    Args:
        network: a ``MemoryLayer``, or a network that learns in such banks only.
        params: its numbers, which stay as they are.
        state: what it has learned.
        capacity: the new K of every bank; None leaves it.
        num_classes: the new C of every bank, not less than before; None leaves it.

    Returns:
        The new network, its params and its state.

    Raises:
        TypeError, ValueError: an argument has another type, shape or range, another layer than a
            bank learns, or a bank lies over devices.

    Source: the cost is that of Ward (1963), "Hierarchical grouping to optimize an objective
    function".

    Example:
        >>> import memjax
        >>> bank = memjax.MemoryLayer(num_features=1, num_classes=2, capacity=3)
        >>> params, state = bank.params(novelty_threshold=0.0), bank.init(jax.random.key(0))
        >>> xs, labels = jnp.array([[0.0], [1.0], [5.0]]), jnp.array([0, 0, 1])
        >>> state, _ = memjax.fit(bank, params, state, xs, labels)
        >>> bank, params, state = resize(bank, params, state, capacity=2, num_classes=4)
        >>> state.prototypes.tolist(), state.votes.tolist()
        ([[0.5], [5.0]], [[2, 0, 0, 0], [0, 1, 0, 0]])
    """
    if capacity is None and num_classes is None:
        raise TypeError("capacity: expected a new capacity, or a new num_classes, got neither.")
    if capacity is not None:
        check_positive("capacity", capacity)
    if num_classes is not None:
        check_positive("num_classes", num_classes)
    banks = _check_network(network, state)
    check_params(network, params, may_be_unset=True)
    for bank in banks:
        if num_classes is not None and num_classes < bank.num_classes:
            raise ValueError(
                f"num_classes: expected at least the {bank.num_classes} of the network, "
                f"got {num_classes}."
            )
    sizes = {"capacity": capacity, "num_classes": num_classes}
    sizes = {name: size for name, size in sizes.items() if size is not None}

    def replace(layer):
        if _is_bank(layer):
            return dataclasses.replace(layer, **sizes)
        return replace_layers(layer, replace)

    def change(layer, bank):
        layer = replace(layer)
        more = layer.num_classes - bank.votes.shape[1]
        bank = bank._replace(votes=jnp.pad(bank.votes, ((0, 0), (0, more))))
        return _fit(layer.distance, layer.capacity, bank, _in_use(bank))

    return replace(network), params, _change_banks(network, (state,), change)


def forget(
    network: Layer,
    state: Any,
    *,
    label: int | None = None,
    indices: Any = None,
    mask: Any = None,
) -> Any:
    """Return the state without the memories of a label, or without some memories of a bank.

    With ``label``, every memory that votes for it goes, and so do its votes in all others: it is
    never an answer again until it is learned again. The memories that stay keep their order, and
    the rows that become free are at the end. An answer stays the same, up to rounding, if none of
    its neighbours in recall (the k that vote, and the next one) has changed, and at least 2 k
    memories are left.

    Some traces of what was learned stay. A memory is a mean: one that stays still contains the
    examples of the label that it has learned, in its prototype and in its count. The memories were
    also placed in the presence of those that are gone. ``num_seen`` and ``distance_counts`` still
    count all examples. To leave no trace at all, learn anew without them.

    Args:
        network: a ``MemoryLayer``, or a network that learns in such banks only.
        state: what it has learned.
        label: the class to forget, 0 to C - 1, in all banks.
        indices: integers [n], the memories to forget, if the network has one bank. Under ``jit``
            those that are not in use are ignored.
        mask: bool [K], which memories to forget, if the network has one bank. Free rows are
            ignored, so ``mask=state.counts < 2`` is one.

    Raises:
        TypeError, ValueError: not exactly one of the last three is given, an argument has another
            type, shape or range, another layer than a bank learns, or a bank lies over devices.

    Example:
        >>> import memjax
        >>> bank = memjax.MemoryLayer(num_features=1, num_classes=2, capacity=3)
        >>> params, state = bank.params(novelty_threshold=0.0), bank.init(jax.random.key(0))
        >>> xs, labels = jnp.array([[0.0], [1.0], [5.0]]), jnp.array([0, 0, 1])
        >>> state, _ = memjax.fit(bank, params, state, xs, labels)
        >>> forget(bank, state, label=0).prototypes.tolist()
        [[5.0], [0.0], [0.0]]
        >>> forget(bank, state, indices=[1]).prototypes.tolist()
        [[0.0], [5.0], [0.0]]
    """
    given = {"label": label, "indices": indices, "mask": mask}
    given = [name for name, value in given.items() if value is not None]
    if len(given) != 1:
        raise TypeError(
            "label: expected exactly one of label, indices and mask, "
            f"got {' and '.join(given) or 'none of them'}."
        )
    banks = _check_network(network, state)
    if label is None and len(banks) > 1:
        raise ValueError(f"{given[0]}: expected a network with one bank, got {len(banks)} banks.")

    def change(layer, bank):
        if label is not None:
            goes = voted_labels(bank.votes) == _check_label(label, layer.num_classes)
            bank = bank._replace(votes=bank.votes.at[:, label].set(0))
        elif mask is not None:
            goes = _check_mask(mask, layer.capacity)
        else:
            goes = _rows_from(indices, bank)
        return _fit(layer.distance, layer.capacity, bank, _in_use(bank) & ~goes)

    return _change_banks(network, (state,), change)


def merge(network: Layer, params: Any, states: Sequence[Any]) -> Any:
    """Return one state with the memories of several states of a network, learned apart.

    Each bank has the memories of its parts, in their order, with their counts and votes. If they
    are more than its capacity, they are made fewer as ``resize`` does it. Examples count as if the
    parts had been learned one after the other: a memory of the second was stored after all examples
    of the first.

    It is not what one pass over all examples would learn: no part knew what the others had stored.
    All parts must be learned with the same params. A threshold that is "auto" is therefore
    estimated once, with ``memjax.calibrate``, and given to all of them.

    Args:
        network: a ``MemoryLayer``, or a network that learns in such banks only.
        params: the numbers that all parts were learned with.
        states: at least one state of the network, in the order of their streams.

    Raises:
        TypeError, ValueError: an argument has another type, shape or range, another layer than a
            bank learns, fixed layers differ between the states, or a bank lies over devices.

    Example:
        >>> import memjax
        >>> bank = memjax.MemoryLayer(num_features=1, num_classes=2, capacity=3)
        >>> params, empty = bank.params(novelty_threshold=0.0), bank.init(jax.random.key(0))
        >>> xs, labels = jnp.array([[0.0], [1.0], [5.0]]), jnp.array([0, 0, 1])
        >>> one, _ = memjax.fit(bank, params, empty, xs[:2], labels[:2])
        >>> other, _ = memjax.fit(bank, params, empty, xs[2:], labels[2:])
        >>> state = merge(bank, params, [one, other])
        >>> state.prototypes.tolist(), state.stored_at.tolist(), int(state.num_seen)
        ([[0.0], [1.0], [5.0]], [0, 1, 2], 3)
    """
    if not isinstance(states, list | tuple) or hasattr(states, "_fields"):
        raise TypeError(f"states: expected a list of states, got {type(states).__name__}.")
    if not states:
        raise ValueError("states: expected at least one state, got none.")
    for index, state in enumerate(states):
        _check_network(network, state, f"states[{index}]")
    check_params(network, params)

    def change(layer, *banks):
        parts, num_seen = [], jnp.zeros_like(banks[0].num_seen)
        for bank in banks:
            parts.append(bank._replace(stored_at=bank.stored_at + num_seen))
            num_seen = num_seen + bank.num_seen
        columns = MemoryState(*zip(*parts, strict=True))
        joined = MemoryState(
            prototypes=jnp.concatenate(columns.prototypes),
            counts=jnp.concatenate(columns.counts),
            averaged=jnp.concatenate(columns.averaged),
            votes=jnp.concatenate(columns.votes),
            stored_at=jnp.concatenate(columns.stored_at),
            size=sum(columns.size),
            num_seen=num_seen,
            distance_counts=sum(columns.distance_counts),
        )
        is_used = jnp.concatenate([_in_use(bank) for bank in banks])
        return _fit(layer.distance, layer.capacity, joined, is_used)

    return _change_banks(network, states, change)


def _is_bank(layer: Layer) -> bool:
    return layer.params_kind is MemoryParams


def _check_network(network: Layer, state: Any, name: str = "state") -> list[Any]:
    """Return the banks of a network, after checks; they are all that it learns in."""
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state, name)
    params, _ = like(network)
    banks = []
    for layer, own_params, own_state in walk(network, params, state):
        if _is_bank(layer):
            banks.append(layer)
        elif not layer.parts(own_params, own_state) and not isinstance(layer, FixedLayer):
            raise ValueError(
                "network: expected one that learns in banks of memories only, got one with "
                f"{type(layer).__name__}."
            )
    if not banks:
        raise ValueError(
            f"network: expected one with a bank of memories, got one without "
            f"({type(network).__name__})."
        )
    if any(bank.mesh is not None for bank in banks):
        raise ValueError(
            "network: expected memories on one device, got a bank over devices; gather the state "
            "with memjax.devices.gather_to_host, and give the network as it was before "
            "memjax.shard."
        )
    return banks


def _check_label(label: Any, num_classes: int) -> Any:
    if not isinstance(label, Tracer):
        check_whole("label", label)
        if label >= num_classes:
            raise ValueError(f"label: expected a class from 0 to {num_classes - 1}, got {label}.")
    return label


def _rows_from(indices: Any, bank: MemoryState) -> jax.Array:
    """Return which rows of a bank some indices name, bool [K]."""
    if isinstance(indices, list | tuple):
        indices = np.asarray(indices, None if indices else np.int32)
    check_array("indices", indices)
    check_integers("indices", indices)
    if indices.ndim != 1:
        raise ValueError(f"indices: expected [n], got {brackets(indices.shape)}.")
    capacity = bank.counts.shape[0]
    if not isinstance(indices, Tracer):
        size = capacity if isinstance(bank.size, Tracer) else int(bank.size)
        for index in np.asarray(indices).tolist():
            if not 0 <= index < size:
                raise ValueError(
                    f"indices: expected memories in use, 0 to {size - 1}, got {index}."
                )
    indices = jnp.asarray(indices, jnp.int32)
    # A negative index would count from the end.
    places = jnp.where(indices < 0, capacity, indices)
    return jnp.zeros((capacity,), bool).at[places].set(True, mode="drop")


def _check_mask(mask: Any, capacity: int) -> jax.Array:
    check_array("mask", mask)
    check_shape("mask", mask, (capacity,))
    if mask.dtype != bool:
        raise TypeError(f"mask: expected booleans, got {mask.dtype}.")
    return jnp.asarray(mask)


def _change_banks(network: Layer, states: Sequence[Any], change: Callable[..., MemoryState]) -> Any:
    """Return the first state with ``change(layer, *its banks in all states)`` for each bank."""
    params, _ = like(network)
    all_leaves = [jax.tree.leaves(state) for state in states]
    leaves, structure = jax.tree.flatten(states[0])
    # A state of numbers, each of which says where a leaf lies.
    places = jax.tree.unflatten(structure, range(len(leaves)))
    rest = set(range(len(leaves)))
    for part in walk(network, params, places):
        if _is_bank(part.layer):
            banks = [
                MemoryState(*(jnp.asarray(found[place]) for place in part.state))
                for found in all_leaves
            ]
            changed = change(part.layer, *banks)
            for place, leaf in zip(part.state, changed, strict=True):
                leaves[place] = leaf
            rest -= set(part.state)
    for index, found in enumerate(all_leaves):
        if not all(_is_equal(leaves[place], found[place]) for place in rest):
            raise ValueError(
                f"states[{index}]: expected the fixed layers of states[0], got others; begin all "
                "parts with the same key."
            )
    return jax.tree.unflatten(structure, leaves)


def _is_equal(one: Any, other: Any) -> bool:
    is_traced = isinstance(one, Tracer) or isinstance(other, Tracer)
    return is_traced or one is other or np.array_equal(one, other)


def _in_use(bank: MemoryState) -> jax.Array:
    return lax.iota(jnp.int32, bank.counts.shape[0]) < bank.size


@partial(jax.jit, static_argnums=(0, 1))
def _fit(distance: Distance, capacity: int, bank: MemoryState, is_used: jax.Array) -> MemoryState:
    """Return a bank of some capacity with the memories of another that are in use, bool [R].

    The memories are made fewer if they are too many. They keep their order.
    """
    if is_used.shape[0] > capacity:
        bank, is_used = _merge_cheapest(distance, capacity, bank, is_used)
        worth = jnp.where(is_used, usefulness(counters_from(bank), bank.num_seen), jnp.inf)
        places = jnp.argsort(jnp.argsort(worth, stable=True))
        is_used &= places >= _number(is_used) - capacity
    order = jnp.argsort(~is_used, stable=True)[:capacity]
    size = _number(is_used)

    def take(rows):
        is_free = lax.broadcasted_iota(jnp.int32, (len(order), *rows.shape[1:]), 0) >= size
        rows = jnp.where(is_free, 0, rows[order])
        return jnp.pad(rows, [(0, capacity - len(order))] + [(0, 0)] * (rows.ndim - 1))

    rows = bank.prototypes, bank.counts, bank.averaged, bank.votes, bank.stored_at
    return MemoryState(*map(take, rows), size, bank.num_seen, bank.distance_counts)


def _rows(bank: MemoryState, order: jax.Array) -> MemoryState:
    """Return a bank with its rows in another order."""
    return bank._replace(
        prototypes=bank.prototypes[order],
        counts=bank.counts[order],
        averaged=bank.averaged[order],
        votes=bank.votes[order],
        stored_at=bank.stored_at[order],
    )


def _number(is_used: jax.Array) -> jax.Array:
    return jnp.sum(is_used, dtype=jnp.int32)


class _Search(NamedTuple):
    """Memories that are being merged, and what is known of the cheapest partner of each.

    A bound stays true when other memories are merged. So a partner is looked for again only where
    the bound is the smallest of all.
    """

    bank: MemoryState
    is_used: jax.Array  # bool [R]
    bounds: jax.Array  # float32 [R]: no partner costs less; inf where there is none
    partners: jax.Array  # int32 [R]: a memory of the same label
    is_found: jax.Array  # bool [R]: whether the partner is the cheapest, and costs the bound


def _merge_cheapest(
    distance: Distance, capacity: int, bank: MemoryState, is_used: jax.Array
) -> tuple[MemoryState, jax.Array]:
    """Merge the two cheapest memories of the same label until they fit, or no label has two.

    Returns:
        The bank, and which of its rows are in use, bool [R].
    """
    num_rows, num_classes = bank.votes.shape
    tile = min(_TILE, num_rows)
    indices = lax.iota(jnp.int32, num_rows)
    # A merged memory votes for what both have voted for, so the labels stay.
    labels = jnp.where(is_used, voted_labels(bank.votes), num_classes)
    # Side by side, those of one label are read without the others.
    order = jnp.argsort(labels, stable=True)
    labels, bank, is_used = labels[order], _rows(bank, order), is_used[order]
    starts = jnp.searchsorted(labels, labels).astype(jnp.int32)
    stops = jnp.searchsorted(labels, labels, side="right").astype(jnp.int32)

    def costs_from(memory, row, bank):
        """Return the costs [R] to merge a row with others of its label, and inf elsewhere."""

        def fill(index, distances):
            start = jnp.minimum(index * tile, num_rows - tile)
            rows = lax.dynamic_slice_in_dim(bank.prototypes, start, tile)
            found = distance.to_memories(memory, rows)
            return lax.dynamic_update_slice_in_dim(distances, found, start, 0)

        nothing = vary_as(bank.counts, jnp.zeros((num_rows,), jnp.float32))
        distances = lax.fori_loop(starts[row] // tile, -(-stops[row] // tile), fill, nothing)
        # A free row has learned from nobody; the 1 keeps a NaN out of what nobody asks for.
        counts = jnp.maximum(bank.counts, 1).astype(jnp.float32)
        costs = distances * (counts * counts[row] / (counts + counts[row]))
        return jnp.where((labels == labels[row]) & (indices != row), costs, jnp.inf)

    def goes_on(search):
        return (_number(search.is_used) > capacity) & (jnp.min(search.bounds) < jnp.inf)

    def turn(search):
        """Merge the cheapest two; or look for the partner of one memory, and leave it as it is."""
        bank, is_used, bounds, partners, is_found = search
        _, one = minimum(bounds)
        merges = is_found[one]
        other = jnp.where(merges, partners[one], one)
        kept, gone = jnp.minimum(one, other), jnp.maximum(one, other)
        count = jnp.where(merges, bank.counts[gone], 0)
        both = jnp.maximum(bank.counts[kept] + count, 1)
        rate = count.astype(jnp.float32) / both.astype(jnp.float32)
        memory, away = bank.prototypes[kept], bank.prototypes[gone] - bank.prototypes[kept]
        memory = memory + rate * away
        averages = merges & jnp.any(away != 0)
        bank = bank._replace(
            prototypes=bank.prototypes.at[kept].set(memory),
            counts=bank.counts.at[kept].add(count),
            averaged=bank.averaged.at[kept].add(jnp.where(averages, bank.averaged[gone], 0)),
            votes=bank.votes.at[kept].add(jnp.where(merges, bank.votes[gone], 0)),
            stored_at=bank.stored_at.at[kept].min(bank.stored_at[gone]),
        )
        is_used = is_used.at[gone].set(~merges)
        is_found &= ~(merges & ((partners == kept) | (partners == gone)))

        costs = jnp.where(is_used, costs_from(memory, kept, bank), jnp.inf)
        is_cheaper = costs < bounds
        bound, partner = minimum(costs)
        return _Search(
            bank,
            is_used,
            jnp.where(is_cheaper, costs, bounds).at[gone].set(jnp.inf).at[kept].set(bound),
            jnp.where(is_cheaper, kept, partners).at[kept].set(partner),
            (is_found | is_cheaper).at[kept].set(True),
        )

    bounds = jnp.where(is_used, jnp.float32(0), jnp.inf)
    search = _Search(bank, is_used, bounds, indices, jnp.zeros_like(is_used))
    search = lax.while_loop(goes_on, turn, _Search(*vary_alike(*search)))
    order = jnp.argsort(order)
    return _rows(search.bank, order), search.is_used[order]
