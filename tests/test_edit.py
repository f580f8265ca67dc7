"""Memories edited: other room, fewer memories, and banks learned apart that become one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import ReferenceMemory

import memjax
from memjax.memory import MemoryState, voted_labels

COLOUR = (4, 4, 3)
DISTANCES = ("squared_euclidean", "cosine", "manhattan")


def examples(number, seed=0, shape=(5,), num_classes=3):
    """Random inputs, a third of them beside their class, and labels, some of them unknown."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, number).astype(np.int32)
    centres = np.random.default_rng(99).random((num_classes, *shape))
    xs = centres[labels] + 0.4 * generator.random((number, *shape))
    labels[::7] = -1
    return xs.astype(np.float32), labels


def learned(layer, params, number=60, seed=0, state=None):
    """The state after one pass over some examples."""
    xs, labels = examples(number, seed, layer.input_shape)
    state = layer.init(jax.random.key(0)) if state is None else state
    return memjax.fit(layer, params, state, xs, labels)[0]


def bank_of(capacity=40, **fields):
    bank = memjax.MemoryLayer(5, num_classes=3, capacity=capacity, num_neighbours=3, **fields)
    return bank, bank.params(novelty_threshold=0.02)


def colour_network(capacity=40):
    return memjax.memory_network(COLOUR, 3, capacity=capacity, novelty_threshold=0.02)


def networks():
    """A bank, channel voting, and the same in the mirror."""
    network, params = colour_network()
    # In the mirror every example is learned twice.
    mirrored, _ = colour_network(80)
    return {
        "bank": bank_of(),
        "colour": (network, params),
        "mirrored": (memjax.Mirrored(mirrored), params),
        "concatenate": (memjax.Concatenate((bank_of()[0],) * 2), (bank_of()[1],) * 2),
    }


# Networks of several banks compile for longest, and are tried with the long tests.
LONG = ("colour", "mirrored", "concatenate")
each_network = pytest.mark.parametrize(
    ("network", "params"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.long] * (name in LONG))
        for name, case in networks().items()
    ],
)


def banks_in(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, MemoryState))
    return [leaf for leaf in leaves if isinstance(leaf, MemoryState)]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_free_rows_hold_zeros(bank):
    for rows in (bank.prototypes, bank.counts, bank.votes, bank.stored_at):
        assert not np.any(rows[int(bank.size) :])


# More room, more classes


@each_network
def test_more_room_changes_no_answer(network, params):
    state = learned(network, params)
    xs, _ = examples(50, 3, network.input_shape)
    larger, same, grown = memjax.resize(network, params, state, capacity=90)
    assert_same(same, params)
    expected = network.recall_block(params, state, xs)
    assert_same(larger.recall_block(params, grown, xs), expected)
    assert {bank.counts.shape for bank in banks_in(grown)} == {(90,)}


@each_network
def test_learning_goes_on_as_if_the_room_had_always_been_there(network, params):
    state = learned(network, params, 20)
    assert all(bank.size < len(bank.counts) for bank in banks_in(state))
    larger, _, grown = memjax.resize(network, params, state, capacity=90)
    assert_same(
        learned(larger, params, 70, 1, grown),
        learned(larger, params, 70, 1, learned(larger, params, 20)),
    )


def test_a_full_bank_stores_again_when_it_has_more_room():
    bank, params = bank_of(6)
    state = learned(bank, params)
    assert int(state.size) == 6
    larger, _, state = memjax.resize(bank, params, state, capacity=9)
    assert int(learned(larger, params, 60, 1, state).size) == 9


@each_network
def test_more_classes_change_no_answer_and_can_be_learned(network, params):
    state = learned(network, params)
    xs, labels = examples(50, 3, network.input_shape)
    larger, _, grown = memjax.resize(network, params, state, num_classes=5)
    evidence = np.asarray(larger.recall_block(params, grown, xs))
    expected = np.asarray(network.recall_block(params, state, xs))
    np.testing.assert_array_equal(
        evidence.reshape(50, -1, 5)[:, :, :3], expected.reshape(50, -1, 3)
    )
    assert not evidence.reshape(50, -1, 5)[:, :, 3:].any()
    grown, _ = memjax.fit(larger, params, grown, xs + 3, np.where(labels < 0, 3, 4))
    for bank in banks_in(grown):
        assert set(voted_labels(bank.votes[: int(bank.size)]).tolist()) > {0, 1, 2, 4}


def test_learning_goes_on_as_if_the_classes_had_always_been_there():
    # Only a rare class depends on the number of classes, and only with supervised growth.
    bank, params = bank_of(supervised_growth=False)
    larger, _, grown = memjax.resize(bank, params, learned(bank, params, 20), num_classes=5)
    assert_same(
        learned(larger, params, 70, 1, grown),
        learned(larger, params, 70, 1, learned(larger, params, 20)),
    )


def test_room_and_classes_can_grow_at_once():
    bank, params = bank_of()
    larger, _, state = memjax.resize(bank, params, learned(bank, params), 50, 4)
    assert larger == dataclasses.replace(bank, capacity=50, num_classes=4)
    assert state.votes.shape == (50, 4)


# Fewer memories


@pytest.mark.parametrize("capacity", [1, 2, 4, 17, 39])
@pytest.mark.parametrize("name", DISTANCES)
def test_a_smaller_bank_is_what_a_slow_loop_makes_of_it(name, capacity):
    distance = getattr(memjax, name)
    bank, params = bank_of(distance=distance)
    state = learned(bank, params._replace(novelty_threshold=jnp.float32(0)), 50)
    assert int(state.size) == 40
    smaller, _, left = memjax.resize(bank, params, state, capacity=capacity)
    assert smaller == dataclasses.replace(bank, capacity=capacity)
    oracle = ReferenceMemory.of(bank, params, state)
    oracle.resize(smaller)
    assert int(left.size) == oracle.size == capacity
    for name in ("counts", "averaged", "votes", "stored_at"):
        np.testing.assert_array_equal(getattr(left, name), getattr(oracle, name))
    np.testing.assert_allclose(left.prototypes, oracle.prototypes, atol=1e-5)


@each_network
def test_merging_keeps_the_sums_of_counts_and_votes(network, params):
    state = learned(network, params)
    _, _, left = memjax.resize(network, params, state, capacity=12)
    for before, after in zip(banks_in(state), banks_in(left), strict=True):
        assert int(before.size) > int(after.size) == 12
        assert before.counts.sum() == after.counts.sum()
        assert_same(before.votes.sum(axis=0), after.votes.sum(axis=0))
        weigh = [np.asarray(b.counts) @ np.asarray(b.prototypes) for b in (before, after)]
        np.testing.assert_allclose(*weigh, rtol=1e-4)


def test_memories_that_fit_into_a_smaller_bank_stay_as_they_are():
    bank, params = bank_of()
    state = learned(bank, params, 20)
    size = int(state.size)
    smaller, _, left = memjax.resize(bank, params, state, capacity=size)
    for name in ("prototypes", "counts", "averaged", "votes", "stored_at"):
        assert_same(getattr(left, name), getattr(state, name)[:size])
    larger, _, grown = memjax.resize(smaller, params, left, capacity=40)
    assert larger == bank
    assert_same(grown, state)


# Forgetting


@each_network
def test_a_forgotten_label_is_never_an_answer(network, params):
    state = memjax.forget(network, learned(network, params), label=1)
    xs, _ = examples(100, 3, network.input_shape)
    evidence = np.asarray(network.recall_block(params, state, xs)).reshape(100, -1, 3)
    assert not evidence[:, :, 1].any()
    assert evidence[:, :, [0, 2]].any(axis=(1, 2)).all()
    for bank in banks_in(state):
        assert not bank.votes[:, 1].any()
        assert int(bank.size) > 0
        assert_free_rows_hold_zeros(bank)


def test_the_memories_of_other_labels_stay_in_their_order():
    bank, params = bank_of()
    state = learned(bank, params)
    stays = [k for k in range(int(state.size)) if int(voted_labels(state.votes)[k]) != 1]
    after = memjax.forget(bank, state, label=1)
    assert int(after.size) == len(stays) < int(state.size)
    for name in ("prototypes", "counts", "stored_at"):
        rows = getattr(after, name)[: len(stays)]
        assert_same(rows, getattr(state, name)[np.array(stays)])
    assert int(after.num_seen) == int(state.num_seen)
    assert_same(after.distance_counts, state.distance_counts)


def test_an_answer_stays_when_no_neighbour_was_touched():
    bank, params = bank_of(100)
    state = learned(bank, params, 150)
    xs, _ = examples(200, 3)
    _, neighbours = bank.nearest(state, xs, bank.num_neighbours + 1)
    gone = np.unique(np.asarray(neighbours)[0])
    after = memjax.forget(bank, state, indices=gone)
    assert int(after.size) >= 2 * bank.num_neighbours
    is_untouched = ~np.isin(np.asarray(neighbours), gone).any(axis=1)
    before, then = (
        np.asarray(bank.recall_block(params, s, jnp.asarray(xs))) for s in (state, after)
    )
    assert 20 < is_untouched.sum() < 200
    np.testing.assert_allclose(then[is_untouched], before[is_untouched], atol=1e-6)
    assert (then[~is_untouched] != before[~is_untouched]).any()


def test_an_answer_stays_when_a_label_is_forgotten_that_no_neighbour_met():
    bank, params = bank_of(100)
    state = learned(bank, params, 150)
    xs, _ = examples(200, 3)
    _, neighbours = bank.nearest(state, xs, bank.num_neighbours + 1)
    after = memjax.forget(bank, state, label=1)
    is_untouched = (np.asarray(state.votes)[np.asarray(neighbours), 1] == 0).all(axis=1)
    before, then = (
        np.asarray(bank.recall_block(params, s, jnp.asarray(xs))) for s in (state, after)
    )
    assert 20 < is_untouched.sum() < 200
    np.testing.assert_allclose(then[is_untouched], before[is_untouched], atol=1e-6)


def test_memories_forgotten_one_by_one_are_those_forgotten_at_once():
    bank, params = bank_of()
    state = learned(bank, params)
    one_by_one = state
    for index in (30, 11, 2, 0):  # from the end, since the rows after it move up
        one_by_one = memjax.forget(bank, one_by_one, indices=[index])
    at_once = memjax.forget(bank, state, indices=np.array([2, 30, 0, 11, 2]))
    assert_same(one_by_one, at_once)
    mask = np.isin(np.arange(40), [0, 2, 11, 30])
    assert_same(memjax.forget(bank, state, mask=mask), at_once)
    assert int(at_once.size) == int(state.size) - 4
    assert_free_rows_hold_zeros(at_once)


def test_forgetting_nothing_changes_nothing_and_forgetting_all_leaves_an_empty_bank():
    bank, params = bank_of()
    state = learned(bank, params, 20)
    assert_same(memjax.forget(bank, state, indices=[]), state)
    after = memjax.forget(bank, state, mask=jnp.ones(40, bool))
    assert int(after.size) == 0
    assert_free_rows_hold_zeros(after)


def test_free_rows_in_a_mask_are_ignored():
    bank, params = bank_of()
    state = learned(bank, params, 20)
    after = memjax.forget(bank, state, mask=state.counts < 2)
    assert int(after.size) == int((state.counts >= 2).sum())


def test_what_was_forgotten_can_be_learned_again():
    bank, params = bank_of()
    state = memjax.forget(bank, learned(bank, params), label=1)
    state = learned(bank, params, 60, 1, state)
    assert 1 in voted_labels(state.votes).tolist()


# Banks learned apart


@each_network
def test_one_state_merged_is_that_state(network, params):
    state = learned(network, params)
    assert_same(memjax.merge(network, params, [state]), state)


@each_network
def test_banks_that_fit_become_their_union(network, params):
    parts = [learned(network, params, number, seed) for seed, number in enumerate((9, 14, 11))]
    whole = memjax.merge(network, params, parts)
    for bank, *own in zip(banks_in(whole), *map(banks_in, parts), strict=True):
        sizes = [int(part.size) for part in own]
        assert int(bank.size) == sum(sizes) <= len(bank.counts)
        for name in ("prototypes", "counts", "averaged", "votes"):
            rows = [getattr(part, name)[:size] for part, size in zip(own, sizes, strict=True)]
            assert_same(getattr(bank, name)[: sum(sizes)], np.concatenate(rows))
        assert_free_rows_hold_zeros(bank)
        seen = [int(part.num_seen) for part in own]
        assert int(bank.num_seen) == sum(seen)
        starts = np.repeat(np.cumsum([0, *seen[:-1]]), sizes)
        stored_at = np.concatenate(
            [part.stored_at[:size] for part, size in zip(own, sizes, strict=True)]
        )
        assert_same(bank.stored_at[: sum(sizes)], starts + stored_at)
        assert_same(bank.distance_counts, sum(np.asarray(part.distance_counts) for part in own))


@pytest.mark.long
def test_classes_learned_apart_are_all_known_together():
    bank, params = bank_of(200)
    xs, labels = examples(120)
    empty = bank.init(jax.random.key(0))
    parts = [
        memjax.fit(bank, params, empty, xs[labels == label], labels[labels == label])[0]
        for label in range(3)
    ]
    whole = memjax.merge(bank, params, parts)
    xs, labels = examples(100, 3)
    is_known = labels >= 0
    assert memjax.evaluate(bank, params, whole, xs[is_known], labels[is_known]).accuracy > 0.9


def test_banks_that_do_not_fit_are_reduced_as_resize_does_it():
    bank, params = bank_of()
    parts = [learned(bank, params, 60, seed) for seed in range(3)]
    sizes = [int(part.size) for part in parts]
    assert sum(sizes) > 40
    larger = dataclasses.replace(bank, capacity=120)
    grown = [memjax.resize(bank, params, part, capacity=120)[2] for part in parts]
    union = memjax.merge(larger, params, grown)
    _, _, expected = memjax.resize(larger, params, union, capacity=40)
    assert_same(memjax.merge(bank, params, tuple(parts)), expected)


def test_learning_goes_on_after_a_merge():
    bank, params = bank_of(on_full="replace")
    state = memjax.merge(bank, params, [learned(bank, params, 60, seed) for seed in range(2)])
    state = learned(bank, params, 60, 2, state)
    assert int(state.num_seen) == 180
    assert int(state.stored_at.max()) >= 120


def test_fixed_layers_keep_their_state():
    bank = memjax.MemoryLayer(3, num_classes=3, capacity=40)
    network = memjax.Chain((memjax.RandomProjection(5, 3), bank))
    params = ((), bank.params(novelty_threshold=0.02))
    state = learned(network, params)
    for after in (
        memjax.resize(network, params, state, capacity=9)[2],
        memjax.forget(network, state, label=1),
        memjax.merge(network, params, [state, state]),
    ):
        assert_same(after[0], state[0])
    other = (state[0] + 1, state[1])
    with pytest.raises(ValueError, match=r"^states\[1\]: expected the fixed layers of states\[0\]"):
        memjax.merge(network, params, [state, other])


# Under transformations


def test_all_edits_work_under_jit():
    bank, params = bank_of()
    state = learned(bank, params)
    cases = [
        lambda state: memjax.resize(bank, params, state, 12, 4)[2],
        lambda state: memjax.forget(bank, state, label=1),
        lambda state: memjax.forget(bank, state, indices=jnp.array([3, 1])),
        lambda state: memjax.forget(bank, state, mask=state.counts < 2),
        lambda state: memjax.merge(bank, params, [state, state]),
    ]
    for case in cases:
        assert_same(jax.jit(case)(state), case(state))


def test_what_is_forgotten_may_be_traced():
    bank, params = bank_of()
    state = learned(bank, params, 20)
    by_label = jax.jit(lambda state, label: memjax.forget(bank, state, label=label))
    assert_same(by_label(state, 1), memjax.forget(bank, state, label=1))
    by_index = jax.jit(lambda state, indices: memjax.forget(bank, state, indices=indices))
    # Under jit nobody can say that these are not in use; they name no memory.
    assert_same(
        by_index(state, jnp.array([2, -1, 39, 40])), memjax.forget(bank, state, indices=[2])
    )


def test_the_members_of_a_sweep_are_edited_at_once():
    bank, params = bank_of()
    members = [learned(bank, params, 60, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    for edit in (
        lambda state: memjax.resize(bank, params, state, 12)[2],
        lambda state: memjax.forget(bank, state, label=1),
        lambda state: memjax.merge(bank, params, [state, state]),
    ):
        found = jax.vmap(edit)(stacked)
        for index, member in enumerate(members):
            jax.tree.map(
                lambda one, other, index=index: np.testing.assert_allclose(
                    one[index], other, rtol=1e-6
                ),
                found,
                edit(member),
            )


def test_no_edit_makes_a_nan():
    bank, params = bank_of()
    state = learned(bank, params, 20)
    with jax.debug_nans(True):
        memjax.resize(bank, params, state, 7)
        memjax.merge(bank, params, [state] * 3)
        memjax.forget(bank, state, label=1)
        # One member of a sweep has merged enough before the other.
        few = memjax.forget(bank, state, indices=jnp.arange(10))
        members = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, few)
        jax.vmap(lambda member: memjax.resize(bank, params, member, 7)[2])(members)


def test_a_state_of_numpy_arrays_is_edited_like_one_of_jax():
    bank, params = bank_of()
    state = learned(bank, params)
    host = memjax.devices.gather_to_host(state)
    assert_same(memjax.forget(bank, host, label=1), memjax.forget(bank, state, label=1))


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, TypeError, "capacity: expected a new capacity, or a new num_classes, got neither."),
        ({"capacity": 0}, ValueError, "capacity: expected a positive integer, got 0."),
        ({"capacity": 2.5}, TypeError, "capacity: expected a positive integer, got 2.5."),
        ({"num_classes": 2}, ValueError, "num_classes: expected at least the 3 of the network"),
        ({"num_classes": True}, TypeError, "num_classes: expected a positive integer, got True."),
    ],
)
def test_sizes_that_make_no_sense_are_refused(arguments, error, sentence):
    bank, params = bank_of()
    with pytest.raises(error) as caught:
        memjax.resize(bank, params, bank.init(jax.random.key(0)), **arguments)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, TypeError, "label: expected exactly one of label, indices and mask, got none of them"),
        ({"label": 0, "indices": [1]}, TypeError, "label: expected exactly one of label, indices"),
        ({"label": 3}, ValueError, "label: expected a class from 0 to 2, got 3."),
        ({"label": -1}, ValueError, "label: expected a whole number of at least 0, got -1."),
        ({"label": 1.0}, TypeError, "label: expected a whole number of at least 0, got 1.0."),
        ({"indices": 3}, TypeError, "indices: expected an array, got int."),
        ({"indices": [0.5]}, TypeError, "indices: expected integers, got float64."),
        ({"indices": [[1]]}, ValueError, "indices: expected [n], got [1, 1]."),
        ({"indices": [-1]}, ValueError, "indices: expected memories in use, 0 to "),
        ({"indices": [40]}, ValueError, "indices: expected memories in use, 0 to "),
        ({"mask": np.ones(40)}, TypeError, "mask: expected booleans, got float64."),
        ({"mask": np.ones(3, bool)}, ValueError, "mask: expected [40], got [3]."),
    ],
)
def test_what_cannot_be_forgotten_is_refused(arguments, error, sentence):
    bank, params = bank_of()
    with pytest.raises(error) as caught:
        memjax.forget(bank, learned(bank, params), **arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(sentence)


def test_single_memories_are_forgotten_in_a_single_bank_only():
    network, params = colour_network()
    for arguments in ({"indices": [0]}, {"mask": np.ones(40, bool)}):
        with pytest.raises(ValueError, match="expected a network with one bank, got 3 banks"):
            memjax.forget(network, learned(network, params), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "error", "sentence"),
    [
        (lambda state: [], ValueError, "states: expected at least one state, got none."),
        (lambda state: iter([state]), TypeError, "states: expected a list of states, got "),
        (lambda state: state, TypeError, "states: expected a list of states, got MemoryState."),
        (lambda state: [state, ()], ValueError, "states[1]: expected the structure"),
        (
            lambda state: [state, state._replace(counts=state.counts[:3])],
            ValueError,
            "states[1].counts: expected int32[40], got int32[3].",
        ),
    ],
)
def test_states_that_cannot_be_merged_are_refused(states, error, sentence):
    bank, params = bank_of()
    with pytest.raises(error) as caught:
        memjax.merge(bank, params, states(bank.init(jax.random.key(0))))
    assert str(caught.value).startswith(sentence)


def test_parts_without_a_common_threshold_are_refused():
    bank, _ = bank_of()
    with pytest.raises(ValueError, match='novelty_threshold: is still "auto"'):
        memjax.merge(bank, bank.params(), [bank.init(jax.random.key(0))])


def every_edit(network, params, state):
    return (
        lambda: memjax.resize(network, params, state, capacity=8),
        lambda: memjax.forget(network, state, label=0),
        lambda: memjax.merge(network, params, [state]),
    )


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (memjax.RidgeReadout(5, 3), "expected one that learns in banks of memories only, got one"),
        (memjax.Pixels((4, 4, 1)), "expected one with a bank of memories, got one without"),
        (memjax.Columns((8, 8, 1), 3, 2, 4), "banks of memories only, got one with Columns."),
        (
            memjax.Chain((bank_of(output="activations")[0], memjax.VoteReadout(40, 3))),
            "banks of memories only, got one with VoteReadout.",
        ),
        (dataclasses.replace(bank_of()[0], mesh=memjax.devices.memory_mesh()), "on one device"),
    ],
    ids=["readout", "no bank", "columns", "bank and readout", "over devices"],
)
def test_a_network_that_learns_elsewhere_is_refused(network, sentence):
    state = network.init(jax.random.key(0))
    for edit in every_edit(network, network.default_params(), state):
        with pytest.raises(ValueError, match=r"^network: .*" + sentence.replace(".", r"\.")):
            edit()


def test_what_is_no_network_is_refused():
    for edit in every_edit("bank", (), ()):
        with pytest.raises(TypeError, match=r"^network: expected a memjax layer, got str\."):
            edit()


def test_a_bank_whose_capacity_feeds_another_layer_is_refused():
    below = memjax.MemoryLayer(5, 3, 12, output="activations")
    network = memjax.Chain((below, memjax.MemoryLayer(12, 3, 12)))
    state = network.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"^layers\[1\]: expected a layer that takes \[8\]"):
        memjax.resize(network, network.default_params(), state, capacity=8)
