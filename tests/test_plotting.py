"""The figures: what is drawn is what the network holds."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import plotting
from memjax.base import Bank, FixedLayer, MemoryInfo
from memjax.composition import Chain, Concatenate, Vote
from memjax.evaluation import Evaluation, Explanation, num_memories
from memjax.memory import MemoryLayer, MemoryState
from memjax.vision import Columns, Mirrored, OrientedEdges, Pixels

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


def state_of(layer, counts, votes, prototypes) -> MemoryState:
    """The state of a bank with as many memories in use as there are counts."""
    size = len(counts)
    state = layer.init(KEY)
    return state._replace(
        prototypes=state.prototypes.at[:size].set(jnp.asarray(prototypes, jnp.float32)),
        counts=state.counts.at[:size].set(jnp.asarray(counts, jnp.int32)),
        votes=state.votes.at[:size].set(jnp.asarray(votes, jnp.int32)),
        size=jnp.asarray(size, jnp.int32),
        num_seen=jnp.asarray(sum(counts), jnp.int32),
    )


def saves(figure, path) -> bool:
    """Whether this is a figure of its own that can be drawn, within its edges, as a PNG."""
    assert isinstance(figure, matplotlib.figure.Figure)
    figure.savefig(path)
    edges = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert edges.x0 <= box.x0 and box.x1 <= edges.x1, text
            assert edges.y0 <= box.y0 and box.y1 <= edges.y1, text
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 2000


class Tile(NamedTuple):
    """A picture on a canvas."""

    top: float
    left: float
    text: str  # that stands above it
    picture: np.ndarray


def tiles(figure) -> list[Tile]:
    """The pictures of a figure, from left to right and then downwards."""
    (axes,) = figure.axes
    found = []
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        assert bottom > top  # inches, downwards
        above = [
            text
            for text in axes.texts
            if abs(text.get_position()[0] - (left + right) / 2) < 0.01
            and -0.1 < top - text.get_position()[1] < (right - left)
        ]
        text = above[0].get_text() if above else ""
        middle = (top + bottom) / 2
        found.append(Tile(round(middle, 2), round(left, 2), text, np.asarray(image.get_array())))
    return sorted(found, key=lambda tile: tile[:2])


def rows_of(figure) -> list[list[Tile]]:
    """The pictures of a figure, row by row."""
    found = tiles(figure)
    return [[tile for tile in found if tile.top == top] for top in sorted({t.top for t in found})]


def shows(tile, values) -> bool:
    """Whether the picture is of these values, on the scale from black to white."""
    values = np.asarray(values, float)
    assert tile.picture.min() == 0 and tile.picture.max() == 1
    picture = tile.picture
    return picture.shape == values.shape and np.corrcoef(picture.flat, values.flat)[0, 1] > 0.99


def test_memories_are_drawn_by_label_those_that_learned_most_first(tmp_path):
    layer = MemoryLayer(4, 3, capacity=6)
    prototypes = np.eye(5, 4) + 0.1 * np.arange(5)[:, None]
    votes = [[3, 2, 0], [9, 0, 0], [0, 0, 1], [0, 0, 0], [4, 0, 0]]
    state = state_of(layer, [5, 9, 1, 7, 4], votes, prototypes)
    figure = plotting.memories(layer, state, NAMES, num_columns=2)

    # Of the ant the two largest of three; of the bee none; the memory without votes nowhere.
    ant, cat = rows_of(figure)
    assert [tile.text for tile in ant] == ["9", "5"]
    assert [tile.text for tile in cat] == ["1"]
    assert cat[0].left == ant[0].left
    for tile, index in ((ant[0], 1), (ant[1], 0), (cat[0], 2)):
        assert shows(tile, prototypes[index].reshape(2, 2))
    names = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert names["ant"] == pytest.approx(ant[0].top, abs=0.05)
    assert names["cat"] == pytest.approx(cat[0].top, abs=0.05)
    assert names["ant"] < names["bee"] < names["cat"]
    assert figure.get_suptitle().startswith("5 memories;")
    assert saves(figure, tmp_path / "memories.png")


def test_memories_of_the_banks_stand_side_by_side(colour, tmp_path):
    network, params, state, _, _ = colour
    figure = plotting.memories(network, state, NAMES, num_columns=6)
    rows, banks = rows_of(figure), network.banks(params, state)
    expected = [[] for _ in NAMES]
    for bank in banks:
        votes, counts = np.asarray(bank.state.votes), np.asarray(bank.state.counts)
        for label in range(3):
            mine = counts[(votes.argmax(axis=1) == label) & (votes.max(axis=1) > 0)]
            assert len(mine)
            expected[label] += [str(count) for count in sorted(mine, reverse=True)][:2]
    assert [[tile.text for tile in row] for row in rows] == expected
    assert figure.get_suptitle().startswith(f"{num_memories(network, state):,} memories;")
    assert saves(figure, tmp_path / "memories.png")


def test_more_banks_than_columns_still_have_a_column_each(colour):
    network, _, state, _, _ = colour
    assert len(tiles(plotting.memories(network, state, NAMES, num_columns=2))) == 3 * 3


@pytest.mark.parametrize("names", [NAMES, ("a name of quite some length", "b", "c")])
@pytest.mark.parametrize("num_columns", [1, 12, 40])
def test_memories_stay_within_the_figure_for_names_and_columns_of_any_number(
    names, num_columns, tmp_path
):
    layer = MemoryLayer(9, 3, capacity=40)
    prototypes = np.random.default_rng(0).random((40, 9))
    state = state_of(layer, [1234] * 40, [[1, 0, 0]] * 40, prototypes)
    figure = plotting.memories(layer, state, names, num_columns)
    assert len(tiles(figure)) == num_columns
    assert saves(figure, tmp_path / "memories.png")


def test_an_empty_network_is_drawn_without_memories(tmp_path):
    layer = MemoryLayer(4, 3, capacity=6)
    figure = plotting.memories(layer, layer.init(KEY), NAMES)
    assert tiles(figure) == []
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
    layer = network.banks(network.default_params(), network.init(KEY))[0].layer
    bank = state_of(layer, [2], [[0, 2, 0]], np.linspace(0, 1, layer.num_features)[None])
    state = bank
    if isinstance(network, Chain):
        last = (bank, bank) if isinstance(network.layers[-1], Vote) else bank
        state = (*network.init(KEY)[:-1], last)
    figure = plotting.memories(network, state, NAMES)
    assert {tile.picture.shape for tile in tiles(figure)} == {shape}
    assert saves(figure, tmp_path / "memories.png")


@dataclasses.dataclass(frozen=True)
class UpsideDown(FixedLayer):
    """A user's own layer: images upside down, asked of a bank inside that it shows as its own."""

    inside: MemoryLayer
    input_shape: tuple[int, ...] = (6, 6, 1)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.inside.output_shape

    def default_params(self):
        return self.inside.default_params()

    def init(self, key):
        return self.inside.init(key)

    def step(self, params, state, x, label):
        return self.inside.step(params, state, x[::-1].ravel(), label)

    def recall(self, params, state, x):
        return self.inside.recall(params, state, x[::-1].ravel())

    def step_block(self, params, state, xs, labels, length=None):
        return super(FixedLayer, self).step_block(params, state, xs, labels, length)

    def num_memories(self, state):
        return self.inside.num_memories(state)

    def banks(self, params, state, xs=None):
        if xs is not None:
            xs = xs[:, ::-1].reshape(len(xs), -1)
        return (Bank(self.inside, params, state, xs, lambda x: x.reshape(6, 6, 1)[::-1]),)


PIXELS = Chain((Pixels((6, 6, 1)), MemoryLayer(36, 3, 20)))
EDGES = Chain((OrientedEdges((6, 6, 1), grid=2), MemoryLayer(32, 3, 20)))
VOTE = Chain((Pixels((6, 6, 1), is_split_by_channel=True), Vote((MemoryLayer(36, 3, 20),))))
PICTURE, SKETCH = (6, 6), (18, 18)


@pytest.mark.parametrize(
    ("network", "shapes", "seen"),
    [
        (Mirrored(memjax.memory_network((6, 6, 1), 3, encoder="pixels")[0]), [PICTURE], 2),
        (Mirrored(VOTE), [PICTURE], 2),
        (Concatenate((PIXELS, EDGES)), [PICTURE, SKETCH], 2),
        (Concatenate((Mirrored(PIXELS), EDGES)), [PICTURE, SKETCH], 3),
        (Chain((Pixels((6, 6, 1)), Concatenate((MemoryLayer(36, 3, 20),) * 2))), [PICTURE] * 2, 2),
        (UpsideDown(MemoryLayer(36, 3, 20)), [PICTURE], 1),
    ],
)
def test_any_composition_can_be_drawn_and_explained(
    network, shapes, seen, images, labels, tmp_path
):
    params = memjax.replace_params(network.default_params(), novelty_threshold=0.01)
    pictures = images.astype(np.float32) / 255
    state, _ = memjax.fit(network, params, network.init(KEY), pictures, labels)
    figure = plotting.memories(network, state, NAMES)
    assert figure.get_suptitle().startswith(f"{num_memories(network, state):,} memories;")
    first = rows_of(figure)[0]
    assert sorted({tile.picture.shape for tile in first}) == sorted(set(shapes))
    assert saves(figure, tmp_path / "memories.png")

    explanation = memjax.explain(network, params, state, pictures[:1])
    figure = plotting.why(network, state, pictures[0], explanation, NAMES)
    rows = rows_of(figure)
    assert [row[-8].text for row in rows] == ["as seen"] * seen
    assert shows(rows[0][0], pictures[0, ..., 0])
    if isinstance(network, UpsideDown):  # what the user's layer sees is shown as the user says
        assert shows(rows[0][1], pictures[0, ..., 0])
    if isinstance(network, Mirrored):
        assert shows(rows[1][0], pictures[0, :, ::-1, 0])
    assert saves(figure, tmp_path / "why.png")


def test_a_network_whose_answer_comes_from_no_memories_is_refused():
    network = Pixels((6, 6, 1))
    with pytest.raises(ValueError, match="network: expected one whose answer comes from memories"):
        plotting.memories(network, (), NAMES)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_columns_are_drawn_place_by_place(channels, images, labels, tmp_path):
    pictures = np.concatenate([images[:, ::turn] for turn in (1, -1, 1)], axis=3)[..., :channels]
    shape = (6, 6, channels)
    plain = Columns(shape, patch=3, places=2, capacity=5)
    decorrelated = Columns(shape, patch=2, places=3, capacity=5, dimensions=2)
    network = Mirrored(Concatenate((plain, decorrelated)))
    params = memjax.replace_params(network.default_params(), decorrelation_period=20)
    params = memjax.replace_params(params, blank_contrast=0, novelty_threshold=0.01)
    state, _ = memjax.fit(network, params, network.init(KEY), pictures, labels)
    figure = plotting.columns(network, state, num_memories=4)
    for tile, layer, learned in zip(tiles(figure), (plain, decorrelated), state, strict=True):
        assert int(learned.size.sum()) > layer.places**2
        assert tile.text == f"{learned.size.sum()} memories at {layer.places**2} places"
        side = 2 * (layer.patch + 1) + 1
        assert tile.picture.shape[:2] == ((side + 2) * layer.places - 2,) * 2
    # The memories of the first place stand in its square in the order in which they were stored.
    square = tiles(figure)[0].picture[:9, :9]
    if channels != 2:
        for index, memory in enumerate(np.asarray(state[0].prototypes[0, :4])):
            top, left = (1 + 4 * place for place in divmod(index, 2))
            found = square[top : top + 3, left : left + 3, :channels]
            assert np.corrcoef(found.flat, memory)[0, 1] > 0.999
    assert (square[0] == square[4]).all()  # the paper between them
    assert saves(figure, tmp_path / "columns.png")


def test_a_network_without_columns_is_refused():
    with pytest.raises(ValueError, match="network: expected one that holds columns"):
        plotting.columns(PIXELS, PIXELS.init(KEY))


@pytest.mark.parametrize("window", [1000, 10, 1])
def test_growth_ends_at_the_number_of_memories_and_the_latest_accuracy(
    trained, labels, window, tmp_path
):
    network, _, state, infos, _ = trained
    figure = plotting.growth(infos, labels, window)
    left, right = figure.axes
    seen, size = left.lines[0].get_data()
    assert list(seen) == list(range(1, 61))
    assert size[0] >= 1 and size[-1] == num_memories(network, state) and (np.diff(size) >= 0).all()

    # A window is at most a quarter of the stream, and every point averages a whole one.
    window = min(window, 15)
    hits = np.asarray(infos.predicted) == labels
    seen, recent = right.lines[0].get_data()
    assert list(seen) == list(range(window, 61))
    expected = [100 * hits[end - window : end].mean() for end in seen]
    np.testing.assert_allclose(recent, expected)
    assert 0 < hits.mean() < 1
    assert f"last {window} examples" in right.get_ylabel()
    assert right.get_ylim()[1] == 100 and not right.lines[0].get_clip_on()
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
    banks = network.banks(params, state)
    image, *rows = [row[-8:] for row in [rows_of(figure)[0][:1], *rows_of(figure)]]
    assert image[0].text == "image"
    assert image[0].picture.shape == ((6, 6) if len(banks) == 1 else (6, 6, 3))
    for index, (bank, row) in enumerate(zip(banks, rows, strict=True)):
        assert row[0].text == "as seen" and shows(row[0], pictures[0][..., index])
        for rank, tile in enumerate(row[1:]):
            label = NAMES[explanation.labels[0, index, rank]]
            weight = explanation.weights[0, index, rank]
            assert tile.text == f"{label}\n{weight:.2f}"
            memory = np.asarray(bank.state.prototypes)[explanation.memories[0, index, rank]]
            assert shows(tile, memory.reshape(6, 6))
    assert saves(figure, tmp_path / "why.png")


def test_why_leaves_out_memories_that_do_not_exist_and_says_which_had_no_vote(tmp_path):
    layer = MemoryLayer(4, 3, capacity=3, num_neighbours=3)
    network, params = Chain((Pixels((2, 2, 1)), layer)), ((), layer.params(novelty_threshold=1.0))
    state = ((), state_of(layer, [2, 1], [[0, 2, 0], [0, 0, 0]], np.eye(2, 4)))
    image = np.array([[[9], [1]], [[0], [0]]], np.uint8)
    explanation = memjax.explain(network, params, state, image[None])
    figure = plotting.why(network, state, image, explanation, NAMES)
    (row,) = rows_of(figure)
    assert [tile.text.partition("\n")[0] for tile in row] == ["image", "as seen", "bee", "no vote"]
    assert saves(figure, tmp_path / "why.png")


def test_why_of_an_empty_network_shows_the_image_alone(tmp_path):
    layer = MemoryLayer(36, 3, capacity=4)
    network, params = Chain((Pixels((6, 6, 1)), layer)), ((), layer.params(novelty_threshold=1.0))
    state, image = network.init(KEY), np.zeros((6, 6, 1), np.uint8)
    explanation = memjax.explain(network, params, state, image[None])
    assert isinstance(explanation, Explanation)
    figure = plotting.why(network, state, image, explanation, NAMES)
    assert [tile.text for tile in tiles(figure)] == ["image", "as seen"]
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
def test_an_accuracy_matrix_has_a_row_for_each_task_and_a_number_for_every_task_so_far(matrix):
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
