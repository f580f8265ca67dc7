"""How many memories an accuracy costs.

    python -m experiments.pareto [--dataset NAME] [--encoder edges|pixels] [--capacity N]
                                 [--only METHOD] [--seeds N] [--split test|validation]
                                 [--out FOLDER] [--quick]

The reconstruction of the paper stands beside three classical ways to keep a few patterns of many.
All of them learn the same encoded images and have room for the same number of memories:

- **memory network**: one pass. Twelve settings learn in every stream order, all in one compiled
  call, and answer with each of four numbers of neighbours. The settings are two plasticity floors
  and six novelty thresholds, as multiples of the calibrated one; without a threshold the network
  stores errors only. The setting with the best mean accuracy on the validation split then learns
  all training examples anew, and is tested once. The second table is the whole curve of the
  thresholds, with all else fixed.
- **random subset**: random examples are kept, and the nearest one answers. One pass.
- **k-means by class**: scikit-learn's `MiniBatchKMeans` finds the same number of centres for each
  class, and the nearest centre answers. It holds all data and passes over them many times.
- **condensed**: the condensed nearest neighbour (Hart 1968) keeps every example that the kept ones
  answer wrong, and passes over the data until nothing changes. Nobody chooses its size, so it is
  one point.

The figure draws the means over the orders, with their standard deviation.

This counts against the comparison: only the memory network chooses among settings, by validation
labels that the others do not use. For colour images it has one bank of memories per channel. A
whole image that another method keeps counts as one memory per channel, since it holds as many
numbers.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import memjax
from experiments import sweeps
from experiments.figures import legend, panels, style
from experiments.records import (
    TITLES,
    field,
    keep,
    load,
    markdown_table,
    options,
    percent,
    publish,
    read,
    span,
)
from experiments.speed import in_turns
from memjax import plotting

ENCODERS = ("edges", "pixels")
CAPACITIES = {
    "digits": (100,),
    "mnist": (100, 300, 1000, 3000, 5000),
    "fashion_mnist": (100, 300, 1000, 3000),
    "cifar10": (100, 300, 1000, 3000),
}
MULTIPLES = (0.5, 0.75, 1.0, 1.5, 2.0, math.inf)
FLOORS = (0.0, 0.03)
NEIGHBOURS = (1, 3, 7, 15)
FIXED = (0.0, 7)  # the plasticity floor and the number of neighbours of the second table
MEMORY, SIXTEEN = "memory network", "sixteen learners"


class Setting(NamedTuple):
    """What is chosen on the validation split."""

    multiple: float  # novelty threshold over the calibrated one
    plasticity_floor: float
    num_neighbours: int

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it: None for no threshold."""
        return self._asdict() | {"multiple": None if math.isinf(self.multiple) else self.multiple}


class Task(NamedTuple):
    """A network and its encoded data."""

    banks: tuple[memjax.Layer, ...]  # one for each number of neighbours
    params: Any
    learned: sweeps.Examples
    tested: sweeps.Examples


def prepare(
    dataset: str, encoder: str, capacity: int, split: str, neighbours: tuple[int, ...]
) -> Task:
    """Return the network with room for ``capacity`` memories per bank, and its encoded data."""
    train, test = load(dataset, split, seed=0)
    networks = [
        memjax.memory_network(
            train.images.shape[1:],
            train.num_classes,
            capacity=capacity,
            encoder=encoder,
            num_neighbours=number,
        )
        for number in neighbours
    ]
    (network, params), banks = networks[0], [network.layers[1] for network, _ in networks]
    encode = partial(sweeps.encode, network.layers[0])
    return Task(tuple(banks), params[1], encode(train), encode(test))


def _learner(bank, params, learned, order, multiple, floor):
    """Return the params and the state of one learner."""
    params = memjax.replace_params(params, plasticity_floor=floor)
    params = sweeps.calibrate(bank, params, learned, order)
    params = sweeps.times_threshold(params, multiple)
    return params, sweeps.fit(bank, params, learned, order)


@partial(jax.jit, static_argnames="banks")
def _sweep(banks, params, learned, tested, orders, members):
    """Return the memories [S] of all learners, and their accuracies [S, n] by neighbours.

    ``members`` are the index of an order, a multiple and a floor, each [S].
    """

    def run(member):
        index, multiple, floor = member
        numbers, state = _learner(banks[0], params, learned, orders[index], multiple, floor)
        found = [sweeps.accuracy(bank, numbers, state, tested) for bank in banks]
        return memjax.num_memories(banks[0], state), jnp.stack(found)

    return sweeps.each(run, members)


def _members(settings: list[tuple[float, float]], seeds: int) -> tuple[np.ndarray, ...]:
    """Return all pairs of a setting (multiple, floor) and an order, as ``_sweep`` takes them."""
    rows = [(index, *setting) for setting in settings for index in range(seeds)]
    index, multiple, floor = zip(*rows, strict=True)
    return np.array(index, np.int32), np.array(multiple, np.float32), np.array(floor, np.float32)


def sweep(task: Task, settings: list[tuple[float, float]], seeds: int) -> dict[str, Any]:
    """Learn in all settings (multiple, floor) and all orders, in one compiled call.

    Returns:
        ``num_memories`` int [settings, seeds], ``accuracies`` [settings, seeds, neighbours], and
        the ``seconds`` of the call, without the compilation.
    """
    orders = sweeps.orders(len(task.learned.labels), seeds)
    members = _members(settings, seeds)
    compiled = _sweep.lower(*task, orders, members).compile()
    start = time.perf_counter()
    sizes, accuracies = jax.tree.map(np.asarray, compiled(*task[1:], orders, members))
    seconds = time.perf_counter() - start
    shape = (len(settings), seeds)
    return {
        "num_memories": sizes.reshape(shape),
        "accuracies": accuracies.astype(np.float64).reshape(*shape, -1),
        "seconds": seconds,
    }


def measure(
    dataset: str, encoder: str, method: str, capacity: int | None, split: str, seeds: int
) -> dict[str, Any]:
    """Return the record of a method with room for ``capacity`` memories, None for condensed."""
    if method == MEMORY:
        assert capacity is not None
        found = _measure_memory(dataset, encoder, capacity, split, seeds)
    else:
        found = {"runs": _measure_rival(dataset, encoder, method, capacity, split, seeds)}
    size = "" if capacity is None else f" --capacity {capacity}"
    return {
        "dataset": dataset,
        "encoder": encoder,
        "method": method,
        "capacity": capacity,
        "split": split,
        "command": f"python -m experiments.pareto --dataset {dataset} --encoder {encoder} "
        f"--only '{method}'{size} --seeds {seeds} --split {split}",
        **found,
    }


def _measure_memory(
    dataset: str, encoder: str, capacity: int, split: str, seeds: int
) -> dict[str, Any]:
    """Sweep on the validation split; learn the best setting again if another split is tested."""
    task = prepare(dataset, encoder, capacity, "validation", NEIGHBOURS)
    pairs = list(itertools.product(MULTIPLES, FLOORS))
    found = sweep(task, pairs, seeds)
    grid = []
    for (multiple, floor), sizes, shares in zip(
        pairs, found["num_memories"], found["accuracies"], strict=True
    ):
        for number, accuracies in zip(NEIGHBOURS, shares.T, strict=True):
            grid.append((Setting(multiple, floor, number), sizes.tolist(), accuracies.tolist()))
    # Of equally good settings the first: the lowest threshold, the lowest floor, fewest neighbours.
    setting, sizes, accuracies = max(grid, key=lambda entry: statistics.mean(entry[2]))
    if split != "validation":
        task = prepare(dataset, encoder, capacity, split, (setting.num_neighbours,))
        tested = sweep(task, [(setting.multiple, setting.plasticity_floor)], seeds)
        sizes, accuracies = tested["num_memories"][0], tested["accuracies"][0, :, 0]
    return {
        "chosen": setting.as_json(),
        "runs": [
            {"seed": seed, "accuracy": float(accuracy), "num_memories": int(size)}
            for seed, (accuracy, size) in enumerate(zip(accuracies, sizes, strict=True))
        ],
        "validation": [
            entry.as_json()
            | {
                "num_memories": statistics.mean(sizes),
                "accuracy": statistics.mean(accuracies),
                "accuracies": [round(accuracy, 4) for accuracy in accuracies],
            }
            for entry, sizes, accuracies in grid
        ],
        "sweep": {"num_learners": len(pairs) * seeds, "seconds": found["seconds"]},
    }


class Kept(NamedTuple):
    """What a classical method keeps of the examples."""

    patterns: np.ndarray  # float32 [K, D]
    labels: np.ndarray  # int [K]
    num_passes: int | None = None  # over the data; None if they are not counted


def random_subset(examples: tuple[np.ndarray, np.ndarray], size: int, seed: int) -> Kept:
    """Keep ``size`` random examples."""
    features, labels = examples
    rows = np.random.default_rng(seed).permutation(len(labels))[:size]
    return Kept(features[rows], labels[rows])


def means_by_class(examples: tuple[np.ndarray, np.ndarray], size: int, seed: int) -> Kept:
    """Keep ``size`` centres, the same number for every class; the first classes get one more."""
    from sklearn.cluster import MiniBatchKMeans

    features, labels = examples
    classes = np.unique(labels)
    centres, quotas = [], [len(part) for part in np.array_split(np.arange(size), len(classes))]
    for label, quota in zip(classes, quotas, strict=True):
        found = MiniBatchKMeans(quota, random_state=seed).fit(features[labels == label])
        centres.append(found.cluster_centers_)
    return Kept(np.concatenate(centres).astype(np.float32), np.repeat(classes, quotas))


def condensed_neighbours(examples: tuple[np.ndarray, np.ndarray], size: None, seed: int) -> Kept:
    """Keep what the condensed nearest neighbour keeps in one order; ``size`` is not used."""
    del size
    features, labels = examples
    order = np.random.default_rng(seed).permutation(len(labels))
    rows, num_passes = condense(features, labels, order)
    return Kept(features[rows], labels[rows], num_passes)


def condense(
    features: np.ndarray, labels: np.ndarray, order: np.ndarray, block_size: int = 1000
) -> tuple[list[int], int]:
    """Return the rows that the condensed nearest neighbour stores, and its passes over the data.

    One example after another is stored if the nearest stored one has another label (ties: the one
    stored first). That is repeated until a whole pass stores nothing. The examples go in blocks.
    One product gives the distances of a block to what was stored since its last turn. What is
    stored within the block follows from the distances between its examples. The result is that of
    single steps, as long as rounding decides no neighbour.

    Args:
        features: float32 [N, D].
        labels: integers [N].
        order: of the examples, [N].
        block_size: examples per product. It changes the speed, not the result.

    Returns:
        The stored rows in their order, and the number of passes, the last one included.

    Source: Hart (1968), The condensed nearest neighbor rule, IEEE Trans. Inf. Theory 14, 515.
    """
    blocks = [order[start : start + block_size] for start in range(0, len(order), block_size)]
    nearest = [np.full(len(rows), np.inf, np.float32) for rows in blocks]
    # No label equals NaN, so an example that has met nothing yet is wrong.
    answers = [np.full(len(rows), np.nan) for rows in blocks]
    is_stored = [np.zeros(len(rows), bool) for rows in blocks]
    num_compared = [0] * len(blocks)
    store: list[int] = []
    num_passes, size_before = 0, -1
    while len(store) > size_before:
        size_before = len(store)
        num_passes += 1
        for b, rows in enumerate(blocks):
            xs = features[rows]
            if new := store[num_compared[b] :]:
                distances = _squared_distances(xs, features[new])
                first = np.argmin(distances, axis=1)
                least = distances[np.arange(len(rows)), first]
                is_closer = least < nearest[b]
                nearest[b][is_closer] = least[is_closer]
                answers[b][is_closer] = labels[new][first][is_closer]
            between, place = None, 0
            while True:
                is_wrong = (answers[b] != labels[rows]) & ~is_stored[b]
                if not is_wrong[place:].any():
                    break
                place += int(np.argmax(is_wrong[place:]))
                if between is None:
                    between = _squared_distances(xs, xs)
                store.append(int(rows[place]))
                is_stored[b][place] = True
                is_closer = between[place] < nearest[b]
                nearest[b][is_closer] = between[place][is_closer]
                answers[b][is_closer] = labels[rows[place]]
            num_compared[b] = len(store)
    return store, num_passes


def _squared_distances(xs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return squared distances [B, K]."""
    norms = np.sum(xs**2, axis=1)[:, None] + np.sum(others**2, axis=1)[None]
    return norms - 2 * xs @ others.T


RIVALS: dict[str, Callable[..., Kept]] = {
    "random subset": random_subset,
    "k-means by class": means_by_class,
    "condensed": condensed_neighbours,
}
METHODS = (MEMORY, *RIVALS)


def _measure_rival(
    dataset: str, encoder: str, method: str, capacity: int | None, split: str, seeds: int
) -> list[dict[str, Any]]:
    from sklearn.neighbors import KNeighborsClassifier

    task = prepare(dataset, encoder, 1, split, NEIGHBOURS[:1])
    channels = math.prod(task.learned.features.shape[1:-1])
    examples, tested = (
        (np.asarray(part.features).reshape(len(part.labels), -1), np.asarray(part.labels))
        for part in (task.learned, task.tested)
    )
    runs = []
    for seed in range(seeds):
        start = time.perf_counter()
        kept = RIVALS[method](examples, capacity, seed)
        seconds = time.perf_counter() - start
        answer = KNeighborsClassifier(1, algorithm="brute").fit(kept.patterns, kept.labels)
        run = {
            "seed": seed,
            "accuracy": float(answer.score(*tested)),
            "num_memories": len(kept.labels) * channels,
            "seconds": seconds,
        }
        runs.append(run | ({"num_passes": kept.num_passes} if kept.num_passes else {}))
    return runs


def measure_seconds(
    dataset: str, encoder: str, capacity: int = 1000, num_examples: int = 5000, turns: int = 3
) -> dict[str, Any]:
    """Return the record of sixteen learners in one compiled call, beside sixteen single calls.

    They have four thresholds in four stream orders. They learn side by side by ``jax.vmap``, one
    after another by ``jax.lax.map``, and spread over the devices by ``jax.shard_map`` as in
    ``sweeps.each``. Each way is timed in turns with the single calls.
    """
    task = prepare(dataset, encoder, capacity, "validation", NEIGHBOURS[:1])
    (bank,), params, learned, _ = task
    learned = jax.tree.map(lambda leaf: leaf[:num_examples], learned)
    orders = jnp.asarray(sweeps.orders(len(learned.labels), 4))
    members = _members([(multiple, 0.0) for multiple in MULTIPLES[:4]], 4)

    @jax.jit
    def single(learned, member):
        index, multiple, floor = member
        return _learner(bank, params, learned, orders[index], multiple, floor)[1]

    vmapped = jax.jit(jax.vmap(single, in_axes=(None, 0)))
    mapped = jax.jit(lambda learned, members: jax.lax.map(partial(single, learned), members))
    spread = jax.jit(lambda learned, members: sweeps.each(partial(single, learned), members))

    def one_by_one():
        for member in zip(*members, strict=True):
            jax.block_until_ready(single(learned, member))

    calls = {"vmap": vmapped, "lax.map": mapped, "shard_map": spread}
    timed = {}
    for name, call in calls.items():
        run = partial(lambda call: jax.block_until_ready(call(learned, members)), call)
        seconds, reference_seconds, ratio = in_turns(run, one_by_one, turns)
        timed[name] = {
            "seconds": seconds,
            "single_calls_seconds": reference_seconds,
            "ratio": ratio,
        }
    return {
        "dataset": dataset,
        "encoder": encoder,
        "method": SIXTEEN,
        "capacity": capacity,
        "num_examples": len(learned.labels),
        "turns": turns,
        "command": f"python -m experiments.pareto --dataset {dataset} --encoder {encoder} "
        f"--only '{SIXTEEN}' --capacity {capacity}",
        "orders": [{"seed": seed} for seed in range(4)],
        "num_devices": sweeps.mesh_of(len(members[0])).size,
        "timed": timed,
    }


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read("pareto", _place)


def _place(record: dict[str, Any]) -> tuple[int, int, int, float]:
    methods = (*METHODS, SIXTEEN)
    return (
        list(TITLES).index(record["dataset"]),
        ENCODERS.index(record["encoder"]),
        methods.index(record["method"]),
        record["capacity"] or math.inf,
    )


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as Markdown: accuracies, the curve of the thresholds, and times."""
    measured = [record for record in records if record["method"] in METHODS]
    parts = [markdown_table(map(_row, measured))] if measured else []
    curves = [_curve(record) for record in _largest(measured)]
    if curves:
        parts += [
            f"Validation split, plasticity floor {FIXED[0]:g}, {FIXED[1]} neighbours, the largest "
            "capacity: the memories and the accuracy with each novelty threshold, as a multiple of "
            "the calibrated one.",
            markdown_table(itertools.chain(*curves)),
        ]
    parts += [_sentence(record) for record in records if record["method"] == SIXTEEN]
    return "\n\n".join(parts)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    chosen = ""
    if record["method"] == MEMORY:
        numbers = record["chosen"]
        chosen = (
            f"threshold {_threshold(numbers)}, floor {numbers['plasticity_floor']:g}, "
            f"neighbours {numbers['num_neighbours']}"
        )
    passes = sorted({run["num_passes"] for run in record["runs"] if "num_passes" in run})
    if passes:
        chosen = f"after {' or '.join(map(str, passes))} passes"
    return {
        "dataset": TITLES[record["dataset"]],
        "encoder": record["encoder"],
        "method": record["method"],
        "memories": span(field(record, "num_memories")),
        "accuracy, % (mean ± s.d.)": percent(field(record, "accuracy")),
        "chosen": chosen,
        "orders": len(record["runs"]),
    }


def _threshold(numbers: dict[str, Any]) -> str:
    return "none (errors only)" if numbers["multiple"] is None else f"x {numbers['multiple']:g}"


def _largest(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the memory network's record of the greatest capacity for each dataset and encoder."""
    found = [record for record in records if record["method"] == MEMORY]
    return list({(each["dataset"], each["encoder"]): each for each in found}.values())


def _curve(record: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each threshold of the fixed setting."""
    return [
        {
            "dataset": TITLES[record["dataset"]],
            "encoder": record["encoder"],
            "threshold": _threshold(entry),
            "memories": f"{entry['num_memories']:,.0f}",
            "accuracy, % (mean ± s.d.)": percent(entry["accuracies"]),
        }
        for entry in record["validation"]
        if (entry["plasticity_floor"], entry["num_neighbours"]) == FIXED
    ]


def _sentence(record: dict[str, Any]) -> str:
    ways = "; ".join(
        f"{times['seconds']:.2f} s by `jax.{name}`, {times['ratio']:.2f} of the time of sixteen "
        "single calls"
        for name, times in record["timed"].items()
    )
    return (
        f"Sixteen learners in one compiled call take {ways} ({TITLES[record['dataset']]}, "
        f"{record['encoder']}, {record['num_examples']:,} images, capacity "
        f"{record['capacity']:,}; `jax.shard_map` over {record['num_devices']} devices; medians of "
        f"{record['turns']} turns, {record['device']})."
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of accuracy against memories, one panel per dataset and encoder."""
    measured = [record for record in records if record["method"] in METHODS]
    shown = sorted({_place(record)[:2] for record in measured})
    titles = [f"{list(TITLES.values())[data]}, {ENCODERS[encoder]}" for data, encoder in shown]
    width = max(7.5, 1.6 + 3.2 * len(titles))
    drawn, places = panels(titles, "memories", "accuracy, % (mean ± s.d.)", width)
    for key, place in zip(shown, places, strict=True):
        here = [record for record in measured if _place(record)[:2] == key]
        for number, method in enumerate(METHODS):
            mine = [record for record in here if record["method"] == method]
            if mine:
                sizes, shares = (
                    [field(record, name) for record in mine]
                    for name in ("num_memories", "accuracy")
                )
                plotting.pareto(sizes, shares, axes=place, label=method, **style(number))
    legend(drawn, *places, is_above=True)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the methods at every capacity, print their rows and keep the records."""
    parser = options(__doc__, names=(*METHODS, SIXTEEN), dataset="mnist", seeds=5)
    parser.add_argument("--encoder", choices=ENCODERS, default="edges")
    parser.add_argument("--capacity", type=int, metavar="N", help="memories per bank")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 2) if chosen.quick else (chosen.dataset, chosen.seeds)
    capacities = (chosen.capacity,) if chosen.capacity else CAPACITIES[dataset]
    for method in (chosen.only,) if chosen.only else METHODS:
        if method == SIXTEEN:
            record = measure_seconds(dataset, chosen.encoder, chosen.capacity or 1000)
            print(record["timed"], flush=True)
            keep(chosen.out, f"{dataset} {chosen.encoder} {SIXTEEN}", record)
            continue
        for capacity in (None,) if method == "condensed" else capacities:
            record = measure(dataset, chosen.encoder, method, capacity, chosen.split, seeds)
            name = f"{dataset} {chosen.encoder} {method} {capacity or ''}"
            publish(table, chosen.out, name, record)


if __name__ == "__main__":
    sweeps.use_all_cores()
    main()
