"""The strict settings of jax that the tests run under, and the data they share."""

import os
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

# Users choose their own settings; under these the tests show that the library needs none.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Let all processes of the tests share what one has compiled, until the tests end."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    settings = {
        "jax_compilation_cache_dir": folder.name,
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)  # for the processes that are started
        jax.config.update(name, value)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forget the compiled programs of each file: thousands of them exhaust a process's mappings."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """The real MNIST train split."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("real MNIST: TFDS_DATA_DIR does not name a folder that holds it")
    pytest.importorskip("tensorflow_datasets")
    from memjax import datasets

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # that of all workers: what one has read, the others need not read
    file = shared / "mnist.npz"
    if not file.exists():
        read = datasets.load("mnist", cache_dir=tmp_path_factory.mktemp("memjax_cache"))
        unfinished = tmp_path_factory.mktemp("mnist") / "mnist.npz"
        np.savez(unfinished, images=read.images, labels=read.labels)
        os.replace(unfinished, file)
    with np.load(file) as arrays:
        names = tuple(map(str, range(10)))
        return datasets.Dataset(arrays["images"], arrays["labels"], names, "mnist", "train", 0)


@pytest.fixture(scope="session")
def images():
    """60 random images [60, 6, 6, 1] of 3 classes, each class a noisy picture of its own."""
    generator = np.random.default_rng(5)
    pictures = generator.integers(0, 200, (3, 6, 6, 1))
    noise = generator.integers(0, 56, (60, 6, 6, 1))
    return (pictures[np.arange(60) % 3] + noise).astype(np.uint8)


@pytest.fixture(scope="session")
def labels():
    """The classes of ``images``."""
    return np.arange(60, dtype=np.int32) % 3
