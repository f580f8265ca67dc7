"""Asking a network: answers, confusion, the memories behind an answer, and novelty."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax.composition import Chain, Vote
from memjax.evaluation import memories_added, num_memories
from memjax.memory import MemoryLayer
from memjax.networks import memory_network
from memjax.vision.encoders import Pixels

KEY = jax.random.key(0)
LAYER = MemoryLayer(1, num_classes=3, capacity=4, num_neighbours=2)
PARAMS = LAYER.params(0.25)


@pytest.fixture(scope="module")
def learned():
    """A bank by hand: memories at 0 (class 0), 1 (class 1), 3 (no class) and 9 (class 2)."""
    labels = np.array([0, 1, -1, 2])
    return memjax.fit(LAYER, PARAMS, LAYER.init(KEY), xs_of(0, 1, 3, 9), labels)[0]


@pytest.fixture(scope="module")
def grey(images, labels):
    """A network for grey images that has learned."""
    network, params = memory_network(
        (6, 6, 1), 3, capacity=20, encoder="pixels", novelty_threshold=0.02
    )
    return network, params, memjax.fit(network, params, network.init(KEY), images, labels)[0]


@pytest.fixture(scope="module")
def colour(images, labels):
    """A network for colour images that has learned, and the images."""
    network, params = memory_network(
        (6, 6, 2), 3, capacity=20, encoder="pixels", novelty_threshold=0.02
    )
    pictures = np.concatenate([images, images[::-1]], axis=3)
    state, infos = memjax.fit(network, params, network.init(KEY), pictures, labels)
    return network, params, state, pictures, infos


def xs_of(*numbers):
    return np.array(numbers, np.float32)[:, None]


def test_evidence_worked_out_by_hand(learned):
    # At 0.2 two of four memories vote, at 0.04 and 0.64; the next is at 7.84, which is the edge.
    near, far = 1 - 0.04 / 7.84, 1 - 0.64 / 7.84
    found = memjax.predict_proba(LAYER, PARAMS, learned, xs_of(0.2))
    np.testing.assert_allclose(found, [[near / (near + far), far / (near + far), 0]], rtol=1e-5)


def test_the_answer_is_the_class_with_most_evidence(learned):
    found = memjax.predict(LAYER, PARAMS, learned, xs_of(0.2, 0.8, -5.0))
    np.testing.assert_array_equal(found, [0, 1, 0])
    assert found.dtype == np.int32


def test_a_network_that_has_seen_no_label_answers_none():
    state, _ = memjax.fit(LAYER, PARAMS, LAYER.init(KEY), xs_of(0, 1), np.array([-1, -1]))
    for silent in (state, LAYER.init(KEY)):
        np.testing.assert_array_equal(memjax.predict(LAYER, PARAMS, silent, xs_of(0, 5)), [-1, -1])
        assert np.all(memjax.predict_proba(LAYER, PARAMS, silent, xs_of(0, 5)) == 0)


def test_evidence_of_every_image_sums_to_1(grey, images):
    evidence = memjax.predict_proba(*grey, images=images)
    assert evidence.shape == (60, 3)
    np.testing.assert_allclose(evidence.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 60, 1000])
def test_the_size_of_a_batch_changes_no_answer(grey, images, batch_size):
    for ask in (memjax.predict_proba, memjax.novelty_score):
        found = ask(*grey, images=images, batch_size=batch_size)
        np.testing.assert_allclose(found, ask(*grey, images=images), atol=1e-4)
    explained = memjax.explain(*grey, images=images, batch_size=batch_size)
    np.testing.assert_array_equal(explained.labels, memjax.explain(*grey, images=images).labels)


@dataclasses.dataclass(frozen=True)
class Watched(Pixels):
    """An encoder that notes how many images are handed to a program at a time."""

    def recall_block(self, params, state, xs):
        """Note it, and encode."""
        SEEN.append(xs.shape[0])
        return super().recall_block(params, state, xs)


SEEN: list[int] = []


@pytest.mark.parametrize(
    "ask", [memjax.predict, memjax.predict_proba, memjax.explain, memjax.novelty_score]
)
def test_no_program_is_handed_more_images_than_a_batch(grey, images, ask):
    network, params, state = grey
    SEEN.clear()
    ask(Chain((Watched((6, 6, 1)), *network.layers[1:])), params, state, images, batch_size=9)
    assert set(SEEN) <= {9}


def test_evaluation_counts_answers_by_true_label_and_none_in_the_last_column(learned):
    result = memjax.evaluate(LAYER, PARAMS, learned, xs_of(0, 0.1, 0.9, 1), np.array([0, 1, 1, 2]))
    np.testing.assert_array_equal(result.confusion, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(result.predicted, [0, 0, 1, 1])
    assert result.accuracy == 0.5

    silent = memjax.evaluate(LAYER, PARAMS, LAYER.init(KEY), xs_of(0, 1), np.array([0, 2]))
    np.testing.assert_array_equal(silent.confusion[:, 3], [1, 0, 1])
    assert silent.confusion.sum() == 2
    assert silent.accuracy == 0


def test_the_network_learns_three_noisy_pictures(grey, images, labels):
    assert memjax.evaluate(*grey, images=images, labels=labels).accuracy == 1


def test_an_unknown_label_cannot_be_evaluated(learned):
    with pytest.raises(ValueError, match="labels: expected a class for every example, got -1"):
        memjax.evaluate(LAYER, PARAMS, learned, xs_of(0), np.array([-1]))


def test_an_explanation_worked_out_by_hand(learned):
    found = memjax.explain(LAYER, PARAMS, learned, xs_of(0.2, 2.9))
    np.testing.assert_array_equal(found.memories, [[[0, 1]], [[2, 1]]])
    np.testing.assert_array_equal(found.labels, [[[0, 1]], [[-1, 1]]])
    np.testing.assert_allclose(found.distances, [[[0.04, 0.64]], [[0.01, 3.61]]], atol=1e-5)
    # One vote has a third of the weight of many; the memory at 3 has none.
    weights = [[[(1 - 0.04 / 7.84) / 3, (1 - 0.64 / 7.84) / 3]], [[0, (1 - 3.61 / 8.41) / 3]]]
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4)


def test_neighbours_that_are_missing_are_infinitely_far_and_weigh_nothing():
    state, _ = memjax.fit(LAYER, PARAMS, LAYER.init(KEY), xs_of(0), np.array([2]))
    found = memjax.explain(LAYER, PARAMS, state, xs_of(1))
    np.testing.assert_array_equal(found.distances, [[[1, np.inf]]])
    np.testing.assert_array_equal(found.weights, [[[1, 0]]])
    np.testing.assert_array_equal(found.labels, [[[2, -1]]])


def test_the_votes_explained_give_the_evidence_recalled(grey, images):
    found = memjax.explain(*grey, images=images)
    assert found.memories.shape == (60, 1, 7)
    # Supervised growth keeps the votes of a memory to one class here.
    assert np.all((np.asarray(grey[2][1].votes) > 0).sum(axis=1) <= 1)
    ballots = (found.labels[:, 0, :, None] == np.arange(3)) * found.weights[:, 0, :, None]
    expected = ballots.sum(axis=1) / found.weights.sum(axis=(1, 2))[:, None]
    np.testing.assert_allclose(memjax.predict_proba(*grey, images=images), expected, atol=1e-5)


def test_every_bank_of_a_vote_is_explained_on_its_own(colour):
    network, params, state, pictures, _ = colour
    found = memjax.explain(network, params, state, pictures)
    assert found.memories.shape == (60, 2, 7)
    codes = network.layers[0].recall_block((), (), jnp.asarray(pictures))
    for index, member in enumerate(network.layers[1].members):
        alone = memjax.explain(member, params[1][index], state[1][index], codes[:, index])
        np.testing.assert_array_equal(found.memories[:, index], alone.memories[:, 0])


def test_what_is_nearer_than_all_that_was_learned_is_familiar_and_what_is_farther_is_new(learned):
    found = memjax.novelty_score(LAYER, PARAMS, learned, xs_of(0, 100))
    np.testing.assert_array_equal(found, [0, 1])


@pytest.mark.parametrize("threshold", [0.0, np.inf])
def test_novelty_has_the_same_scale_whatever_the_threshold(learned, threshold):
    asked = xs_of(0.1, 0.4, 5)
    found = memjax.novelty_score(LAYER, LAYER.params(threshold), learned, asked)
    np.testing.assert_array_equal(found, memjax.novelty_score(LAYER, PARAMS, learned, asked))


def test_everything_is_new_to_an_empty_network():
    found = memjax.novelty_score(LAYER, PARAMS, LAYER.init(KEY), xs_of(0, 1))
    np.testing.assert_array_equal(found, 1)


def test_novelty_is_averaged_over_the_banks_of_a_vote(colour):
    network, params, state, pictures, _ = colour
    codes = network.layers[0].recall_block((), (), jnp.asarray(pictures))
    scores = [
        memjax.novelty_score(member, params[1][index], state[1][index], codes[:, index])
        for index, member in enumerate(network.layers[1].members)
    ]
    found = memjax.novelty_score(network, params, state, pictures)
    np.testing.assert_allclose(found, np.mean(scores, axis=0), atol=1e-5)


def test_the_banks_of_a_network_are_found_with_their_states(grey, colour):
    assert [bank.layer.capacity for bank in grey[0].banks(*grey[1:3])] == [20]
    banks = colour[0].banks(*colour[1:3])
    assert len(banks) == 2
    assert banks[1].state is colour[2][1][1]


def test_memories_are_counted_over_all_banks(colour):
    network, _, state, _, infos = colour
    sizes = [member.size.item() for member in state[1]]
    assert num_memories(network, state) == sum(sizes)
    assert num_memories(network, network.init(KEY)) == 0
    assert memories_added(infos).sum() == sum(sizes)
    assert memories_added(infos).shape == (60,)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (memjax.explain, "one whose answer comes from memories"),
        (memjax.novelty_score, "one with memories"),
    ],
)
def test_a_network_without_memories_is_not_asked_about_them(ask, expected):
    network = Chain((Pixels((2, 1, 1)),))
    with pytest.raises(ValueError, match=f"network: expected {expected}, got one .* Pixels"):
        ask(network, network.default_params(), network.init(KEY), np.zeros((1, 2, 1, 1)))


@pytest.mark.parametrize(
    "ask", [memjax.predict_proba, memjax.predict, memjax.explain, memjax.novelty_score]
)
@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        ({"images": np.zeros((3, 2))}, ValueError, "images: expected [N, 1], got [3, 2]."),
        ({"images": np.zeros((0, 1))}, ValueError, "images: expected [N, 1], got [0, 1]."),
        ({"images": [[0.0]]}, TypeError, "images: expected an array, got list."),
        (
            {"images": np.array([[0.0], [np.nan]])},
            ValueError,
            "images: expected finite numbers, got a NaN or an infinity in row 1.",
        ),
        ({"batch_size": 0}, ValueError, "batch_size: expected a positive integer, got 0."),
        (
            {"params": LAYER.params()},
            ValueError,
            'params.novelty_threshold: is still "auto"; give a number, or estimate it '
            "with memjax.calibrate(network, params, images, labels).",
        ),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_with_a_sentence(
    learned, ask, bad, kind, message
):
    arguments = {"params": PARAMS, "state": learned, "images": xs_of(0), **bad}
    with pytest.raises(kind) as caught:
        ask(LAYER, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([3]), "labels: expected classes 0 to 2, or -1 for unlabelled, got 3."),
        (np.array([0, 1]), "labels: expected [1], got [2]."),
    ],
)
def test_labels_that_do_not_fit_cannot_be_evaluated(learned, labels, message):
    with pytest.raises(ValueError) as caught:
        memjax.evaluate(LAYER, PARAMS, learned, xs_of(0), labels)
    assert str(caught.value) == message


def test_a_vote_of_banks_is_asked_like_any_network(learned):
    vote = Vote((LAYER, LAYER))
    answers = memjax.predict(
        vote, (PARAMS, PARAMS), (learned, learned), np.array([[[0.1], [0.1]]], np.float32)
    )
    np.testing.assert_array_equal(answers, [0])
