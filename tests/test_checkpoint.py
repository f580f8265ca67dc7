"""Saving and restoring: everything comes back, and damage is named."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import checkpoint
from memjax.base import UNLABELLED, CompositeInfo, Layer
from memjax.checkpoint import CheckpointError
from memjax.composition import Chain
from memjax.distances import Distance, cosine, manhattan
from memjax.memory import MemoryLayer
from memjax.vision.encoders import Pixels

pytest.importorskip("orbax.checkpoint")

KEY = jax.random.key(0)


class GainParams(NamedTuple):
    gain: jax.Array


@dataclasses.dataclass(frozen=True)
class GainOfAUser(Layer):
    """Multiplies, and counts what it has seen; its state has dtypes that memories do not have."""

    num_features: int
    name: str = "gain"
    offsets: tuple[float, ...] = (0.1, 0.2)
    inner: Layer | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def default_params(self) -> GainParams:
        return GainParams(jnp.asarray(1.5, jnp.float32))

    def init(self, key) -> dict[str, jax.Array]:
        return {
            "weights": jax.random.normal(key, (self.num_features,), jnp.float32),
            "is_seen": jnp.zeros((2, 3), bool),
            "bytes": jnp.arange(4, dtype=jnp.uint8),
            "half": jnp.ones((1, 2), jnp.bfloat16),
        }

    def recall(self, params, state, x):
        return params.gain * x * state["weights"]

    def step(self, params, state, x, label):
        info = CompositeInfo(jnp.asarray(UNLABELLED, jnp.int32), ())
        return state | {"is_seen": ~state["is_seen"]}, self.recall(params, state, x), info


def bits(tree: Any) -> list[tuple[str, Any, Any, bytes]]:
    """Every leaf of a tree as path, dtype, shape and bytes."""
    return [
        (jax.tree_util.keystr(path), leaf.dtype, leaf.shape, np.asarray(leaf).tobytes())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


@pytest.fixture(scope="module")
def trained(images, labels):
    """A grey and a colour network that have learned, with the images they learned."""
    colour = np.concatenate([images, images[:, ::-1], 255 - images], axis=3)
    results = {}
    for name, pictures in (("grey", images), ("colour", colour)):
        network, params = memjax.memory_network(
            pictures.shape[1:], 3, capacity=20, encoder="pixels", novelty_threshold=0.01
        )
        state, _ = memjax.fit(network, params, network.init(KEY), pictures, labels)
        results[name] = (network, params, state, pictures)
    return results


@pytest.fixture
def folder(trained, tmp_path):
    """A checkpoint of the grey network that a test may damage."""
    network, params, state, _ = trained["grey"]
    return checkpoint.save(tmp_path / "trained", network, params, state)


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_a_network_comes_back_to_the_last_bit(kind, trained, tmp_path):
    network, params, state, pictures = trained[kind]
    path = checkpoint.save(tmp_path / "new" / "trained", network, params, state)
    restored, restored_params, restored_state = checkpoint.restore(path)
    assert path == tmp_path / "new" / "trained"
    assert restored == network and hash(restored) == hash(network)
    assert bits(restored_params) == bits(params)
    assert bits(restored_state) == bits(state)
    assert jax.tree.structure((restored_params, restored_state)) == jax.tree.structure(
        (params, state)
    )
    assert checkpoint.state_digest(restored_state) == checkpoint.state_digest(state)
    before = memjax.predict_proba(network, params, state, pictures)
    after = memjax.predict_proba(restored, restored_params, restored_state, pictures)
    assert before.any() and np.array_equal(before, after)
    assert os.listdir(path.parent) == ["trained"]


def test_the_network_that_is_expected_is_accepted(folder, trained):
    assert checkpoint.restore(str(folder), trained["grey"][0])[0] == trained["grey"][0]


@pytest.mark.parametrize(
    "network",
    [
        GainOfAUser(5),
        GainOfAUser(3, "né \"'\n", (), Pixels((2, 2, 1))),
        Chain((GainOfAUser(4), GainOfAUser(4), MemoryLayer(4, 2, 3))),
        MemoryLayer(4, 2, 3, cosine, False, "replace", 1, "activations"),
        MemoryLayer(4, 2, 3, manhattan, on_full="ignore"),
        MemoryLayer(4, 2, np.int64(3)),  # type: ignore[arg-type]
        Pixels((2, 2, 1)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_layers_of_a_user_and_every_setting_come_back(network, tmp_path):
    params, state = network.default_params(), network.init(KEY)
    path = checkpoint.save(tmp_path / "saved", network, params, state)
    restored, restored_params, restored_state = checkpoint.restore(path)
    assert restored == network
    assert bits(restored_params) == bits(params)
    assert bits(restored_state) == bits(state)


def test_a_restored_network_goes_on_learning_as_if_it_had_never_stopped(trained, tmp_path, labels):
    network, params, state, pictures = trained["grey"]
    path = checkpoint.save(tmp_path / "saved", network, params, state)
    _, restored_params, restored_state = checkpoint.restore(path)
    onward = [
        memjax.fit(network, p, s, pictures[::-1], labels[::-1])[0]
        for p, s in ((params, state), (restored_params, restored_state))
    ]
    assert bits(onward[0]) == bits(onward[1]) != bits(state)


def test_params_given_as_python_numbers_are_saved_as_the_float32_they_are_used_as(tmp_path):
    layer = MemoryLayer(4, 2, 3)
    params: Any = layer.params(0.1)._replace(novelty_threshold=0.1, plasticity_floor=0)
    path = checkpoint.save(tmp_path / "saved", layer, params, layer.init(KEY))
    assert bits(checkpoint.restore(path)[1]) == bits(layer.params(0.1))


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "network.json").write_text("mine")


@pytest.mark.parametrize("occupy", [a_file, a_folder, a_full_folder])
def test_saving_over_something_is_refused_and_leaves_it_as_it_was(occupy, trained, tmp_path):
    occupy(tmp_path / "taken")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="expected a folder that does not exist yet"):
        checkpoint.save(tmp_path / "taken", *trained["grey"][:3])
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def alike(x, memories):
    return jnp.zeros(memories.shape[0])


def alike_pairwise(xs, memories):
    return jnp.zeros((memories.shape[0], xs.shape[0]))


class NotADataclass(GainOfAUser):
    pass


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            MemoryLayer(4, 2, 3, Distance("cosine", alike, alike_pairwise)),
            "expected a distance of memjax.distances, got cosine",
        ),
        (GainOfAUser(4, inner=object()), "expected fields of numbers"),  # type: ignore[arg-type]
        (GainOfAUser(4, offsets=[1.0]), "expected fields of numbers"),  # type: ignore[arg-type]
    ],
    ids=["a distance of its own", "an object", "a list"],
)
def test_a_network_that_could_not_be_restored_is_not_saved(network, says, tmp_path):
    params, state = network.default_params(), network.init(KEY)
    with pytest.raises(TypeError, match=says):
        checkpoint.save(tmp_path / "saved", network, params, state)
    assert contents(tmp_path) == {}


def test_the_state_of_another_network_is_not_saved(tmp_path):
    small, large = MemoryLayer(4, 2, 3), MemoryLayer(4, 2, 5)
    with pytest.raises(ValueError, match=r"state/prototypes to be float32\[3, 4\], got .*\[5, 4\]"):
        checkpoint.save(tmp_path / "saved", small, small.default_params(), large.init(KEY))
    with pytest.raises(ValueError, match="the array state/counts is missing"):
        checkpoint.save(tmp_path / "saved", small, small.default_params(), ())
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("path", ["nothing", "."], ids=["no such folder", "a folder of others"])
def test_restoring_from_what_is_no_checkpoint_says_so(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"path: expected a folder with a network\.json"):
        checkpoint.restore(tmp_path / path)


def as_text(text: str):
    return lambda description: text


def edited(**fields):
    def edit(description):
        description["layers"][1].update(fields)
        return json.dumps(description)

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda description: json.dumps(description)[:-9], r"network\.json: cannot be read"),
        (as_text(""), r"network\.json: cannot be read"),
        (as_text("{}"), r"network\.json: cannot be read .*'kind'"),
        (as_text("3"), r"network\.json: cannot be read .*not int"),
        (as_text("[]"), r"network\.json: cannot be read .*not tuple"),
        (as_text('{"kind": "Layer"}'), r"no layer of the name 'Layer' is imported"),
        (as_text('{"kind": "Chain", "layers": [1]}'), r"network\.json: cannot be read"),
        (as_text('{"kind": "Chain", "layers": "ab"}'), r"network\.json: cannot be read"),
        (edited(kind="Memories"), r"no layer of the name 'Memories' is imported"),
        (edited(distance={"kind": "Distance", "name": "chessboard"}), r"cannot be .*'chessboard'"),
        (edited(colour="red"), r"cannot be read .*'colour'"),
        (edited(num_classes=0), r"cannot be read .*num_classes: expected a positive integer"),
        (
            edited(capacity=21),
            r"expected the array state/1/prototypes to be float32\[21, 36\], got float32\[20, 36\]",
        ),
        (edited(kind="Pixels"), r"network\.json: cannot be read"),
    ],
)
def test_a_description_that_does_not_fit_is_named(edit, says, folder):
    file = folder / "network.json"
    file.write_text(edit(json.loads(file.read_text())))
    with pytest.raises(CheckpointError, match=says):
        checkpoint.restore(folder)


def test_bytes_that_are_no_text_are_no_description(folder):
    (folder / "network.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(CheckpointError, match=r"network\.json: cannot be read"):
        checkpoint.restore(folder)


def test_arrays_that_the_description_lacks_are_named(folder, tmp_path):
    layer = MemoryLayer(4, 2, 3)
    other = checkpoint.save(tmp_path / "other", layer, layer.params(1), layer.init(KEY))
    shutil.copy(other / "network.json", folder / "network.json")
    with pytest.raises(CheckpointError, match=r"the array params/.* is (missing|not part)"):
        checkpoint.restore(folder)


def test_another_network_than_the_expected_one_is_an_error(folder, trained):
    with pytest.raises(CheckpointError, match=r"network: expected Chain.*holds Chain"):
        checkpoint.restore(folder, trained["colour"][0])


def test_sums_that_were_cut_off_are_named(folder):
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    for some in ("", "".join(lines[:-1]), "".join(lines)[:-2]):
        sums.write_text(some)
        with pytest.raises(CheckpointError, match="SHA256SUMS: expected a line for arrays/"):
            checkpoint.restore(folder)


@pytest.mark.parametrize("what", ["arrays", "SHA256SUMS"])
def test_a_missing_part_is_named(what, folder):
    if (folder / what).is_dir():
        shutil.rmtree(folder / what)
    else:
        (folder / what).unlink()
    with pytest.raises(CheckpointError, match=what):
        checkpoint.restore(folder)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip_one_bit, None], ids=["cut", "one bit", "removed"])
def test_damage_to_any_file_of_the_arrays_is_noticed_and_the_file_named(damage, folder, capfd):
    files = [file for file in (folder / "arrays").rglob("*") if file.is_file()]
    files = [file for file in files if file.stat().st_size]
    assert len(files) > 3
    for file in files:
        content = file.read_bytes()
        if damage:
            file.write_bytes(damage(content))
        else:
            file.unlink()
        with pytest.raises(CheckpointError, match=file.name):
            checkpoint.restore(folder)
        file.write_bytes(content)
    checkpoint.restore(folder)
    assert capfd.readouterr() == ("", "")


def test_arrays_that_orbax_cannot_read_are_an_error_of_one_sentence(folder):
    sums = folder / "SHA256SUMS"
    nothing = hashlib.sha256(b"").hexdigest()
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        (folder / name).write_text("")
        sums.write_text(sums.read_text().replace(digest, nothing))
    with pytest.raises(CheckpointError, match=r"arrays: the arrays cannot be read") as caught:
        checkpoint.restore(folder)
    assert "\n" not in str(caught.value)


def is_pickle(content: bytes) -> bool:
    return content[:1] == b"\x80" and content[-1:] == b"."


def test_nothing_is_pickled_on_the_way_out_or_in(trained, tmp_path, monkeypatch):
    network, params, state, _ = trained["grey"]

    def refuse(*_, **__):
        raise AssertionError("a pickle")

    for module, name in [(pickle, name) for name in ("dump", "dumps", "load", "loads")] + [
        (np, "load"),
        (np, "save"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    path = checkpoint.save(tmp_path / "trained", network, params, state)
    assert checkpoint.restore(path)[0] == network
    files = [content for content in contents(path).values() if content is not None]
    assert len(files) > 4
    assert not any(is_pickle(content) or b"NUMPY" in content for content in files)
    monkeypatch.undo()
    assert is_pickle(pickle.dumps(network))


def test_an_interrupted_save_leaves_nothing(trained, tmp_path, monkeypatch):
    replace = os.replace

    def interrupt(source, target, **options):
        if Path(target) == tmp_path / "trained":
            assert (Path(source) / "network.json").is_file()
            raise KeyboardInterrupt
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    assert contents(tmp_path) == {}
    monkeypatch.undo()
    checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    assert os.listdir(tmp_path) == ["trained"]


def test_a_full_disk_leaves_nothing(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left")

    import orbax.checkpoint as ocp

    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    assert contents(tmp_path) == {}


def test_the_digest_is_that_of_a_copy_and_changes_with_every_single_bit(trained):
    state = trained["grey"][2]
    digest = checkpoint.state_digest(state)
    assert len(digest) == 64 and int(digest, 16) > 0
    assert checkpoint.state_digest(jax.tree.map(np.array, state)) == digest
    assert checkpoint.state_digest(jax.tree.map(jnp.array, state)) == digest
    leaves, structure = jax.tree.flatten(state)
    digests = {digest}
    for index, leaf in enumerate(leaves):
        changed = np.frombuffer(flip_one_bit(np.asarray(leaf).tobytes()), leaf.dtype)
        other = [*leaves[:index], changed.reshape(leaf.shape), *leaves[index + 1 :]]
        digests.add(checkpoint.state_digest(jax.tree.unflatten(structure, other)))
    assert len(digests) == len(leaves) + 1


def test_the_digest_tells_zero_from_minus_zero_and_shapes_dtypes_names_and_layouts_apart():
    digest = checkpoint.state_digest
    rows = np.arange(6, dtype=np.int32).reshape(2, 3)
    others = [
        {"a": rows},
        {"b": rows},
        {"a": rows.reshape(3, 2)},
        {"a": rows.astype(np.int64)},
        {"a": rows.T},
        {"a": np.zeros(2, np.float32)},
        {"a": -np.zeros(2, np.float32)},
        (),
    ]
    assert len(set(map(digest, others))) == len(others)
    assert digest({"a": np.asfortranarray(rows)}) == digest({"a": rows})
    assert digest({"a": rows.astype(">i4")}) == digest({"a": rows})
