"""A sweep over devices: each trains its own members, and none waits for another.

The sweep is spread as docs/guides/several-devices.md spreads it. The tests run on 8 devices of one
CPU, see conftest.py.
"""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import memjax

NUM_MEMBERS = 8
COLLECTIVES = r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(-start)?\("

fit_all = jax.vmap(memjax.fit, in_axes=(None, 0, None, None, None))


def mesh_of(num_devices):
    devices = jax.devices()[:num_devices]
    return jax.make_mesh((num_devices,), ("member",), axis_types=(AxisType.Auto,), devices=devices)


def sweep_of(params, low, high):
    thresholds = jnp.linspace(low, high, NUM_MEMBERS)
    return jax.vmap(lambda t: memjax.replace_params(params, novelty_threshold=t))(thresholds)


def spread(network, mesh):
    """The guide's sweep over devices, not compiled yet."""
    by_member, whole = PartitionSpec("member"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            jax.vmap(partial(memjax.fit, network), in_axes=(0, None, None, None)),
            mesh=mesh,
            in_specs=(by_member, whole, whole, whole),
            out_specs=by_member,
        )
    )


def collectives(program) -> list[str]:
    """The lines of a compiled program in which devices speak to each other."""
    return [line for line in program.as_text().splitlines() if re.search(COLLECTIVES, line)]


def learned_apart(network, sweep, images, labels, num_devices):
    """Return what a sweep spread over devices learns, after a look at its program."""
    arguments = sweep, network.init(jax.random.key(0)), images, labels
    program = spread(network, mesh_of(num_devices)).lower(*arguments).compile()
    assert collectives(program) == []
    learned = program(*jax.device_put(arguments, program.input_shardings[0]))
    for leaf in jax.tree.leaves(learned):
        assert len(leaf.sharding.device_set) == num_devices
        shapes = {shard.data.shape[0] for shard in leaf.addressable_shards}
        assert shapes == {NUM_MEMBERS // num_devices}
    return learned


def assert_equal(mine, theirs):
    pairs = zip(*map(jax.tree_util.tree_leaves_with_path, (mine, theirs)), strict=True)
    for (path, own), (_, other) in pairs:
        # Distances to winners are sums that another number of members may round otherwise.
        tolerance = {".distance": 1e-5, ".distance_counts": 1}.get(str(path[-1]), 0)
        np.testing.assert_allclose(np.asarray(own), np.asarray(other), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("on_full", "num_devices"),
    [
        ("adapt", 4),
        ("replace", 4),
        ("ignore", 4),
        *(pytest.param("adapt", number, marks=pytest.mark.long) for number in (1, 2, 8)),
    ],
)
def test_members_spread_over_devices_learn_what_one_device_learns(
    on_full, num_devices, images, labels
):
    network, params = memjax.memory_network((6, 6, 1), 3, capacity=9, on_full=on_full)
    sweep = sweep_of(params, 0.0, 0.3)
    learned = learned_apart(network, sweep, images, labels, num_devices)
    alone = fit_all(network, sweep, network.init(jax.random.key(0)), images, labels)
    assert_equal(learned, alone)
    # Some members must find their bank full and others not, or the policies would not be asked.
    sizes = np.asarray(alone[0][1].size)
    assert sizes.max() == 9 > sizes.min() and len(np.unique(sizes)) > 2


@pytest.mark.long
def test_columnar_members_learn_on_their_device_what_its_share_learns_alone(images, labels):
    # Products of other numbers of members round otherwise, so it is the shares that are compared.
    columns = memjax.Columns((6, 6, 1), patch=3, places=2, capacity=5)
    eye = dataclasses.replace(columns, fixations=2, reach=2)
    network = memjax.Chain((eye, memjax.RidgeReadout(eye.output_shape[0], 3)))
    sweep = sweep_of(network.default_params(), 0.05, 0.95)
    learned = learned_apart(network, sweep, images, labels, num_devices=2)
    state = network.init(jax.random.key(0))
    for rows in (slice(0, 4), slice(4, 8)):
        share, learned_there = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (sweep, learned))
        assert_equal(learned_there, fit_all(network, share, state, images, labels))
    answers = jax.tree.leaves(learned[0][1])
    assert any((np.asarray(leaf)[0] != np.asarray(leaf)[-1]).any() for leaf in answers)


def test_a_sweep_that_is_only_placed_asks_all_devices_whether_one_must_search(images, labels):
    # Why the guide spreads by shard_map: a loop over members runs while any of them asks for it.
    network, params = memjax.memory_network((6, 6, 1), 3, capacity=9)
    by_member = NamedSharding(mesh_of(2), PartitionSpec("member"))
    placed = jax.device_put(sweep_of(params, 0.0, 1.0), by_member)
    together = jax.jit(jax.vmap(partial(memjax.fit, network), in_axes=(0, None, None, None)))
    state = network.init(jax.random.key(0))
    assert collectives(together.lower(placed, state, images, labels).compile())
