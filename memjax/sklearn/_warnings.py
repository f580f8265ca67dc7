"""What the estimator warns of: data and settings from which little can be learned."""

from typing import Any

import numpy as np

from memjax.base import Layer
from memjax.memory import voted_labels
from memjax.params import find_params

_MOST_UNEVEN = 1e6

# Rounding of a squared distance in float32, in units of the squares it is made of.
_ROUNDING = 1e-6


def find_uneven(rows: np.ndarray) -> str | None:
    """Return a sentence on features that tell no rows apart, or on one that drowns the others."""
    spreads = np.std(rows, axis=0)
    ascending = np.sort(spreads)
    if len(rows) > 1 and ascending[-1] == 0:
        return "X: all rows are the same, so the features tell nothing apart."
    if len(spreads) > 1 and ascending[-1] > _MOST_UNEVEN * ascending[-2] > 0:
        return (
            f"X: feature {np.argmax(spreads)} varies over a million times as much as any other, so "
            "it alone decides all distances; scale the features, with StandardScaler for instance."
        )
    return None


def loses_distances(inputs: np.ndarray, known: Any) -> bool:
    """Return whether half of some inputs lie so far out that rounding hides the threshold."""
    (threshold,) = find_params(known.params, "novelty_threshold")
    lengths = np.sum(np.square(inputs), axis=1)
    return bool(2 * _ROUNDING * np.median(lengths) > float(threshold) > 0)


def find_forgotten(
    network: Layer, known: Any, num_met: np.ndarray, labels: np.ndarray
) -> str | None:
    """Return a sentence on classes that too few memories vote for; None if there are none."""
    for bank in network.banks(known.params, known.state):
        size = int(bank.state.size)
        found = np.asarray(voted_labels(bank.state.votes))
        number = np.bincount(found[found >= 0], minlength=len(num_met))
        lost = labels[(num_met > 0) & (number == 0)].tolist()
        if lost:
            return (
                f"y: no memory votes for {lost}, so they are never the answer; give a larger "
                "capacity or a lower novelty_threshold, or shuffle the rows."
            )
        stored_at = np.asarray(bank.state.stored_at)
        few = [
            label
            for place, label in enumerate(labels.tolist())
            if 0 < number[place] < size / (2 * len(num_met))
            and stored_at[found == place].min() > np.median(stored_at[:size])
        ]
        if size == bank.layer.capacity and few:
            return (
                f"y: the bank is full, and {few}, which came late, have fewer memories than half "
                "of their share; give a larger capacity, or shuffle the rows."
            )
    return None
