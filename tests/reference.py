"""The oracle: the memory layer as a slow loop over examples, written from its description.

It follows "The reconstruction" in paper.md and the docstring of ``MemoryLayer``, not the code.
Arithmetic is float64; only what is stored is rounded to float32, as the layer stores it.
"""

import copy
import dataclasses
import math
from typing import Any

import numpy as np

# Parts of the scale of a distance that float32 arithmetic may get wrong, also in a block.
ROUNDING = 5e-6


def distances(name: str, x: Any, memories: np.ndarray) -> np.ndarray:
    if name == "squared_euclidean":
        return np.sum((memories - x) ** 2, axis=1)
    if name == "manhattan":
        return np.sum(np.abs(memories - x), axis=1)
    norms = np.sqrt(np.sum(x**2)) * np.sqrt(np.sum(memories**2, axis=1))
    return 1 - (memories @ x) / np.where(norms > 0, norms, 1)


def scale(name: str, x: Any) -> float:
    """How large the numbers are that a distance from ``x`` is computed from."""
    return {
        "squared_euclidean": 2 * float(np.sum(x**2)),
        "manhattan": 2 * float(np.sum(np.abs(x))),
        "cosine": 1.0,
    }[name]


@dataclasses.dataclass
class Outcome:
    """What one example did, and by how little it missed doing something else."""

    winner: int
    distance: float
    is_novel: bool
    is_saturated: bool
    predicted: int
    margin: float  # least gap between a choice and its alternative, in parts of its scale


class ReferenceMemory:
    def __init__(self, layer: Any, novelty_threshold: Any, plasticity_floor: Any):
        self.layer = layer
        self.novelty_threshold = float(np.float32(novelty_threshold))
        self.plasticity_floor = float(np.float32(plasticity_floor))
        self.prototypes = np.zeros((layer.capacity, layer.num_features))
        self.counts = np.zeros(layer.capacity, int)
        self.averaged = np.zeros(layer.capacity, int)
        self.votes = np.zeros((layer.capacity, layer.num_classes), int)
        self.stored_at = np.zeros(layer.capacity, int)
        self.size = 0
        self.num_seen = 0

    @classmethod
    def of(cls, layer: Any, params: Any, state: Any) -> "ReferenceMemory":
        """The oracle of a bank that has learned something."""
        oracle = cls(layer, params.novelty_threshold, params.plasticity_floor)
        oracle.prototypes = np.array(state.prototypes, float)
        for name in ("counts", "averaged", "votes", "stored_at"):
            setattr(oracle, name, np.array(getattr(state, name), int))
        oracle.size, oracle.num_seen = int(state.size), int(state.num_seen)
        return oracle

    def copy(self) -> "ReferenceMemory":
        return copy.deepcopy(self)

    def favourite(self, memory: int) -> int:
        return int(np.argmax(self.votes[memory])) if np.any(self.votes[memory]) else -1

    def votes_for(self, memory: int, label: int) -> bool:
        return 0 < self.votes[memory][label] == np.max(self.votes[memory])

    def distances(self, x: Any) -> np.ndarray:
        averaged = self.averaged[: self.size]
        found = distances(self.layer.distance.name, np.float64(x), self.prototypes[: self.size])
        return found * 5 * averaged / (4 * averaged + 1)

    def learn(self, x: Any, label: int) -> Outcome:
        now, self.num_seen = self.num_seen, self.num_seen + 1
        if self.size == 0:
            self.store(0, x, label, now)
            return Outcome(-1, math.inf, True, False, -1, math.inf)
        distances = self.distances(x)
        winner = int(np.argmin(distances))
        nearest, predicted = float(distances[winner]), self.favourite(winner)
        num_classes = self.layer.num_classes
        is_mistaken = label >= 0 and self.votes[winner][label] < np.max(self.votes[winner])
        voters = [k for k in range(self.size) if label >= 0 and self.votes_for(k, label)]
        share = self.size / num_classes
        is_rare = len(voters) < share / 2
        is_novel = nearest > self.novelty_threshold
        gap = min(gap_to_next(distances), abs(nearest - self.novelty_threshold))
        if self.layer.supervised_growth and is_mistaken and nearest > 0:
            gap = min(gap, nearest)
            is_novel = is_novel or is_rare or self.votes[winner][label] > 0
        if not is_novel and nearest > 0:
            gap = min(gap, nearest)
        is_full = self.size == self.layer.capacity

        if not is_novel:
            self.adapt(winner, x, label, is_copy=nearest == 0)
        elif not is_full:
            self.store(self.size, x, label, now)
        elif self.layer.on_full == "replace" or (
            self.layer.on_full == "adapt" and is_mistaken and len(voters) < share
        ):
            # The example at hand counts as seen, so that no memory is of age 0.
            wins = np.float32(self.counts / (now - self.stored_at + 1))
            self.store(int(np.argmin(wins)), x, label, now)
        elif self.layer.on_full == "adapt":
            gap = min(gap, gap_to_next(distances[voters]))
            self.adapt(min(voters, key=lambda k: distances[k], default=winner), x, label)

        margin = gap / scale(self.layer.distance.name, np.float64(x))
        return Outcome(winner, nearest, is_novel, is_novel and is_full, predicted, margin)

    def store(self, memory: int, x: Any, label: int, now: int) -> None:
        self.prototypes[memory] = x
        self.counts[memory] = 1
        self.averaged[memory] = 1
        self.votes[memory] = [label == c for c in range(self.layer.num_classes)]
        self.stored_at[memory] = now
        self.size = max(self.size, memory + 1)

    def adapt(self, memory: int, x: Any, label: int, is_copy: bool = False) -> None:
        rate = 0 if is_copy else max(1 / (self.counts[memory] + 1), self.plasticity_floor)
        moved = (1 - rate) * self.prototypes[memory] + rate * np.float64(x)
        self.prototypes[memory] = np.float32(moved)
        self.counts[memory] += 1
        self.averaged[memory] += not is_copy
        if label >= 0:
            self.votes[memory][label] += 1

    def forget(self, gone: list[int]) -> None:
        """Leave out some memories; the others move up."""
        stays = [memory for memory in range(self.size) if memory not in gone]
        for name in ("prototypes", "counts", "averaged", "votes", "stored_at"):
            rows = getattr(self, name)
            setattr(self, name, np.zeros_like(rows))
            getattr(self, name)[: len(stays)] = rows[stays]
        self.size = len(stays)

    def forget_label(self, label: int) -> None:
        self.forget([memory for memory in range(self.size) if self.favourite(memory) == label])
        self.votes[:, label] = 0

    def resize(self, layer: Any) -> float:
        """Go on as another layer does; return the least gap between two choices, in their scale."""
        gap = math.inf
        while self.size > layer.capacity:
            pairs = [
                (self.cost(one, other), one, other)
                for one in range(self.size)
                for other in range(one + 1, self.size)
                if self.favourite(one) == self.favourite(other)
            ]
            if not pairs:
                worth = self.counts[: self.size] / (self.num_seen - self.stored_at[: self.size] + 1)
                self.forget([int(np.argmin(np.float32(worth)))])
                continue
            costs = np.array([cost for cost, _, _ in pairs])
            gap = min(gap, gap_to_next(costs) / max(1.0, costs.min()))
            _, one, other = min(pairs)
            counts = self.counts[[one, other]]
            if np.any(self.prototypes[one] != self.prototypes[other]):
                self.averaged[one] += self.averaged[other]
            self.prototypes[one] = np.float32(
                counts @ self.prototypes[[one, other]] / np.sum(counts)
            )
            self.counts[one] += self.counts[other]
            self.votes[one] += self.votes[other]
            self.stored_at[one] = min(self.stored_at[one], self.stored_at[other])
            self.forget([other])
        room = (0, layer.capacity - self.size)
        classes = (0, layer.num_classes - self.votes.shape[1])
        self.prototypes = np.pad(self.prototypes[: self.size], (room, (0, 0)))
        self.votes = np.pad(self.votes[: self.size], (room, classes))
        for name in ("counts", "averaged", "stored_at"):
            setattr(self, name, np.pad(getattr(self, name)[: self.size], room))
        self.layer = layer
        return gap

    def cost(self, one: int, other: int) -> float:
        """What it costs to merge two memories."""
        apart = distances(self.layer.distance.name, self.prototypes[one], self.prototypes[[other]])[
            0
        ]
        return apart * self.counts[one] * self.counts[other] / np.sum(self.counts[[one, other]])

    def merge(self, others: list["ReferenceMemory"]) -> float:
        """Take up what other banks learned after it; return the least gap between two choices."""
        layer, parts = self.layer, [self.copy(), *others]
        *starts, num_seen = np.cumsum([0, *[part.num_seen for part in parts]])
        rows = [slice(part.size) for part in parts]
        for name in ("prototypes", "counts", "averaged", "votes"):
            parted = [getattr(part, name)[row] for part, row in zip(parts, rows, strict=True)]
            setattr(self, name, np.concatenate(parted))
        self.stored_at = np.concatenate(
            [
                start + part.stored_at[row]
                for start, part, row in zip(starts, parts, rows, strict=True)
            ]
        )
        self.size, self.num_seen = len(self.counts), int(num_seen)
        return self.resize(layer)

    def recall(self, x: Any) -> np.ndarray:
        """Return class evidence, or activations."""
        distances = self.distances(x)
        if self.layer.output == "activations":
            nearer = np.maximum(0, np.mean(distances) - distances) if self.size else []
            return np.append(nearer, np.zeros(self.layer.capacity - self.size))
        order = np.argsort(distances, kind="stable")
        number = min(max(self.size // 2, 1), self.layer.num_neighbours)
        nearest = [m for m in order[: self.layer.num_neighbours] if np.any(self.votes[m])]
        voters = [memory for memory in nearest if memory in order[:number]]
        if not voters and nearest:
            return np.mean([votes / votes.sum() for votes in self.votes[nearest]], axis=0)
        if not voters:
            return np.zeros(self.layer.num_classes)
        totals = np.sum(self.votes[voters], axis=1)
        edge = distances[order[min(number, self.size - 1)]]
        weights = (1 - distances[voters] / (edge or 1)) * totals / (totals + 2)
        weights = weights if np.sum(weights) > 0 else np.ones(len(voters))
        is_same = (distances[voters] == 0) & (totals >= self.layer.num_neighbours)
        weights = is_same if np.any(is_same) else weights
        return weights @ (self.votes[voters] / totals[:, None]) / np.sum(weights)


def gap_to_next(values: np.ndarray) -> float:
    """How much the second least value is greater than the least."""
    least = np.sort(values)[:2]
    return float(least[1] - least[0]) if len(least) == 2 else math.inf
