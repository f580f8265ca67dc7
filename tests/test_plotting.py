"""The figures: what is drawn is what the network holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import plotting
from memjax.base import MemoryInfo
from memjax.composition import Chain, Vote
from memjax.evaluation import Evaluation, Explanation, memory_banks, num_memories
from memjax.memory import MemoryLayer, MemoryState
from memjax.vision.encoders import OrientedEdges, Pixels

matplotlib = pytest.importorskip("matplotlib")

NAMES = ("ant", "bee", "cat")
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def grey(images, labels):
    """A grey network that has learned: network, params, state, infos, images."""
    network, params = memjax.memory_network(
        (6, 6, 1), 3, capacity=20, encoder="pixels", novelty_threshold=0.01
    )
    return network, params, *memjax.fit(network, params, network.init(KEY), images, labels), images


@pytest.fixture(scope="module")
def colour(images, labels):
    """A colour network, one bank a channel, that has learned."""
    pictures = np.concatenate([images, images[:, ::-1], 255 - images], axis=3)
    network, params = memjax.memory_network(
        (6, 6, 3), 3, capacity=20, encoder="pixels", novelty_threshold=0.01
    )
    state, infos = memjax.fit(network, params, network.init(KEY), pictures, labels)
    return network, params, state, infos, pictures


@pytest.fixture(params=["grey", "colour"])
def trained(request):
    return request.getfixturevalue(request.param)


def state_of(counts, votes, prototypes) -> MemoryState:
    """A bank with as many memories in use as there are counts, and one free row."""
    size = len(counts)
    return MemoryState(
        prototypes=jnp.pad(jnp.asarray(prototypes, jnp.float32), [(0, 1), (0, 0)]),
        counts=jnp.asarray([*counts, 0], jnp.int32),
        votes=jnp.asarray([*votes, [0, 0, 0]], jnp.int32),
        stored_at=jnp.arange(size + 1, dtype=jnp.int32),
        size=jnp.asarray(size, jnp.int32),
        num_seen=jnp.asarray(sum(counts), jnp.int32),
    )


def saves(figure, path) -> bool:
    """Whether this is a figure of its own that can be drawn, within its edges, as a PNG."""
    assert isinstance(figure, matplotlib.figure.Figure)
    figure.savefig(path)
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 2000


def drawn(figure) -> list:
    return [place for place in figure.axes if place.images]


def shows(place, values) -> bool:
    """Whether the picture is of these values, on the scale from black to white."""
    picture = np.asarray(place.images[0].get_array())
    values = np.asarray(values, float)
    assert picture.min() == 0 and picture.max() == 1
    return picture.shape == values.shape and np.corrcoef(picture.flat, values.flat)[0, 1] > 0.99


def titles(figure) -> list[str]:
    return [place.get_title() for place in drawn(figure)]


def texts(place) -> list[str]:
    return [text.get_text() for text in place.texts]


def test_memories_are_drawn_by_label_those_that_learned_most_first(tmp_path):
    layer = MemoryLayer(4, 3, capacity=6)
    prototypes = np.eye(5, 4) + 0.1 * np.arange(5)[:, None]
    votes = [[3, 2, 0], [9, 0, 0], [0, 0, 1], [0, 0, 0], [4, 0, 0]]
    state = state_of([5, 9, 1, 7, 4], votes, prototypes)
    figure = plotting.memories(layer, state, NAMES, num_columns=2)
    grid = np.array(figure.axes).reshape(3, 2)

    # Of the ant the two largest of three; of the bee none; the memory without votes nowhere.
    assert [[place.get_title() for place in row] for row in grid] == [
        ["9", "5"],
        ["", ""],
        ["1", ""],
    ]
    assert [[len(place.images) for place in row] for row in grid] == [[1, 1], [0, 0], [1, 0]]
    assert [texts(row[0]) for row in grid] == [["ant"], ["bee"], ["cat"]]
    for place, index in ((grid[0, 0], 1), (grid[0, 1], 0), (grid[2, 0], 2)):
        assert shows(place, prototypes[index].reshape(2, 2))
    assert figure.get_suptitle().startswith("5 memories;")
    assert saves(figure, tmp_path / "memories.png")


def test_memories_of_the_banks_stand_side_by_side(colour, tmp_path):
    network, _, state, _, _ = colour
    figure = plotting.memories(network, state, NAMES, num_columns=6)
    grid = np.array(figure.axes).reshape(3, 3, 2)  # label, bank, column
    for bank, (_, bank_state) in enumerate(memory_banks(network, state)):
        votes, counts = np.asarray(bank_state.votes), np.asarray(bank_state.counts)
        for label in range(3):
            mine = counts[(votes.argmax(axis=1) == label) & (votes.max(axis=1) > 0)]
            largest = [str(count) for count in sorted(mine, reverse=True)][:2]
            assert largest
            assert [place.get_title() for place in grid[label, bank] if place.images] == largest
    assert figure.get_suptitle().startswith(f"{num_memories(state):,} memories;")
    assert saves(figure, tmp_path / "memories.png")


def test_more_banks_than_columns_still_have_a_column_each(colour):
    network, _, state, _, _ = colour
    assert len(plotting.memories(network, state, NAMES, num_columns=2).axes) == 3 * 3


def test_an_empty_network_is_drawn_without_memories(tmp_path):
    layer = MemoryLayer(4, 3, capacity=6)
    figure = plotting.memories(layer, layer.init(KEY), NAMES)
    assert drawn(figure) == []
    assert figure.get_suptitle().startswith("0 memories;")
    assert saves(figure, tmp_path / "memories.png")


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Chain((Pixels((6, 4, 1)), MemoryLayer(24, 3, 5))), (6, 4)),
        (Chain((Pixels((6, 4, 3)), MemoryLayer(72, 3, 5))), (6, 4, 3)),
        (Chain((OrientedEdges((6, 6, 1), grid=2), MemoryLayer(32, 3, 5))), (18, 18)),
        (
            Chain(
                (Pixels((6, 4, 2), is_split_by_channel=True), Vote((MemoryLayer(24, 3, 5),) * 2))
            ),
            (6, 4),
        ),
        (MemoryLayer(9, 3, 5), (3, 3)),
        (MemoryLayer(7, 3, 5), (1, 7)),
        # A memory of memories' activations is no picture of the encoder's.
        (
            Chain(
                (
                    Pixels((6, 4, 1)),
                    MemoryLayer(24, 3, 16, output="activations"),
                    MemoryLayer(16, 3, 5),
                )
            ),
            (4, 4),
        ),
    ],
)
def test_a_memory_is_drawn_in_the_shape_of_what_it_remembers(network, shape, tmp_path):
    size = memory_banks(network, network.init(KEY))[0][0].num_features
    bank = state_of([2], [[0, 2, 0]], np.linspace(0, 1, size)[None])
    state = bank
    if isinstance(network, Chain):
        last = (bank, bank) if isinstance(network.layers[-1], Vote) else bank
        state = (*network.init(KEY)[:-1], last)
    figure = plotting.memories(network, state, NAMES)
    assert {place.images[0].get_array().shape for place in drawn(figure)} == {shape}
    assert saves(figure, tmp_path / "memories.png")


@pytest.mark.parametrize("window", [1000, 10, 1])
def test_growth_ends_at_the_number_of_memories_and_the_latest_accuracy(
    trained, labels, window, tmp_path
):
    _, _, state, infos, _ = trained
    figure = plotting.growth(infos, labels, window)
    left, right = figure.axes
    seen, size = left.lines[0].get_data()
    assert list(seen) == list(range(1, 61))
    assert size[0] >= 1 and size[-1] == num_memories(state) and (np.diff(size) >= 0).all()

    # A window is at most a quarter of the stream, and every point averages a whole one.
    window = min(window, 15)
    hits = np.asarray(infos.predicted) == labels
    seen, recent = right.lines[0].get_data()
    assert list(seen) == list(range(window, 61))
    expected = [100 * hits[end - window : end].mean() for end in seen]
    np.testing.assert_allclose(recent, expected)
    assert 0 < hits.mean() < 1
    assert f"last {window} examples" in right.get_ylabel()
    assert saves(figure, tmp_path / "growth.png")


def test_growth_counts_no_surprise_that_found_no_room():
    is_novel = np.array([True, True, False, True, True])
    is_saturated = np.array([False, False, False, True, False])
    answers = np.array([-1, 0, 0, 0, 1])
    infos = MemoryInfo(answers, np.zeros(5), is_novel, is_saturated, answers)  # type: ignore[arg-type]
    left, right = plotting.growth(infos, [0, 0, 0, 1, 1]).axes
    assert list(left.lines[0].get_ydata()) == [1, 2, 2, 2, 3]
    assert list(right.lines[0].get_ydata()) == [0, 100, 100, 0, 100]


def test_growth_of_a_single_example_is_a_point(tmp_path):
    infos = MemoryInfo(*(np.array([value]) for value in (0, 0.0, True, False, -1)))  # type: ignore[arg-type]
    figure = plotting.growth(infos, [2])
    assert [list(place.lines[0].get_ydata()) for place in figure.axes] == [[1], [0]]
    assert saves(figure, tmp_path / "growth.png")


def test_confusion_is_in_per_cent_of_each_label(tmp_path):
    table = np.array([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
    figure = plotting.confusion(Evaluation(5 / 6, table, np.zeros(6, np.int32)), NAMES)
    axes = figure.axes[0]
    percent = [[75, 25, 0], [0, 100, 0], [0, 0, 0]]
    np.testing.assert_allclose(axes.images[0].get_array(), percent)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "75.0", (1, 0): "25.0", (1, 1): "100.0"}
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert axes.get_title() == "83.33 % of 6 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "label")
    assert saves(figure, tmp_path / "confusion.png")


def test_confusion_has_a_column_for_no_answer_where_there_was_none(tmp_path):
    table = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    figure = plotting.confusion(Evaluation(0.75, table, np.zeros(4, np.int32)), NAMES)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*NAMES, "none"]
    assert axes.images[0].get_array().shape == (3, 4)
    assert [text.get_text() for text in axes.texts] == ["50.0", "50.0", "100.0", "100.0"]
    assert saves(figure, tmp_path / "confusion.png")


def test_confusion_of_a_real_evaluation_agrees_with_its_accuracy(grey, labels):
    network, params, state, _, pictures = grey
    result = memjax.evaluate(network, params, state, pictures, labels)
    figure = plotting.confusion(result, NAMES)
    share = np.trace(figure.axes[0].images[0].get_array()[:, :3]) / 3  # 20 examples of each label
    assert share == pytest.approx(100 * result.accuracy)
    assert figure.axes[0].get_title() == f"{100 * result.accuracy:.2f} % of 60 right"


def test_why_names_the_label_and_weight_of_every_memory_that_voted(trained, tmp_path):
    network, params, state, _, pictures = trained
    explanation = memjax.explain(network, params, state, pictures[:1])
    figure = plotting.why(network, state, pictures[0], explanation, NAMES)
    banks, number = explanation.memories.shape[1:]
    grid = np.array(figure.axes).reshape(banks, number + 1)
    first = ["image"] if banks == 1 else [f"channel {bank}" for bank in range(banks)]
    assert [row[0].get_title() for row in grid] == first
    for bank, (_, bank_state) in enumerate(memory_banks(network, state)):
        assert shows(grid[bank, 0], pictures[0][..., bank])
        for rank in range(number):
            label = NAMES[explanation.labels[0, bank, rank]]
            weight = explanation.weights[0, bank, rank]
            place = grid[bank, rank + 1]
            assert place.get_title() == f"{label}\nweight {weight:.2f}"
            memory = np.asarray(bank_state.prototypes)[explanation.memories[0, bank, rank]]
            assert shows(place, memory.reshape(6, 6))
    assert saves(figure, tmp_path / "why.png")


def test_why_leaves_out_memories_that_do_not_exist_and_says_which_had_no_vote(tmp_path):
    layer = MemoryLayer(4, 3, capacity=3, num_neighbours=3)
    network = Chain((Pixels((2, 2, 1)), layer))
    bank = state_of([2, 1], [[0, 2, 0], [0, 0, 0]], np.eye(2, 4))
    image = np.array([[[9], [1]], [[0], [0]]], np.uint8)
    explanation = memjax.explain(network, ((), layer.params(1.0)), ((), bank), image[None])
    figure = plotting.why(network, ((), bank), image, explanation, NAMES)
    assert titles(figure)[0] == "image"
    assert [title.partition("\n")[0] for title in titles(figure)[1:]] == ["bee", "no vote"]
    assert len(figure.axes) == 4 and len(drawn(figure)) == 3
    assert saves(figure, tmp_path / "why.png")


def test_why_of_an_empty_network_shows_the_image_alone(tmp_path):
    layer = MemoryLayer(36, 3, capacity=4)
    network, params = Chain((Pixels((6, 6, 1)), layer)), ((), layer.params(1.0))
    state, image = network.init(KEY), np.zeros((6, 6, 1), np.uint8)
    explanation = memjax.explain(network, params, state, image[None])
    assert isinstance(explanation, Explanation)
    figure = plotting.why(network, state, image, explanation, NAMES)
    assert titles(figure) == ["image"]
    assert saves(figure, tmp_path / "why.png")


def test_figures_leave_the_global_state_of_matplotlib_alone(grey):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    network, _, state, _, _ = grey
    before = dict(matplotlib.rcParams)
    plotting.memories(network, state, NAMES)
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_an_accuracy_matrix_is_written_where_it_was_measured(tmp_path):
    figure = plotting.accuracy_matrix([[1], [0.25, 0.5, 0], [0, 0.875, 1]], NAMES)
    axes = figure.axes[0]
    percent = [[100, np.nan, np.nan], [25, 50, 0], [0, 87.5, 100]]
    np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), percent)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {
        (0, 0): "100.0",
        (0, 1): "25.0",
        (1, 1): "50.0",
        (2, 1): "0.0",
        (0, 2): "0.0",
        (1, 2): "87.5",
        (2, 2): "100.0",
    }
    assert axes.get_title() == "after the last task 62.50 % on average"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tested on", "after learning")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert saves(figure, tmp_path / "matrix.png")


@pytest.mark.parametrize("matrix", [[[1]], [[1], [1], [1, 1, 1]], [[1], [1, 1], [1, 1, 1, 1]]])
def test_an_accuracy_matrix_has_a_row_a_task_and_a_number_for_every_task_so_far(matrix):
    with pytest.raises(ValueError, match="matrix: expected a row for each of 3 tasks"):
        plotting.accuracy_matrix(matrix, NAMES)


def test_the_line_of_pareto_joins_the_settings_that_none_as_small_beats(tmp_path):
    # By mean size 10, 20, 20, 30, 40: the second of size 20 and that of 30 are beaten or equalled.
    sizes = np.array([[30, 30], [10, 10], [15, 25], [20, 20], [39, 41]])
    accuracies = np.array([[0.5, 0.7], [0.4, 0.6], [0.6, 0.8], [0.5, 0.7], [0.7, 0.9]])
    figure = plotting.pareto(sizes, accuracies)
    axes = figure.axes[0]
    settings, front = axes.lines
    np.testing.assert_allclose(settings.get_xdata(), [30, 10, 20, 20, 40])
    np.testing.assert_allclose(settings.get_ydata(), [60, 50, 70, 60, 80])
    np.testing.assert_allclose(front.get_xdata(), [10, 20, 40])
    np.testing.assert_allclose(front.get_ydata(), [50, 70, 80])
    band = axes.collections[0].get_paths()[0].get_extents()
    deviation = 100 * 0.02**0.5  # of two numbers, 0.1 from their mean
    np.testing.assert_allclose(band.extents, [10, 50 - deviation, 40, 80 + deviation])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("memories", "accuracy, %")
    assert saves(figure, tmp_path / "pareto.png")


def test_pareto_of_single_runs_has_a_band_of_no_width(tmp_path):
    figure = plotting.pareto([[10], [20]], [[0.5], [0.75]])
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} == {(10.0, 50.0), (20.0, 75.0)}
    assert saves(figure, tmp_path / "pareto.png")


@pytest.mark.parametrize("sizes", [[10, 20], [[10, 20], [30, 40]]])
def test_pareto_takes_two_tables_of_one_shape(sizes):
    with pytest.raises(ValueError, match="accuracies: expected a table"):
        plotting.pareto(sizes, [[0.5], [0.75]] if np.ndim(sizes) == 2 else [0.5, 0.75])
