"""The experiment on endless streams: its stream, and a short one in constant memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import endless

ROOT = Path(__file__).parents[1]


def test_the_stream_has_as_many_examples_as_it_should_in_uneven_batches_that_can_be_told_apart():
    parts = list(endless.batches(30_000))
    sizes = [len(labels) for _, labels in parts]
    assert sum(sizes) == 30_000 and len(set(sizes)) > 3 and max(sizes) <= 8192
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert images.shape == (30_000, 4, 4, 1) and images.dtype == np.uint8
    means = np.stack([images[labels == label].mean(axis=0) for label in range(10)])
    distances = ((images[:500, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    assert np.mean(distances.argmin(axis=1) == labels[:500]) > 0.9


@pytest.mark.long
def test_a_short_stream_is_learned_in_constant_memory(tmp_path):
    # A process of its own: what other tests needed would hide what this one needs.
    subprocess.run(
        [sys.executable, "-m", "experiments.endless", "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    record = json.loads((tmp_path / "200000-examples.json").read_text())
    tenths = record["tenths"]
    assert [round(tenth["num_seen"] / 20_000) for tenth in tenths] == list(range(1, 11))
    assert tenths[-1]["num_seen"] == record["num_examples"] == 200_000
    for name in ("peak_memory_bytes", "memory_bytes"):
        assert tenths[-1][name] <= 1.05 * tenths[0][name]
    assert record["prequential_accuracy"] > 0.9
    assert len(endless.table([record]).splitlines()) == 3
    measured, limit = endless.figure([record]).axes[0].lines
    assert len(measured.get_xdata()) == 10 and max(measured.get_ydata()) <= limit.get_ydata()[0]
