"""Chains, votes and the ready-made network: shapes, joints, ballots and messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lessons import learn_in_blocks, learn_one_by_one

import memjax
from memjax.base import Layer
from memjax.composition import Chain, Concatenate, Reshape, Vote
from memjax.distances import cosine
from memjax.exemplars import Exemplars
from memjax.memory import MemoryLayer
from memjax.networks import SIZES, columnar_network, memory_network
from memjax.params import is_unset, replace_params
from memjax.projections import Decorrelation, RandomProjection, Standardisation
from memjax.readouts import RidgeReadout
from memjax.vision import Columns, Mirrored
from memjax.vision.encoders import ENCODERS, OrientedEdges, Pixels

KEY = jax.random.key(0)


# Compiled, since a network's single operations take longer one by one.
step = jax.jit(lambda network, *arguments: network.step(*arguments), static_argnums=0)
step_block = jax.jit(lambda network, *arguments: network.step_block(*arguments), static_argnums=0)
recall = jax.jit(lambda network, *arguments: network.recall(*arguments), static_argnums=0)
recall_block = jax.jit(
    lambda network, *arguments: network.recall_block(*arguments), static_argnums=0
)


def bank(num_features=2, **fields):
    return MemoryLayer(num_features, num_classes=3, capacity=8, **fields)


def vote_of_three():
    """Return three members that have learned by hand, at x = (0, 0): class 0, class 2, class 2."""
    vote = Vote((bank(), bank(), bank()))
    params = (bank().params(0.5),) * 3
    here, there = [0.0, 0.0], [5.0, 5.0]
    states = []
    for stored in ([(here, 0), (there, 1)], [(here, 2), (there, 1)], [(here, 2), (there, 0)]):
        xs = jnp.array([x for x, _ in stored], jnp.float32)
        labels = jnp.array([label for _, label in stored], jnp.int32)
        states.append(step_block(bank(), params[0], bank().init(KEY), xs, labels)[0])
    return vote, params, tuple(states)


def test_a_chain_takes_what_its_first_layer_takes_and_hands_on_what_its_last_does():
    chain = Chain((Pixels((2, 1, 1)), bank()))
    assert (chain.input_shape, chain.output_shape, chain.num_classes) == ((2, 1, 1), (3,), 3)


def test_a_chain_names_the_joint_that_does_not_fit():
    with pytest.raises(ValueError) as caught:
        Chain((Pixels((2, 1, 1)), bank(output="activations"), bank(9)))
    assert str(caught.value) == (
        "layers[2]: expected a layer that takes [8], which layers[1] hands on, "
        "got one that takes [9]."
    )


def test_a_chain_of_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"layers: expected at least one layer, got none\."):
        Chain(())


def test_a_chain_answers_as_its_last_layer_that_answers():
    chain = Chain((bank(output="activations", supervised_growth=False), bank(8)))
    params = (bank().params(0.5), bank(8).params(0.0))
    xs = jnp.array([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    labels = jnp.array([1, 2, 2], jnp.int32)
    _, _, info = step_block(chain, params, chain.init(KEY), xs, labels)
    np.testing.assert_array_equal(info.predicted, info.parts[1].predicted)
    assert info.parts[0].predicted[2] == 2


def test_a_chain_without_a_layer_that_answers_has_no_answer():
    chain = Chain((Pixels((2, 1, 1)),))
    _, _, info = step(
        chain, chain.default_params(), chain.init(KEY), jnp.ones((2, 1, 1)), jnp.int32(0)
    )
    assert info.predicted == -1
    assert chain.num_classes is None


def test_a_chain_recalls_as_its_layers_do_one_after_the_other():
    network, params = memory_network((4, 4, 1), 3, capacity=8, novelty_threshold=0.0)
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), np.uint8)
    state, _ = memjax.fit(network, params, network.init(KEY), images[:8], np.arange(8) % 3)
    senses, memory = network.layers
    codes = recall_block(memory, params[1], state[1], recall_block(senses, (), (), images[8:]))
    found = recall_block(network, params, state, images[8:])
    np.testing.assert_allclose(found, codes, atol=1e-6)
    single = recall(network, params, state, images[8])
    np.testing.assert_allclose(single, codes[0], atol=1e-4)


def test_a_chain_calibrates_every_layer_on_the_codes_of_the_calibrated_ones_below():
    first, second = bank(output="activations", supervised_growth=False), bank(8)
    chain = Chain((first, second))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(20, 2)), jnp.float32)
    labels = jnp.zeros(20, jnp.int32)
    params = chain.calibrate(chain.default_params(), xs, labels)
    expected = first.calibrate(first.default_params(), xs, labels)
    codes = step_block(first, expected, first.init(KEY), xs, labels)[1]
    expected_second = second.calibrate(second.default_params(), codes, labels)
    np.testing.assert_allclose(params[0].novelty_threshold, expected.novelty_threshold)
    np.testing.assert_allclose(params[1].novelty_threshold, expected_second.novelty_threshold)


def test_a_vote_averages_the_evidence_of_its_members():
    vote, params, states = vote_of_three()
    x = jnp.zeros((3, 2))
    np.testing.assert_allclose(recall(vote, params, states, x), [1 / 3, 0, 2 / 3], atol=1e-6)
    block = recall_block(vote, params, states, jnp.stack([x, x]))
    np.testing.assert_allclose(block, [[1 / 3, 0, 2 / 3]] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("places", "answers", "expected"),
    [
        ((0, 0, 0), [0, 2, 2], 2),
        ((5, 5, 0), [1, 1, 2], 1),
        ((0, 5, 0), [0, 1, 2], 0),  # a tie goes to the lowest label
    ],
)
def test_the_answer_of_a_vote_is_that_of_most_members(places, answers, expected):
    vote, params, states = vote_of_three()
    x = jnp.array([[place, place] for place in places], jnp.float32)
    _, _, info = step(vote, params, states, x, jnp.int32(1))
    assert [part.predicted.item() for part in info.parts] == answers
    assert info.predicted == expected


def test_members_without_an_answer_do_not_count_in_a_vote():
    vote, params, states = vote_of_three()
    states = (bank().init(KEY), bank().init(KEY), states[2])
    _, _, info = step(vote, params, states, jnp.zeros((3, 2)), jnp.int32(1))
    assert info.predicted == 2
    _, _, info = step(vote, params, vote.init(KEY), jnp.zeros((3, 2)), jnp.int32(1))
    assert info.predicted == -1


def test_each_member_of_a_vote_learns_its_own_input():
    vote, params, states = vote_of_three()
    x = jnp.array([[0.0, 0.2], [9.0, 9.0], [5.0, 5.2]])
    states, _, _ = step(vote, params, states, x, jnp.int32(0))
    assert [state.size.item() for state in states] == [2, 3, 2]
    np.testing.assert_allclose(states[0].prototypes[0], [0.0, 0.1], rtol=1e-6)
    np.testing.assert_allclose(states[1].prototypes[2], [9.0, 9.0])
    np.testing.assert_allclose(states[2].prototypes[1], [5.0, 5.1], rtol=1e-6)


def test_a_vote_learns_in_blocks_as_it_does_one_by_one():
    vote, params, states = vote_of_three()
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3, 2)), jnp.float32)
    labels = jnp.arange(20, dtype=jnp.int32) % 3
    length = jnp.int32(17)
    stepped = jax.jit(Layer.step_block, static_argnums=0)(vote, params, states, xs, labels, length)
    blocked = step_block(vote, params, states, xs, labels, length)
    jax.tree.map(np.testing.assert_array_equal, blocked[0], stepped[0])
    np.testing.assert_array_equal(blocked[2].predicted[:17], stepped[2].predicted[:17])
    np.testing.assert_allclose(blocked[1][:17], stepped[1][:17], atol=1e-4)


def test_a_vote_names_the_member_that_differs():
    with pytest.raises(ValueError) as caught:
        Vote((bank(), bank(5)))
    assert str(caught.value) == "members[1].input_shape: expected [2] as of members[0], got [5]."


def test_a_vote_of_nobody_is_an_error():
    with pytest.raises(ValueError, match=r"members: expected at least one layer, got none\."):
        Vote(())


def test_the_network_for_grey_images_is_an_encoder_and_one_bank():
    network, params = memory_network((8, 8, 1), 10, capacity=100, novelty_threshold=0.5)
    assert network == Chain((OrientedEdges((8, 8, 1)), MemoryLayer(512, 10, 100)))
    assert params[1].novelty_threshold == np.float32(0.5)
    assert params[1].plasticity_floor == 0


def test_photographs_have_edges_of_their_own():
    network, _ = memory_network((8, 8, 3), 10)
    fine = OrientedEdges((8, 8, 3), True, pooling=0.8, blur=0, normalisation=0)
    assert network.layers[0] == fine


def test_the_network_for_colour_images_has_a_bank_a_channel():
    network, params = memory_network((8, 8, 3), 10, encoder="pixels")
    assert network.layers[1] == Vote((MemoryLayer(64, 10, 3000),) * 3)
    assert network.input_shape == (8, 8, 3)
    assert len(params[1]) == 3
    assert all(is_unset(member.novelty_threshold) for member in params[1])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_network_takes_every_encoder_by_name(encoder):
    network, _ = memory_network((8, 8, 1), 10, encoder=encoder)
    assert type(network.layers[0]) is ENCODERS[encoder]


def test_the_arguments_of_the_network_reach_its_bank():
    network, params = memory_network(
        (8, 8, 1),
        4,
        capacity=7,
        plasticity_floor=0.25,
        distance=cosine,
        supervised_growth=False,
        on_full="replace",
        num_neighbours=2,
    )
    assert network.layers[1] == MemoryLayer(512, 4, 7, cosine, False, "replace", 2)
    assert params[1].plasticity_floor == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "ears"}, "encoder: expected one of 'pixels', 'blur', .*, got 'ears'"),
        ({"image_shape": (8, 8)}, r"image_shape: expected \(H, W, channels\), got \(8, 8\)"),
        ({"capacity": 0}, "capacity: expected a positive integer, got 0"),
        ({"num_classes": 0}, "num_classes: expected a positive integer, got 0"),
        ({"on_full": "panic"}, "on_full: expected one of 'adapt', 'replace', 'ignore'"),
        ({"novelty_threshold": -0.1}, "novelty_threshold: expected a number from 0 to inf"),
        ({"novelty_threshold": np.nan}, "novelty_threshold: expected a number .*, got nan"),
        ({"plasticity_floor": 2}, "plasticity_floor: expected a number from 0 to 1, got 2"),
        ({"num_neighbours": 0}, "num_neighbours: expected a positive integer, got 0"),
    ],
)
def test_the_network_says_which_argument_is_out_of_its_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        memory_network(**{"image_shape": (8, 8, 1), "num_classes": 10, **arguments})


def test_params_are_replaced_by_name_in_every_layer_and_the_rest_stays():
    _, params = memory_network((8, 8, 3), 10, novelty_threshold=0.5, plasticity_floor=0.25)
    replaced = replace_params(params, novelty_threshold=2)
    assert [member.novelty_threshold.item() for member in replaced[1]] == [2, 2, 2]
    assert [member.plasticity_floor.item() for member in replaced[1]] == [0.25] * 3
    assert replaced[1][0].novelty_threshold.dtype == jnp.float32
    assert jax.tree.structure(replaced) == jax.tree.structure(params)


def test_many_params_are_replaced_for_a_sweep_by_vmap():
    _, params = memory_network((8, 8, 1), 10)
    thresholds = jnp.array([0.1, 0.2])
    swept = jax.vmap(lambda t: replace_params(params, novelty_threshold=t))(thresholds)
    np.testing.assert_array_equal(swept[1].novelty_threshold, thresholds)
    assert swept[1].plasticity_floor.shape == (2,)


def test_a_number_that_no_layer_has_is_an_error_by_its_name():
    _, params = memory_network((8, 8, 1), 10)
    with pytest.raises(ValueError, match=r"^vigilance: expected the name of a number in params"):
        replace_params(params, vigilance=0.3, novelty_threshold=0.1)


def test_side_by_side_joins_the_codes_of_its_members():
    members = (memjax.Pixels((6, 6, 1)), memjax.OnOff((6, 6, 1)))
    both = memjax.Concatenate(members)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 6, 1), np.uint8))
    expected = np.concatenate([member.recall((), (), image) for member in members])
    params, state = both.default_params(), both.init(jax.random.key(0))
    _, code, _ = both.step(params, state, image, jnp.int32(0))
    _, codes, _ = both.step_block(params, state, image[None], jnp.zeros(1, jnp.int32))
    for found in (both.recall(params, state, image), code, codes[0]):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_columnar_network_learns_in_one_pass(images, labels):
    big = np.kron(images, np.ones((1, 2, 2, 1), np.uint8))
    network, params = memjax.columnar_network((12, 12, 1), 3, size="small")
    state, _ = memjax.fit(network, params, network.init(jax.random.key(0)), big, labels)
    assert memjax.evaluate(network, params, state, big, labels).accuracy == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ((28, 28, 1), 10, "tiny"),
            "size: expected one of 'small', 'medium', 'large', 'huge', got 'tiny'",
        ),
        (((4, 4, 1), 10), "image_shape: expected .H, W, channels. of at least 8 pixels"),
    ],
)
def test_columnar_network_names_a_bad_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        memjax.columnar_network(*arguments)


@pytest.mark.long
def test_a_mirrored_network_learns_each_image_and_its_mirror_image():
    images = np.random.default_rng(1).integers(0, 256, (20, 6, 6, 1), np.uint8)
    labels = np.arange(20) % 3
    network, params = memory_network((6, 6, 1), 3, capacity=30, novelty_threshold=0.1)
    mirrored = Mirrored(network)
    block = jnp.asarray(images[:20]), jnp.asarray(labels[:20], jnp.int32)
    state, codes, infos = mirrored.step_block(params, mirrored.init(KEY), *block, jnp.int32(17))

    by_hand, one_by_one = network.init(KEY), mirrored.init(KEY)
    for index in range(17):
        image, label = block[0][index], block[1][index]
        by_hand, code, info = step(network, params, by_hand, image, label)
        np.testing.assert_allclose(codes[index], code, atol=1e-5)
        assert infos.predicted[index] == info.predicted
        by_hand, _, _ = step(network, params, by_hand, image[:, ::-1], label)
        one_by_one, _, _ = step(mirrored, params, one_by_one, image, label)
    for learned in (state, one_by_one):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), learned, by_hand)
    assert int(state[1].num_seen) == 34

    views = block[0][3], block[0][3][:, ::-1]
    seen = [recall(network, params, state, view) for view in views]
    for view in views:
        recalled = recall(mirrored, params, state, view)
        np.testing.assert_allclose(recalled, (seen[0] + seen[1]) / 2, atol=1e-6)


def test_a_mirrored_network_takes_images():
    with pytest.raises(ValueError, match=r"network: expected one that takes images"):
        Mirrored(MemoryLayer(5, num_classes=2, capacity=3))


def test_the_same_is_handed_on_in_the_shape_asked_for():
    layer = Reshape((6,), (3, 2))
    xs = jnp.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(layer.recall_block((), (), xs), xs.reshape(2, 3, 2))
    np.testing.assert_array_equal(layer.step((), (), xs[0], jnp.int32(0))[1], xs[0].reshape(3, 2))
    with pytest.raises(ValueError, match="new_shape: expected one of 6 entries"):
        Reshape((6,), (4, 2))


def columns_of(eye):
    """Return the columns of each set in layers side by side, whatever stands before them."""
    assert isinstance(eye, Concatenate)
    seen = [member.layers[1] if isinstance(member, Chain) else member for member in eye.members]
    columns = [layer for layer in seen if isinstance(layer, Columns)]
    assert len(columns) == len(eye.members)
    return columns


@pytest.mark.parametrize(
    ("size", "patches", "num_exemplars"),
    [("medium", [5, 5, 7], 0), ("large", [9, 5, 5, 7], 6000), ("huge", [9, 5, 5, 7], 8000)],
)
def test_the_columnar_network_for_grey_images_is_as_documented(size, patches, num_exemplars):
    network, params = columnar_network((28, 28, 1), 10, size=size)
    assert isinstance(network, Chain)
    eye, readout = network.layers
    assert isinstance(readout, RidgeReadout)
    if num_exemplars:
        assert isinstance(eye, Chain)
        eye, both = eye.layers
        assert isinstance(both, Concatenate)
        assert readout.num_features == eye.output_shape[0] + num_exemplars
    columns = columns_of(eye)
    assert [layer.patch for layer in columns] == patches
    assert columns[-3].image_shape == (16, 16, 8)
    assert [layer.response for layer in columns[-2:]] == ["two-sided"] * 2
    jax.eval_shape(network.recall, params, network.init(KEY), jnp.zeros((28, 28, 1), jnp.uint8))


@pytest.mark.parametrize("side", [8, 13, 16, 40])
@pytest.mark.parametrize("size", SIZES)
def test_a_columnar_network_takes_grey_images_of_any_size(side, size):
    shape = (side, side + 3, 1)
    network, params = columnar_network(shape, 3, size=size)
    state = jax.eval_shape(network.init, KEY)
    evidence = jax.eval_shape(network.recall, params, state, jnp.zeros(shape, jnp.uint8))
    assert evidence.shape == (3,)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("size", SIZES)
def test_the_neurons_of_a_columnar_network_settle(shape, size):
    _, params = columnar_network(shape, 10, size=size)
    periods = memjax.find_params(params, "homeostasis_period")
    assert len(periods) > 0 and all(period == 1000 for period in periods)


def test_a_mirrored_network_has_a_sixth_of_the_penalty():
    ridges = [
        memjax.find_params(columnar_network((32, 32, 3), 10, is_mirrored=mirrored)[1], "ridge")
        for mirrored in (False, True)
    ]
    np.testing.assert_allclose(ridges[1], np.divide(ridges[0], 6), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_columnar_network_for_colour_is_as_documented(size):
    network, params = columnar_network((32, 32, 3), 10, size=size, is_mirrored=True)
    assert isinstance(network, Mirrored) and network.num_classes == 10
    assert isinstance(network.network, Chain)
    eye, readout = network.network.layers
    assert isinstance(eye, Chain) and isinstance(readout, RidgeReadout)
    sets, both = eye.layers
    assert isinstance(both, Concatenate)
    columns = columns_of(sets)
    assert [(c.patch, c.image_shape[2]) for c in columns] == [(4, 3), (5, 3), (5, 1), (7, 1)]
    assert {c.response for c in columns} == {"two-sided"}
    linear, whole = both.members
    assert linear.output_shape == sets.output_shape
    assert readout.num_features == linear.output_shape[0] + whole.output_shape[0]
    jax.eval_shape(network.recall, params, network.init(KEY), jnp.zeros((32, 32, 3), jnp.uint8))


@pytest.mark.long
def test_a_small_colour_network_with_all_its_parts():
    eye = Columns(
        (12, 12, 3),
        4,
        places=2,
        capacity=6,
        fixations=2,
        reach=2,
        padding="reflect",
        dimensions=10,
        square_root=True,
    )
    components, exemplars, readout = Decorrelation(12, 5), Exemplars(5, 20), RidgeReadout(44, 3)
    whole = Chain((RandomProjection(24, 12), components, exemplars))
    network = Chain((eye, Concatenate((Reshape((24,)), whole)), readout))
    numbers = components.params(start=10, decorrelation_period=10)
    params = (
        eye.params(novelty_threshold=0, blank_contrast=0, decorrelation_period=5),
        ((), ((), numbers, exemplars.params())),
        readout.params(ridge=1e-2),
    )
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 3, 60), jnp.int32)
    noise = rng.integers(0, 256, (60, 12, 12, 3), np.uint8)
    noise[labels == 1] = noise[labels == 1][:, :, :1]  # stripes that lie
    noise[labels == 2] = noise[labels == 2][:, :1]  # stripes that stand
    images = jnp.asarray(noise)
    state, _, _ = learn_one_by_one(network, params, images, labels)
    blocks, _, _ = learn_in_blocks(network, params, images, 16, labels)
    state, blocks = (network.consolidate(params, s) for s in (state, blocks))
    # Eigenvectors may point either way, so that answers are compared.
    np.testing.assert_allclose(
        recall_block(network, params, state, images),
        recall_block(network, params, blocks, images),
        atol=5e-2,
    )
    sizes = [int(np.sum(state[0].size)), int(state[1][1][2].size)]
    assert sizes == [24, 20]
    # The first four examples, at least, met silence: they taught the readout nothing.
    assert 45 <= int(state[2].counts.sum()) == int(blocks[2].counts.sum()) <= 56
    answers = np.argmax(recall_block(network, params, state, images), axis=1)
    assert np.mean(answers == np.asarray(labels)) > 0.8


@pytest.mark.long
def test_a_colour_network_learns_from_a_hundred_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 150)
    images = rng.integers(0, 256, (150, 16, 16, 3), np.uint8)
    images[labels == 1] = images[labels == 1][:, :, :1]  # stripes that lie
    network, params = memjax.columnar_network((16, 16, 3), 2, size="small")
    params, state, _ = memjax.learn(network, params, images[:100], labels[:100])
    result = memjax.evaluate(network, params, state, images[100:], labels[100:])
    assert result.accuracy > 0.95


def test_a_columnar_network_knows_how_new_an_image_is():
    train, test = (memjax.datasets.load("digits", split) for split in ("train", "test"))
    network, params = memjax.columnar_network((8, 8, 1), 10, size="small")
    params, state, _ = memjax.learn(network, params, train.images, train.labels)
    scores = memjax.novelty_score(network, params, state, test.images)
    assert np.mean(scores > 0.95) < 0.08
    assert 0.3 < np.median(scores) < 0.7
    order = np.random.default_rng(0).permutation(64)
    strange = test.images.reshape(-1, 64)[:, order].reshape(test.images.shape)
    assert np.mean(memjax.novelty_score(network, params, state, strange) > 0.95) > 0.8


def test_a_columnar_network_learns_from_ten_examples_of_each_class():
    train, test = (memjax.datasets.load("digits", split) for split in ("train", "test"))
    network, params = memjax.columnar_network((8, 8, 1), 10, size="small")
    for num_train, least in ((100, 0.75), (300, 0.93)):
        few = train.images[:num_train], train.labels[:num_train]
        params, state, _ = memjax.learn(network, params, *few)
        result = memjax.evaluate(network, params, state, test.images, test.labels)
        assert result.accuracy > least


ROWS = np.random.default_rng(0).normal([1.0, -500.0, 7.0], [0.001, 90.0, 0.0], (40, 3))


def test_standardised_rows_have_mean_0_and_deviation_1_unless_they_do_not_vary():
    layer = Standardisation.of(ROWS)
    codes = np.asarray(layer.recall_block((), (), ROWS.astype(np.float32)))
    assert np.allclose(codes.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(codes.std(axis=0), [1, 1, 0], atol=1e-3)
    one = layer.recall((), (), jnp.array([1.0, -410.0, 8.0]))
    assert one[2] == 1


def test_rows_of_features_are_learned_on_one_scale_and_saved_with_it(tmp_path):
    labels = (ROWS[:, 0] > 1).astype(np.int32)
    network, params = memory_network((3,), 2, first_rows=ROWS, capacity=30)
    params, state, _ = memjax.learn(network, params, ROWS, labels)
    assert memjax.evaluate(network, params, state, ROWS, labels).accuracy > 0.9
    restored = memjax.restore(memjax.save(tmp_path / "saved", network, params, state))
    assert restored[0] == network
    raw, raw_params = memory_network((3,), 2, capacity=30)
    raw_params, raw_state, _ = memjax.learn(raw, raw_params, ROWS, labels)
    assert memjax.evaluate(raw, raw_params, raw_state, ROWS, labels).accuracy < 0.9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"image_shape": (0,)}, "image_shape: expected a positive integer, got 0"),
        ({"image_shape": (3.0,)}, "image_shape: expected a positive integer, got 3.0"),
        (
            {"image_shape": (4,), "first_rows": ROWS},
            r"first_rows: expected .n, 4., got .40, 3.",
        ),
        ({"image_shape": (3,), "first_rows": ROWS * np.inf}, "rows: expected finite numbers"),
        ({"image_shape": (3, 3, 1), "first_rows": ROWS}, "first_rows: expected None for images"),
    ],
)
def test_a_wrong_number_of_features_is_named(arguments, says):
    with pytest.raises((ValueError, TypeError), match=says):
        memory_network(num_classes=2, **arguments)


@pytest.mark.parametrize(
    ("means", "deviations", "says"),
    [
        ([0.0], (1.0,), "means: expected a tuple of numbers"),
        ((0.0,), (1.0, 1.0), "deviations: expected one for each of 1 means, got 2"),
        ((), (), "deviations: expected one for each of 0 means"),
        ((0.0,), (0.0,), "deviations: expected numbers over 0, got 0"),
        ((float("nan"),), (1.0,), "means: expected a number"),
    ],
)
def test_a_wrong_scale_is_named(means, deviations, says):
    with pytest.raises((ValueError, TypeError), match=says):
        Standardisation(means, deviations)
