"""A bank over devices and over processes: the winners and the memories of one device."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import checkpoint
from memjax.command.cli import main
from memjax.devices import gather_to_host, memory_mesh, shard
from memjax.memory import MemoryLayer

KEY = jax.random.key(0)
ROOT = Path(__file__).parents[1]

# Learns with every policy on one device and on several, and says what differs.
SCRIPT = """
import jax, sys
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
import numpy as np
import memjax
from memjax.distances import DISTANCES
from memjax.memory import MemoryLayer
from memjax.devices import memory_mesh

generator = np.random.default_rng(0)
centres = generator.normal(0, 1, (60, 12))
labels = generator.integers(-1, 4, 500).astype(np.int32)
xs = centres[generator.integers(0, 60, 500)] + generator.normal(0, 0.3, (500, 12))
xs = xs.astype(np.float32)
threshold = {"squared_euclidean": 1.0, "cosine": 0.05}
for on_full, capacity, name in CASES:
    bank = MemoryLayer(12, 4, capacity, distance=DISTANCES[name], on_full=on_full)
    params = bank.params(threshold[name], plasticity_floor=0.1)
    alone = memjax.fit(bank, params, bank.init(jax.random.key(0)), xs, labels, 40)
    for num_devices in (1, 2, 8):
        mesh = memory_mesh(jax.devices()[:num_devices])
        placed = memjax.shard(bank, mesh)
        spread = memjax.fit(placed, params, placed.init(jax.random.key(0)), xs, labels, 40)
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(spread)):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
        for field in ("winner", "is_novel", "is_saturated", "predicted"):
            one, other = (getattr(infos, field) for _, infos in (alone, spread))
            np.testing.assert_array_equal(other, one)
        np.testing.assert_array_equal(spread[0].prototypes, alone[0].prototypes)
        held = {len(shard.data) for shard in spread[0].prototypes.addressable_shards}
        assert held == {capacity // num_devices}, held
        asked = [
            memjax.predict_proba(layer, params, state, xs)
            for layer, state in ((bank, alone[0]), (placed, spread[0]))
        ]
        np.testing.assert_allclose(asked[1], asked[0], atol=1e-5)
        asked = [
            memjax.novelty_score(layer, params, state, xs)
            for layer, state in ((bank, alone[0]), (placed, spread[0]))
        ]
        np.testing.assert_allclose(asked[1], asked[0], rtol=1e-5, atol=1e-6)
        print(num_devices, on_full, capacity, name, int(alone[1].is_saturated.sum()))
"""
CASES = [
    (on_full, capacity, distance)
    for on_full in ("adapt", "replace", "ignore")
    for capacity, distance in (
        (24, "squared_euclidean"),
        (280, "squared_euclidean"),
        (64, "cosine"),
    )
]


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("on_full", ["adapt", "replace", "ignore"])
def test_devices_together_learn_and_answer_what_one_does(on_full):
    cases = [case for case in CASES if case[0] == on_full]
    lines = run(f"CASES = {cases!r}\n{SCRIPT}").splitlines()
    assert len(lines) == 3 * len(cases)
    assert all(int(line.split()[-1]) > 20 for line in lines if " 24 " in line or " 64 " in line)


@pytest.fixture
def layer() -> MemoryLayer:
    return MemoryLayer(3, num_classes=2, capacity=8)


@pytest.fixture
def placed(layer) -> MemoryLayer:
    return MemoryLayer(3, num_classes=2, capacity=8, mesh=memory_mesh(jax.devices()[:1]))


@pytest.fixture
def stream() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 30).astype(np.int32)
    return generator.normal(labels[:, None], 0.5, (30, 3)).astype(np.float32), labels


def test_codes_of_learning_are_those_that_steps_give(layer, placed, stream):
    params = layer.params(0.3)
    state, codes, _ = placed.step_block(params, placed.init(KEY), *map(jnp.asarray, stream))
    expected, given = layer.init(KEY), []
    for x, label in zip(*map(jnp.asarray, stream), strict=True):
        expected, code, _ = layer.step(params, expected, x, label)
        given.append(code)
    np.testing.assert_allclose(codes, np.stack(given), atol=1e-5)
    np.testing.assert_allclose(state.prototypes, expected.prototypes, atol=1e-6)


@pytest.mark.long
def test_one_example_is_a_block_of_one(layer, placed, stream):
    params, (x, label) = layer.params(0.3), (jnp.asarray(stream[0][0]), jnp.asarray(stream[1][0]))
    for learned in (placed.step, layer.step):
        state, code, info = learned(params, placed.init(KEY), x, label)
        assert (int(state.size), code.shape, bool(info.is_novel)) == (1, (2,), True)
    np.testing.assert_array_equal(placed.recall(params, state, x), layer.recall(params, state, x))


@pytest.mark.long
def test_rows_that_fill_up_a_block_teach_nothing(layer, placed, stream):
    params = layer.params(0.3)
    xs, labels = map(jnp.asarray, stream)
    some, _, _ = placed.step_block(params, placed.init(KEY), xs, labels, jnp.int32(11))
    alone, _, _ = layer.step_block(params, layer.init(KEY), xs[:11], labels[:11])
    assert jax.tree.all(jax.tree.map(np.array_equal, gather_to_host(some), gather_to_host(alone)))


@pytest.mark.long
def test_networks_of_several_banks_are_laid_over_devices_whole():
    network, params = memjax.memory_network((16, 16, 3), 4, capacity=16)
    placed = shard(network, memory_mesh(jax.devices()[:1]))
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    labels = np.arange(40) % 4
    params = memjax.calibrate(network, params, images, labels)
    state, _ = memjax.fit(placed, params, placed.init(KEY), images, labels)
    expected, _ = memjax.fit(network, params, network.init(KEY), images, labels)
    assert checkpoint.state_digest(state) == checkpoint.state_digest(expected)
    explained = memjax.explain(placed, params, state, images)
    np.testing.assert_array_equal(
        explained.memories, memjax.explain(network, params, expected, images).memories
    )


def test_what_is_saved_over_devices_is_the_network_itself(layer, placed, stream, tmp_path):
    params = layer.params(0.3)
    state, _ = memjax.fit(placed, params, placed.init(KEY), *stream)
    network, _, restored = checkpoint.restore(
        checkpoint.save(tmp_path / "saved", placed, params, state)
    )
    assert network == layer
    assert checkpoint.state_digest(restored) == checkpoint.state_digest(state)
    checkpoint.restore(tmp_path / "saved", placed)


def test_a_round_exchanges_and_no_example_does(placed, layer, stream):
    params, xs, labels = layer.params(0.3), *map(jnp.asarray, stream)
    learn = jax.jit(lambda state: placed.step_block(params, state, xs, labels)[::2])
    jaxpr = str(jax.make_jaxpr(learn)(placed.init(KEY)))
    loops = jaxpr.count("while[")
    assert loops, "the rounds are a loop"
    # Each round gathers the smallest of six searches and sums three arrays of candidates and the
    # voters for each class. At the end the voters are gathered and the distances summed.
    assert jaxpr.count("all_gather[") == 2 * 6 + 2
    assert len(re.findall(r"\bpsum\w*\[", jaxpr)) == 3 + 1 + 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda bank, mesh: shard(bank, cast(Any, 3)), "mesh: expected what"),
        (
            lambda bank, mesh: shard(MemoryLayer(3, 2, 8, output="activations"), mesh),
            'output: expected "evidence" of a bank over devices',
        ),
        (
            lambda bank, mesh: shard(bank, jax.make_mesh((1,), ("rows",))),
            "mesh: expected one axis 'memory'",
        ),
        (
            lambda bank, mesh: shard(memjax.RidgeReadout(3, 2), mesh),
            "network: expected one with memories",
        ),
    ],
)
def test_what_cannot_be_laid_over_devices_is_refused_in_a_sentence(layer, make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make(layer, memory_mesh(jax.devices()[:1]))


def test_a_capacity_that_cannot_be_cut_is_refused():
    script = """
import jax
jax.config.update("jax_num_cpu_devices", 3)
from memjax.memory import MemoryLayer
from memjax.devices import memory_mesh
try:
    MemoryLayer(3, 2, 8, mesh=memory_mesh())
except ValueError as error:
    print(error)
"""
    assert run(script).strip() == "capacity: expected a multiple of the 3 devices, got 8."


def record(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text())


OPTIONS = ("digits", "--capacity", "120", "--on-full", "replace", "--block-size", "8")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """The record of a run in one process."""
    pytest.importorskip("orbax.checkpoint")
    run_folder = tmp_path_factory.mktemp("alone") / "run"
    main(["fit", *OPTIONS, "--out", str(run_folder)])
    return record(run_folder)


def test_processes_together_learn_and_answer_what_one_does(alone, tmp_path):
    main(["fit", *OPTIONS, "--processes", "2", "--out", str(tmp_path / "run")])
    together = record(tmp_path / "run")
    assert (alone["processes"], together["processes"]) == (1, 2)
    for name in ("state_digest", "test_accuracy", "prequential_accuracy", "num_test"):
        assert together[name] == alone[name], name
    assert (tmp_path / "run" / "memories.png").is_file()


def workers_of(pid: int) -> list[int]:
    """The processes that ``multiprocessing`` started for another one, by age."""
    task = Path(f"/proc/{pid}/task/{pid}/children")
    if not task.exists():
        pytest.skip("this system does not tell the children of a process in /proc")
    children = map(int, task.read_text().split())
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in commands.items() if b"spawn_main" in command]


@pytest.mark.long
def test_a_process_that_dies_ends_the_job_and_another_number_goes_on(alone, tmp_path):
    folder = tmp_path / "run"
    code = "from memjax.command.cli import main; main()"
    arguments = (*OPTIONS, "--checkpoint-every", "40", "--processes", "2", "--out", str(folder))
    begun = subprocess.Popen(
        [sys.executable, "-c", code, "fit", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not list((folder / "checkpoints").glob("examples_*[0-9]")):
        assert begun.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    workers = workers_of(begun.pid)
    os.kill(workers[1], signal.SIGKILL)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 2
    assert "process 1 of 2 ended with status -9, and the others were stopped; memjax fit" in said
    assert re.search(f"--resume {folder} goes on after \\d+ examples", said), said
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    main(["fit", "--resume", str(folder), "--processes", "4"])
    assert record(folder)["resumed_at"] > 0
    assert record(folder)["state_digest"] == alone["state_digest"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--processes", "7"), "--processes: expected a number that divides the capacity 3000"),
        (("--processes", "0"), "--processes: expected a positive integer, got 0."),
        (
            ("--processes", "2", "--network", "columnar"),
            "--processes: only --network memory can be",
        ),
    ],
)
def test_processes_that_have_no_sense_are_refused(arguments, sentence, capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["fit", "digits", "--out", str(tmp_path / "run"), *arguments])
    assert sentence in capsys.readouterr().err


def test_what_lies_on_one_process_is_whole_already():
    tree = {"a": jnp.arange(3), "b": np.float32(2)}
    assert jax.tree.all(jax.tree.map(np.array_equal, gather_to_host(tree), tree))
