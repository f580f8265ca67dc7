"""Readouts: against closed forms, and by their laws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import memjax
from memjax.composition import Chain
from memjax.readouts import DeltaReadout, RidgeParams, RidgeReadout, VoteReadout
from memjax.vision import Columns

D, C, N = 6, 3, 50


def halving(learning_rate):
    return optax.sgd(optax.exponential_decay(learning_rate, 10, 0.5), momentum=0.5)


READOUTS = [
    VoteReadout(D, C),
    DeltaReadout(D, C),
    DeltaReadout(D, C, rule=halving),
    RidgeReadout(D, C),
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, N).astype(np.int32)
    centres = rng.random((C, D))
    xs = (centres[labels] + 0.3 * rng.random((N, D))).astype(np.float32)
    labels[::7] = -1
    return jnp.asarray(xs), jnp.asarray(labels)


def learn(readout, xs, labels):
    params = readout.default_params()
    state, codes, infos = readout.step_block(params, readout.init(jax.random.key(0)), xs, labels)
    return params, state, codes, infos


@pytest.mark.parametrize("readout", READOUTS, ids=lambda r: type(r).__name__)
def test_a_block_is_its_single_steps(readout, data):
    xs, labels = data
    params, state, codes, infos = learn(readout, xs, labels)
    single, step = readout.init(jax.random.key(0)), jax.jit(readout.step)
    for index in range(N):
        single, code, info = step(params, single, xs[index], labels[index])
        np.testing.assert_allclose(code, codes[index], atol=1e-5)
        assert info.predicted == infos.predicted[index]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), single, state)


@pytest.mark.parametrize("readout", READOUTS, ids=lambda r: type(r).__name__)
def test_rows_beyond_the_length_and_unlabelled_rows_teach_nothing(readout, data):
    xs, labels = data
    params = readout.default_params()
    first = readout.init(jax.random.key(0))
    padded, _, _ = readout.step_block(params, first, xs, labels, jnp.int32(30))
    known = np.flatnonzero(np.asarray(labels[:30]) >= 0)
    alone, _, _ = readout.step_block(params, first, xs[known], labels[known])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), padded, alone)


@pytest.mark.parametrize("readout", READOUTS, ids=lambda r: type(r).__name__)
def test_a_readout_says_nothing_before_it_has_learned(readout, data):
    _, _, _, infos = learn(readout, *data)
    assert infos.predicted[0] == -1


def test_the_vote_is_the_multinomial_posterior(data):
    xs, labels = (np.asarray(part) for part in data)
    readout = VoteReadout(D, C)
    params, state, _, _ = learn(readout, *data)
    known = labels >= 0
    targets = np.eye(C)[labels[known]]
    activity = xs[known].T.astype(float) @ targets + 1
    scores = (xs * D / xs.sum(1, keepdims=True)) @ np.log(activity / activity.sum(0))
    scores += np.log(targets.sum(0))
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(readout.recall_block(params, state, data[0]), expected, rtol=1e-4)


def test_the_delta_rule_by_hand():
    readout = DeltaReadout(2, 2, rule=optax.sgd)
    params = readout.params(learning_rate=0.5)
    x = jnp.array([1.0, 2.0])
    state, code, _ = readout.step(params, readout.init(jax.random.key(0)), x, jnp.int32(0))
    np.testing.assert_allclose(code, [0.5, 0.5])
    np.testing.assert_allclose(state.weights, [[0.25, -0.25], [0.5, -0.5]])
    np.testing.assert_allclose(state.bias, [0.25, -0.25])


def penalties(covariance, ridge, number):
    """The penalty of each feature as a diagonal matrix: by its variance, and the median one."""
    variances = np.diag(covariance)
    usual = np.sort(variances)[(D - 1) // 2]
    relative = ridge * (1 + (4 * D / number) ** 2)
    return np.diag(relative * variances + usual * np.exp(-1000 * variances / usual))


def test_ridge_is_penalised_least_squares(data):
    xs, labels = (np.asarray(part) for part in data)
    readout = RidgeReadout(D, C)
    _, state, _, _ = learn(readout, *data)
    state = readout.consolidate(readout.params(ridge=0.1), state)
    x, t = xs[labels >= 0].astype(float), np.eye(C)[labels[labels >= 0]]
    x_mean, t_mean = x.mean(0), t.mean(0)
    covariance = (x - x_mean).T @ (x - x_mean) / len(x)
    weights = np.linalg.solve(
        covariance + penalties(covariance, 0.1, len(x)),
        (x - x_mean).T @ (t - t_mean) / len(x),
    )
    np.testing.assert_allclose(state.weights, weights, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(state.bias, t_mean - x_mean @ weights, rtol=1e-3, atol=1e-4)


def test_ridge_does_not_depend_on_the_order_nor_on_the_scale(data):
    xs, labels = data
    readout = RidgeReadout(D, C)
    params, state, _, _ = learn(readout, xs, labels)
    _, turned, _, _ = learn(readout, xs[::-1], labels[::-1])
    scale = jnp.array([1.0, 10.0, 0.1, 5.0, 1.0, 1.0])
    _, scaled, _, _ = learn(readout, xs * scale[None], labels)
    expected = readout.recall_block(params, readout.consolidate(params, state), xs)
    for other, factor in ((turned, jnp.ones((1, D))), (scaled, scale[None])):
        answers = readout.recall_block(params, readout.consolidate(params, other), xs * factor)
        np.testing.assert_allclose(answers, expected, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e7, 1e12])
def test_ridge_does_not_depend_on_the_scale_of_all_features(data, scale):
    xs, labels = data
    readout = RidgeReadout(D, C)
    params, state, _, _ = learn(readout, xs, labels)
    _, scaled, _, _ = learn(readout, xs * scale, labels)
    expected = readout.recall_block(params, readout.consolidate(params, state), xs)
    answers = readout.recall_block(params, readout.consolidate(params, scaled), xs * scale)
    np.testing.assert_allclose(answers, expected, atol=1e-3)


@pytest.mark.parametrize("variance", [1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7])
def test_neurons_that_were_nearly_silent_do_not_drown_the_others_when_they_speak_up(variance):
    readout = RidgeReadout(20, C)
    params = readout.default_params()
    for seed, number in enumerate((60, 150, 400, 1000, 3000)):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, C, number + 500)
        centres = generator.random((C, 20))
        # Codes of the size that columns hand on, of variance 3e-3.
        xs = 0.055 * (generator.random((number + 500, 20)) + 2 * centres[labels])
        expected = _accuracy_after(readout, params, xs, labels, number)
        assert expected > 0.9
        xs[:number, :4] = 0
        for neuron in range(4):
            speaks = generator.integers(0, number, 1 + neuron)
            xs[speaks, neuron] = np.sqrt(variance * number / len(speaks))
        assert _accuracy_after(readout, params, xs, labels, number) > expected - 0.1


def _accuracy_after(readout, params, xs, labels, number):
    """How many of the rows after the first ``number`` are known from these."""
    xs, labels = xs.astype(np.float32), labels.astype(np.int32)
    state = readout.init(jax.random.key(0))
    state, _, _ = readout.step_block(params, state, xs[:number], labels[:number])
    answers = readout.recall_block(params, readout.consolidate(params, state), xs[number:])
    return np.mean(np.argmax(answers, axis=1) == labels[number:])


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_known_however_many_were_learned(seed):
    from memjax import datasets

    train = datasets.load("digits", "train", seed)
    asked = datasets.load("digits", "test")
    network, params = memjax.columnar_network((8, 8, 1), 10, size="small")
    accuracies = {}

    def ask(state, infos, tally):
        if tally.num_seen >= 216 and tally.num_seen % 72 == 0:
            state = network.consolidate(params, state)
            found = memjax.evaluate(network, params, state, asked.images, asked.labels)
            accuracies[tally.num_seen] = found.accuracy
            assert np.abs(state[1].weights).max() < 5

    memjax.fit_stream(
        network,
        params,
        network.init(jax.random.key(0)),
        [(train.images, train.labels)],
        24,
        callbacks=[ask],
    )
    assert len(accuracies) > 10
    found = list(accuracies.values())
    # More examples never cost much of what was known.
    assert all(later > 0.97 * earlier for earlier, later in itertools.pairwise(found))
    assert found[0] > 0.9 and found[-1] > 0.97


def test_ridge_is_swept_without_another_pass(data):
    readout = RidgeReadout(D, C)
    _, state, _, _ = learn(readout, *data)
    ridges = jnp.array([1e-3, 1e-1, 10.0])
    swept = jax.vmap(lambda ridge: readout.consolidate(RidgeParams(ridge, jnp.zeros(())), state))(
        ridges
    )
    for index, ridge in enumerate(ridges):
        single = readout.consolidate(readout.params(float(ridge)), state)
        np.testing.assert_allclose(swept.weights[index], single.weights, rtol=1e-4, atol=1e-6)
    sizes = np.abs(np.asarray(swept.weights)).sum(axis=(1, 2))
    assert sizes[2] < sizes[0]


def test_a_member_of_a_sweep_that_cannot_be_solved_changes_no_other(data):
    # All features of the second stream are one, far from 0: with a penalty of almost nothing,
    # rounding leaves their covariance without a factor.
    xs, labels = data
    far = jnp.repeat(xs[:, :1], D, axis=1) * 1e-2 + 1
    readout = RidgeReadout(D, C)
    params = readout.params(ridge=1e-9)
    streams = jnp.stack([xs, far])
    start = readout.init(jax.random.key(0))
    states = [readout.step_block(params, start, stream, labels)[0] for stream in streams]
    alone = [readout.consolidate(params, state) for state in states]
    assert all(np.all(np.isfinite(state.weights)) for state in alone)
    assert not np.all(np.isfinite(readout._solved(params, states[1], 0.0)[0]))
    together = jax.vmap(readout.consolidate, in_axes=(None, 0))(
        params, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    )
    np.testing.assert_allclose(together.weights[0], alone[0].weights, rtol=1e-3, atol=1e-4)
    assert np.all(np.isfinite(together.weights[1]))


@pytest.mark.parametrize(
    ("num_features", "most"), [(3000, 2.5), pytest.param(12_000, 1.6, marks=pytest.mark.long)]
)
def test_a_solve_of_many_features_holds_little_more_than_one_factor(num_features, most):
    readout = RidgeReadout(num_features, 2)
    state = jax.eval_shape(readout.init, jax.random.key(0))
    solve = jax.jit(readout.consolidate, donate_argnums=1).lower(readout.default_params(), state)
    memory = solve.compile().memory_analysis()
    if memory is None:
        pytest.skip("this device does not say what it holds")
    sums = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.scatter))
    assert memory.temp_size_in_bytes < most * sums


def test_class_balance_weighs_the_means_of_classes_anew(data):
    xs, labels = (np.asarray(part) for part in data)
    kept = np.flatnonzero((labels > 0) | (np.cumsum(labels == 0) % 5 == 0))  # class 0 is rare
    x, y = xs[kept][labels[kept] >= 0].astype(float), labels[kept][labels[kept] >= 0]
    readout = RidgeReadout(D, C)
    _, state, _, _ = learn(readout, xs[kept], labels[kept])
    counts = np.bincount(y, minlength=C)
    shares = counts**0.5 / np.sum(counts**0.5)
    means = np.stack([x[y == c].mean(0) for c in range(C)])
    mean = shares @ means
    covariance = (x - means[y]).T @ (x - means[y]) / len(x)
    covariance += ((means - mean) * shares[:, None]).T @ (means - mean)
    weights = np.linalg.solve(
        covariance + penalties(covariance, 0.1, len(x)),
        ((means - mean) * shares[:, None]).T,
    )
    solved = readout.consolidate(readout.params(ridge=0.1, class_balance=0.5), state)
    np.testing.assert_allclose(solved.weights, weights, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(solved.bias, shares - mean @ weights, rtol=1e-3, atol=1e-4)


def test_class_balance_answers_a_rare_class_as_often_as_a_frequent_one():
    rng = np.random.default_rng(0)
    labels = jnp.asarray(np.arange(1050) < 50, jnp.int32)
    xs = jnp.asarray(rng.normal(size=(1050, 1)) + 2 * np.asarray(labels)[:, None], jnp.float32)
    readout = RidgeReadout(1, 2)
    _, state, _, _ = learn(readout, xs, labels)
    share = {}
    for balance in (0.0, 1.0):
        params = readout.params(class_balance=balance)
        codes = readout.recall_block(params, readout.consolidate(params, state), xs)
        share[balance] = jnp.mean((jnp.argmax(codes, axis=1) == 1)[:50])
    # Halfway between two classes 2 standard deviations apart, 84 % are on the right side.
    assert share[0.0] < 0.2 and 0.75 < share[1.0] < 0.95


def test_a_silent_neuron_gets_no_weight(data):
    xs, labels = data
    readout = RidgeReadout(D, C)
    params, state, _, _ = learn(readout, xs.at[:, 2].set(0), labels)
    state = readout.consolidate(params, state)
    assert np.isfinite(state.weights).all()
    assert not np.any(np.asarray(state.weights[2]))


def test_columns_and_a_readout_learn_digits_from_a_generator_read_once():
    from memjax import datasets

    train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
    eye = Columns((8, 8, 1), patch=4, places=4, capacity=30, fixations=2, reach=2, sigma=1.0)
    network = Chain((eye, RidgeReadout(eye.output_shape[0], 10)))
    params = network.default_params()
    reads = []

    def stream():
        for start in range(0, len(train.labels), 100):
            reads.append(start)
            yield train.images[start : start + 100], train.labels[start : start + 100]

    state, _ = memjax.fit_stream(network, params, network.init(jax.random.key(0)), stream())
    assert reads == list(range(0, len(train.labels), 100))
    fitted, _ = memjax.fit(
        network, params, network.init(jax.random.key(0)), train.images, train.labels
    )
    answers = memjax.predict(network, params, fitted, test.images)
    np.testing.assert_array_equal(memjax.predict(network, params, state, test.images), answers)
    assert memjax.evaluate(network, params, state, test.images, test.labels).accuracy > 0.97
