"""Saving and restoring: everything comes back, and damage is named."""

import asyncio
import dataclasses
import gc
import hashlib
import json
import os
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import memjax
from memjax import _orbax, checkpoint
from memjax.base import UNLABELLED, CompositeInfo, Layer
from memjax.checkpoint import CheckpointError
from memjax.composition import Chain
from memjax.devices import memory_mesh
from memjax.distances import Distance, cosine, manhattan
from memjax.memory import MemoryLayer
from memjax.readouts import DeltaReadout
from memjax.vision.encoders import Pixels

ocp = pytest.importorskip("orbax.checkpoint")

KEY = jax.random.key(0)


class GainParams(NamedTuple):
    gain: jax.Array


@dataclasses.dataclass(frozen=True)
class GainOfAUser(Layer):
    """Multiplies, and counts what it has seen; its state has dtypes that memories do not have."""

    num_features: int
    name: str = "gain"
    offsets: tuple[float, ...] = (0.1, 0.2)
    inner: Any = None
    notes: Any = dataclasses.field(default=None, metadata={"saved": False})

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


def a_rule(learning_rate):
    """A rule of a user, with a schedule."""
    return optax.sgd(optax.linear_schedule(learning_rate, 0, 9), momentum=0.9)


def alike(x, memories):
    return jnp.zeros(memories.shape[0])


def alike_pairwise(xs, memories):
    return jnp.zeros((memories.shape[0], xs.shape[0]))


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
    ("network", "layers"),
    [
        (GainOfAUser(5), [GainOfAUser]),
        (GainOfAUser(3, "né \"'\n", (), Pixels((2, 2, 1))), [GainOfAUser]),
        (Chain((GainOfAUser(4), GainOfAUser(4), MemoryLayer(4, 2, 3))), (GainOfAUser, a_rule)),
        (MemoryLayer(4, 2, 3, cosine, False, "replace", 1, "activations"), ()),
        (MemoryLayer(4, 2, 3, manhattan, on_full="ignore"), ()),
        (MemoryLayer(4, 2, np.int64(3)), ()),  # type: ignore[arg-type]
        (MemoryLayer(4, 2, 3, Distance("mine", alike, alike_pairwise)), [alike, alike_pairwise]),
        (Pixels((2, 2, 1)), ()),
        (DeltaReadout(4, 2), ()),
        (DeltaReadout(4, 2, rule=optax.sgd), [optax.sgd]),
        (DeltaReadout(4, 2, rule=a_rule), [a_rule]),
        (GainOfAUser(5, inner=(jnp.tanh, GainOfAUser)), [GainOfAUser, jnp.tanh]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_of_a_user_and_every_setting_come_back(network, layers, tmp_path):
    params, state = network.default_params(), network.init(KEY)
    path = checkpoint.save(tmp_path / "saved", network, params, state)
    for options in ({"layers": layers}, {"network": network}):
        restored, restored_params, restored_state = checkpoint.restore(path, **options)
        assert restored == network
        assert bits(restored_params) == bits(params)
        assert bits(restored_state) == bits(state)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (GainOfAUser(5), f"{__name__}:GainOfAUser"),
        (Chain((DeltaReadout(4, 2, rule=optax.sgd),)), "optax:sgd"),
        (MemoryLayer(4, 2, 3, Distance("mine", alike, alike_pairwise)), f"{__name__}:alike"),
    ],
    ids=["a layer", "a rule of optax", "a distance"],
)
def test_what_memjax_does_not_have_must_be_passed_and_the_sentence_names_it(
    network, name, tmp_path
):
    path = checkpoint.save(tmp_path / "saved", network, network.default_params(), network.init(KEY))
    with pytest.raises(CheckpointError, match=rf"'{name}' is not part .* pass it in layers="):
        checkpoint.restore(path)


def test_fields_that_are_not_saved_are_those_of_the_network_given(tmp_path):
    network = GainOfAUser(5, notes="of this session")
    path = checkpoint.save(tmp_path / "saved", network, network.default_params(), network.init(KEY))
    assert "session" not in (path / "network.json").read_text()
    assert checkpoint.restore(path, layers=[GainOfAUser])[0] == GainOfAUser(5)
    assert checkpoint.restore(path, network)[0] == network


def test_a_class_of_the_script_that_saved_it_is_found_in_another_module(tmp_path):
    network = GainOfAUser(5)
    path = checkpoint.save(tmp_path / "saved", network, network.default_params(), network.init(KEY))
    rewrite(path, lambda text: text.replace(__name__, "__main__"))
    assert "__main__:GainOfAUser" in (path / "network.json").read_text()
    assert checkpoint.restore(path, layers=[GainOfAUser])[0] == network
    assert checkpoint.restore(path, network)[0] == network


def test_nothing_is_imported_or_called_by_a_name_in_a_file(folder, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("trap:Layer", "os:system", "memjax.checkpoint:save", "memjax:restore"):
        trap = {"name": name, "fields": {"command": "exit", "path": "."}}
        rewrite(folder, lambda text, trap=trap: json.dumps(json.loads(text) | {"network": trap}))
        with pytest.raises(CheckpointError, match=f"'{name}' is not part of memjax"):
            checkpoint.restore(folder)
    assert "trap" not in sys.modules


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
    params: Any = layer.params(novelty_threshold=0.1)._replace(
        novelty_threshold=0.1, plasticity_floor=0
    )
    path = checkpoint.save(tmp_path / "saved", layer, params, layer.init(KEY))
    assert bits(checkpoint.restore(path)[1]) == bits(layer.params(novelty_threshold=0.1))


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


def local():
    """A function and a class that no module has."""

    @dataclasses.dataclass(frozen=True)
    class Local(GainOfAUser):
        pass

    return lambda learning_rate: optax.sgd(learning_rate), Local


class ACallable:
    def __call__(self, learning_rate):
        return optax.sgd(learning_rate)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            MemoryLayer(4, 2, 3, Distance("cosine", alike, lambda xs, memories: xs)),
            "expected classes and functions at the top level of a module, got <function <lambda>",
        ),
        (DeltaReadout(4, 2, rule=local()[0]), "top level of a module, got <function local"),
        (DeltaReadout(4, 2, rule=partial(optax.sgd, momentum=0.9)), "top level .* functools.part"),
        (DeltaReadout(4, 2, rule=ACallable()), "top level of a module, got <.*ACallable object"),
        (local()[1](4), "top level of a module, got <class .*local.<locals>.Local"),
        (GainOfAUser(4, inner=object()), "expected dataclasses with fields of numbers"),
        (GainOfAUser(4, offsets=[1.0]), "expected dataclasses with fields of numbers"),  # type: ignore[arg-type]
    ],
    ids=["lambda", "local function", "partial", "callable", "local class", "object", "list"],
)
def test_a_network_that_could_not_be_restored_is_not_saved(network, says, tmp_path):
    params, state = network.default_params(), network.init(KEY)
    with pytest.raises(TypeError, match=f"network: .*{says}"):
        checkpoint.save(tmp_path / "saved", network, params, state)
    assert contents(tmp_path) == {}
    with pytest.raises(TypeError, match="layers: expected"):
        checkpoint.restore(tmp_path, layers=[lambda x: x])


def test_the_state_of_another_network_is_not_saved(tmp_path):
    small, large = MemoryLayer(4, 2, 3), MemoryLayer(4, 2, 5)
    with pytest.raises(
        ValueError, match=r"state\.prototypes: expected float32\[3, 4\], got .*5, 4"
    ):
        checkpoint.save(tmp_path / "saved", small, small.default_params(), large.init(KEY))
    with pytest.raises(ValueError, match="state: expected"):
        checkpoint.save(tmp_path / "saved", small, small.default_params(), ())
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("path", ["nothing", "."], ids=["no such folder", "a folder of others"])
def test_restoring_from_what_is_no_checkpoint_says_so(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"path: expected a folder with a network\.json"):
        checkpoint.restore(tmp_path / path)


def rewrite(folder: Path, edit) -> None:
    """Change network.json as one would who also knows about the sums."""
    file, sums = folder / "network.json", folder / "SHA256SUMS"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(edit(file.read_text()))
    after = hashlib.sha256(file.read_bytes()).hexdigest()
    sums.write_text(sums.read_text().replace(before, after))


def described(network):
    return lambda text: json.dumps(json.loads(text) | {"network": network})


def edited(**fields):
    def edit(text):
        description = json.loads(text)
        description["network"]["fields"]["layers"][1]["fields"] |= fields
        return json.dumps(description)

    return edit


def without(*names):
    def edit(text):
        description = json.loads(text)
        for name in names:
            del description["network"]["fields"]["layers"][1]["fields"][name]
        return json.dumps(description)

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda text: text[:-9], "cannot be read"),
        (lambda text: "", "cannot be read"),
        (lambda text: "{}", "expected format 2, got that of memjax 0.1"),
        (lambda text: "3", "cannot be read"),
        (lambda text: "[" * 100_000, "cannot be read"),
        (described([[]]), "cannot be read .*expected a layer, got tuple"),
        (described(3), "cannot be read .*expected a layer, got int"),
        (described({}), "cannot be read .*'name'"),
        (described({"name": [], "fields": {}}), "cannot be read"),
        (described({"name": "memjax.readouts:adam"}), "cannot be read .*expected a layer"),
        (described({"name": "memjax:Layer", "fields": {}}), "'memjax:Layer' is not part"),
        (described({"name": "memjax:Chain", "fields": {"layers": [1]}}), "cannot be read"),
        (described({"name": "memjax:Chain", "fields": {"layers": "ab"}}), "cannot be read"),
        (described({"name": "memjax:Chain", "fields": []}), "cannot be read"),
        (edited(distance={"name": "memjax.distances:chessboard"}), "chessboard' is not part"),
        (edited(colour="red"), "cannot be read .*'colour'"),
        (without("capacity", "num_neighbours"), "saved MemoryLayer without capacity, num_neighb"),
        (edited(num_classes=0), "cannot be read .*num_classes: expected a positive integer"),
        (edited(capacity=10**30), "cannot be read .*capacity: expected less than"),
        (
            edited(capacity=2**31 - 1),
            r"array state/1/prototypes to be float32\[2147483647, 36\], got float32\[20, 36\]",
        ),
        (
            edited(capacity=21),
            r"expected the array state/1/prototypes to be float32\[21, 36\], got float32\[20, 36\]",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_named(edit, says, folder):
    rewrite(folder, edit)
    with pytest.raises(CheckpointError, match=says) as caught:
        checkpoint.restore(folder)
    assert "\n" not in str(caught.value)


def test_a_network_within_a_network_ten_thousand_times_is_refused(folder):
    network: Any = {"name": "memjax:Chain", "fields": {"layers": ["innermost"]}}
    text = json.dumps(network)
    for _ in range(10_000):
        text = '{"name": "memjax:Chain", "fields": {"layers": [' + text + "]}}"
    rewrite(folder, lambda _: '{"format": 2, "network": ' + text + "}")
    with pytest.raises(CheckpointError, match=r"network\.json: cannot be read"):
        checkpoint.restore(folder)


def test_a_folder_of_another_format_is_refused_by_the_version_that_wrote_it(folder):
    rewrite(folder, lambda text: json.dumps(json.loads(text) | {"format": 3, "memjax": "9.1"}))
    with pytest.raises(CheckpointError, match=r"expected format 2, got that of memjax 9\.1"):
        checkpoint.restore(folder)
    # As memjax 0.1 wrote it.
    (folder / "network.json").write_text('{"kind": "Chain", "layers": []}')
    with pytest.raises(CheckpointError, match=r"network\.json: .*got that of memjax 0\.1"):
        checkpoint.restore(folder)


def test_bytes_that_are_no_text_are_no_description(folder):
    (folder / "network.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(CheckpointError, match=r"network\.json: cannot be read"):
        checkpoint.restore(folder)


def test_arrays_that_the_description_lacks_are_named(folder, tmp_path):
    layer = MemoryLayer(4, 2, 3)
    other = checkpoint.save(
        tmp_path / "other", layer, layer.params(novelty_threshold=1), layer.init(KEY)
    )
    rewrite(folder, lambda _: (other / "network.json").read_text())
    with pytest.raises(CheckpointError, match=r"the array params/.* is (missing|not part)"):
        checkpoint.restore(folder)


def test_another_network_than_the_expected_one_is_an_error(folder, trained):
    with pytest.raises(CheckpointError, match=r"network: expected Chain.*holds Chain"):
        checkpoint.restore(folder, trained["colour"][0])


def test_sums_that_were_cut_off_are_named(folder):
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    for some in ("", "".join(lines[:-1]), "".join(lines)[:-2], "".join(lines)[:-60], "3f00"):
        sums.write_text(some)
        with pytest.raises(CheckpointError, match="is not as it was saved, by the SHA256SUMS"):
            checkpoint.restore(folder)
    sums.unlink()
    with pytest.raises(CheckpointError, match="expected the file SHA256SUMS, found none"):
        checkpoint.restore(folder)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]


# The two files of Orbax that say when it wrote and where to.
WITHOUT_SUM = ("_CHECKPOINT_METADATA", "commit_success.txt")


@pytest.mark.parametrize("damage", [cut, flip_one_bit, None], ids=["cut", "one bit", "removed"])
def test_damage_to_any_file_is_noticed_and_the_file_named(damage, folder, trained, capfd):
    files = files_of(folder)
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        if damage:
            file.write_bytes(damage(content))
        else:
            file.unlink()
        if file.name in WITHOUT_SUM:
            assert bits(checkpoint.restore(folder)[2]) == bits(trained["grey"][2])
        else:
            with pytest.raises(CheckpointError, match=file.name):
                checkpoint.restore(folder)
        file.write_bytes(content)
    checkpoint.restore(folder)
    assert capfd.readouterr() == ("", "")


def test_orbax_alone_does_not_notice_a_flipped_bit_of_an_array(folder):
    def arrays():
        return ocp.PyTreeCheckpointer(use_zarr3=True).restore(folder)

    before, largest = arrays(), max(files_of(folder), key=lambda file: file.stat().st_size)
    largest.write_bytes(flip_one_bit(largest.read_bytes()))
    assert bits(arrays()) != bits(before)


def test_arrays_that_orbax_cannot_read_are_an_error_of_one_sentence(folder):
    sums = folder / "SHA256SUMS"
    nothing = hashlib.sha256(b"").hexdigest()
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        if name != "network.json":
            (folder / name).write_text("")
            sums.write_text(sums.read_text().replace(digest, nothing))
    with pytest.raises(CheckpointError, match=r"the arrays cannot be read") as caught:
        checkpoint.restore(folder)
    assert "\n" not in str(caught.value)


def test_every_file_is_on_the_disk_before_the_folder_has_its_name(trained, tmp_path, monkeypatch):
    """Which survives a power cut, and cannot be tried here."""
    synced = set()
    fsync = os.fsync

    def note(descriptor):
        assert not (tmp_path / "trained").exists()
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    path = checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    parts = {part.stat().st_ino for part in path.rglob("*") if part.name not in WITHOUT_SUM}
    assert parts <= synced


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
    def interrupt(folder):
        assert (Path(folder) / "network.json").is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_orbax, "_sums", interrupt)
        checkpoint.save(tmp_path / "new" / "deep" / "trained", *trained["grey"][:3])
    assert os.listdir(tmp_path) == []
    checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    assert os.listdir(tmp_path) == ["trained"]


def test_a_full_disk_leaves_nothing(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(Path, "write_text", fail)
        checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    assert contents(tmp_path) == {}


def test_what_a_killed_process_left_is_no_network_and_the_next_save_clears_it(trained, tmp_path):
    path = checkpoint.save(tmp_path / "trained", *trained["grey"][:3])
    unfinished = tmp_path / "trained.orbax-checkpoint-tmp"
    path.rename(unfinished)
    (unfinished / "SHA256SUMS").unlink()
    (unfinished / "left").write_text("by a process that was killed")
    with pytest.raises(CheckpointError, match="expected a folder with a network"):
        checkpoint.restore(path)
    with pytest.raises(CheckpointError, match="expected the file SHA256SUMS"):
        checkpoint.restore(unfinished)
    checkpoint.save(path, *trained["grey"][:3])
    assert os.listdir(tmp_path) == ["trained"] and not (path / "left").exists()
    checkpoint.restore(path)


def over_devices(layer, count):
    return memjax.shard(layer, memory_mesh(jax.devices()[:count]))


@pytest.mark.parametrize(
    "saved_on", [2, *(pytest.param(number, marks=pytest.mark.long) for number in (1, 4))]
)
def test_arrays_are_saved_where_they_lie_and_restored_over_any_number_of_devices(
    saved_on, tmp_path
):
    layer = MemoryLayer(5, 3, 8)
    saver, params = over_devices(layer, saved_on), layer.params(novelty_threshold=0.3)
    xs, labels = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32), np.arange(20) % 3
    state, _ = memjax.fit(saver, params, saver.init(KEY), xs, labels.astype(np.int32))
    counts, folder = {"num_seen": 20}, tmp_path / "stream"
    latest = checkpoint.save_latest(folder, saver, params, state, counts)
    path = checkpoint.save(tmp_path / "saved", saver, params, state)
    for network in (*(over_devices(layer, count) for count in (1, 2, 4)), layer):
        wanted = network.init(KEY)
        found = checkpoint.restore_latest(folder, network, params, wanted, counts)
        assert found is not None and found[1] == counts
        for restored in (found[0], checkpoint.restore(path, network)[2]):
            assert checkpoint.state_digest(restored) == checkpoint.state_digest(state)
            same = jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, wanted)
            assert jax.tree.all(same)
        assert checkpoint.restore(path, network)[0] == network
    assert checkpoint.restore(path)[0] == layer
    # A piece of the file for each device: nothing was gathered.
    for place in (path, latest):
        arrays = ocp.PyTreeCheckpointHandler(use_zarr3=True).metadata(place).tree
        assert arrays["state/prototypes"].storage.chunk_shape == (8 // saved_on, 5)


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


def test_asyncio_is_silent_for_good_about_what_orbax_could_not_write(folder, caplog):
    # What failed may be collected after a write that did not fail, as that of `folder`.
    def log(reason):
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(OSError(reason))
        gc.collect()
        loop.close()
        return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]

    assert log("a.orbax-checkpoint-tmp/d/4d7d: File too large") == []
    assert log("of another") == ["of another"]
