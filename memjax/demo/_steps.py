"""The steps of the page: asking, teaching, playing a stream, and forgetting.

Knowledge is never changed: each step returns new knowledge, and what was known before is still
there to be gone back to.
"""

from typing import Any

import jax
import numpy as np

from memjax._checks import check_images
from memjax.demo._knowledge import (
    Banks,
    Knowledge,
    banks,
    can_learn,
    has_one_bank,
    picture,
    with_room,
)
from memjax.evaluation import explain, labels_from, novelty_score, predict_proba
from memjax.memory import forget
from memjax.training import fit

PLAYED_AT_ONCE = 10
"""Examples of the stream that are learned in one step."""

_LONGEST_NAME = 40
_MOST_VOTERS = 10


def compile_all(knowledge: Knowledge) -> None:
    """Take each step once, so that the programs of this size are there when they are needed."""
    images = np.zeros((PLAYED_AT_ONCE, *knowledge.network.input_shape), np.uint8)
    answer(knowledge, images[0])
    if can_learn(knowledge.network):
        for block in (images[:1], images):
            labels = np.zeros(len(block), np.int32)
            fit(*knowledge[:3], block, labels, len(block))
        forget(knowledge.network, knowledge.state, label=0)


def answer(knowledge: Knowledge, image: np.ndarray) -> dict[str, Any]:
    """Return what the network says of one image, how new that is, and who votes.

    Args:
        knowledge: what the page has learned, as ``learn_first`` gives it.
        image: uint8 [H, W, channels], of the network's shape.

    Returns:
        By name: "label", an int; "evidence", pairs of a label and a float from 0 to 1, at most
        five, the strongest first; "novelty", a float from 0 to 1 (``memjax.novelty_score``); and
        "voters", the memories that vote, the weightiest first, empty for a network of columns. A
        voter has "memory", the number of the image that it was stored from, "label", "count", the
        examples it has learned, and "weight", its share of the vote.

    Example:
        >>> import memjax
        >>> from memjax.demo import learn_first
        >>> digits = memjax.datasets.load("digits", "test")
        >>> found = answer(learn_first("digits"), digits.images[0])
        >>> found["label"] == int(digits.labels[0]), sorted(found)
        (True, ['evidence', 'label', 'novelty', 'voters'])
    """
    network, params, state = knowledge[:3]
    images = _one(knowledge, image)
    evidence = predict_proba(network, params, state, images)
    label = int(labels_from(evidence)[0])
    evidence = evidence[0]
    order = np.argsort(-evidence, kind="stable")[: min(5, len(knowledge.names))]
    novelty = float(novelty_score(network, params, state, images)[0])
    known = banks(knowledge)
    return {
        "label": label,
        "evidence": [(int(k), float(evidence[k])) for k in order if evidence[k] > 0],
        "novelty": novelty,
        "voters": _voters(knowledge, images, known) if len(known.banks) else [],
    }


def _voters(knowledge: Knowledge, images: np.ndarray, known: Banks) -> list[dict[str, Any]]:
    """Return the memories that vote on an image, the weightiest first.

    Memories of several banks that were stored from one image are one.
    """
    found = explain(*knowledge[:3], images)
    weights = found.weights[0] / max(found.weights[0].sum(), 1e-9)
    starts = np.searchsorted(known.banks, np.arange(len(weights)))
    voters: dict[Any, dict[str, Any]] = {}
    for bank, rank in np.argwhere(weights > 0):
        index = starts[bank] + found.memories[0, bank, rank]
        serial = knowledge.pictures[int(known.numbers[index])].serial
        label, count = int(found.labels[0, bank, rank]), int(known.counts[index])
        voter = {"memory": serial, "label": label, "count": count, "weight": 0.0}
        voters.setdefault((serial, label), voter)["weight"] += float(weights[bank, rank])
    return sorted(voters.values(), key=lambda voter: -voter["weight"])[:_MOST_VOTERS]


def teach(knowledge: Knowledge, image: np.ndarray, name: str) -> tuple[Knowledge, str]:
    """Learn one example of a class with a name, new or old, and say which memories changed."""
    _check_can_learn(knowledge)
    name = _settle_name(knowledge, name)
    names = knowledge.names if name in knowledge.names else (*knowledge.names, name)
    roomy = with_room(knowledge, len(names))
    before = banks(roomy)
    after, _ = _learn(roomy._replace(names=names), _one(knowledge, image), [names.index(name)])
    return after, _what_changed(knowledge, before, after, name)


def _what_changed(knowledge: Knowledge, before: Banks, after: Knowledge, name: str) -> str:
    now = banks(after)
    is_new = ~np.isin(now.banks * 2**32 + now.numbers, before.banks * 2**32 + before.numbers)
    stayed = np.flatnonzero(~is_new)
    is_changed = np.zeros(len(stayed), bool)
    for one, other in zip(before[4:], now[4:], strict=True):
        differs = one != other[stayed]
        is_changed |= differs.reshape(len(stayed), -1).any(axis=1)
    num_new, num_changed = int(is_new.sum()), int(is_changed.sum())
    others = "others" if num_new else "memory" if num_changed == 1 else "memories"
    said = f"“{name}”: {num_new} stored, {num_changed} {others} changed."
    if not num_changed:
        return said
    label = int(before.labels[is_changed][0])
    voted = knowledge.names[label] if label >= 0 else None
    if voted == name:
        return f"{said} A memory of “{name}” was near enough, and moved towards it."
    if voted is None:
        return f"{said} The nearest memory had no vote, and now votes for it."
    return (
        f"{said} The nearest memory votes for “{voted}”, and has counted the mistake. If it is "
        "taught again, it is stored."
    )


def play(knowledge: Knowledge, images: np.ndarray, labels: np.ndarray) -> Knowledge:
    """Learn the next examples of the source, and note which were answered right before."""
    after, predicted = _learn(knowledge, images, labels)
    hits = np.concatenate([knowledge.hits, predicted == labels])
    return after._replace(position=knowledge.position + len(labels), hits=hits)


def empty(knowledge: Knowledge) -> Knowledge:
    """Return the network as it was before it learned anything; the stream begins again."""
    _check_can_learn(knowledge)
    state = knowledge.network.init(jax.random.key(0))
    return knowledge._replace(
        state=state, pictures={}, position=0, hits=np.zeros(0, bool), about="nothing"
    )


def forget_class(knowledge: Knowledge, name: str) -> tuple[Knowledge, str]:
    """Forget a class, and say what was removed and what keeps a trace of it."""
    _check_can_learn(knowledge)
    if name not in knowledge.names:
        raise ValueError(f"There is no class “{name}” to forget.")
    label = knowledge.names.index(name)
    before = banks(knowledge)
    if not (before.votes[:, label] > 0).any():
        raise ValueError(f"Nothing is known of “{name}”, so there is nothing to forget.")
    state = forget(knowledge.network, knowledge.state, label=label)
    goes = before.labels == label
    traces = int(((before.votes[:, label] > 0) & ~goes).sum())
    said = f"“{name}” is forgotten: {_memories(goes.sum())} removed. "
    if traces:
        said += (
            f"{_memories(traces)} of other classes had learned examples of it too, and "
            f"{'keeps' if traces == 1 else 'keep'} a trace in the pattern, without its votes. "
        )
    return _without(knowledge, state), said + _COUNTERS_STAY


def forget_memory(knowledge: Knowledge, serial: int) -> tuple[Knowledge, str]:
    """Forget the memory that has a picture, and say what was removed."""
    _check_can_learn(knowledge)
    numbers = [number for number, one in knowledge.pictures.items() if one.serial == serial]
    if not numbers:
        raise ValueError("This memory is no longer there.")
    before = banks(knowledge)
    if not has_one_bank(knowledge):
        raise ValueError(
            "This network has a bank for each colour, in which single memories cannot be "
            "forgotten; forget a class instead."
        )
    (index,) = np.flatnonzero(before.numbers == numbers[0])
    state = forget(knowledge.network, knowledge.state, indices=[int(before.rows[index])])
    parts = [
        f"{number} of “{name}”"
        for name, number in zip(knowledge.names, before.votes[index], strict=False)
        if number
    ]
    count = int(before.counts[index])
    said = f"1 memory removed, with the {count} examples that it had learned"
    said = "1 memory removed, which held 1 example" if count == 1 else said
    said += f" ({', '.join(parts)}). " if parts else ". "
    return _without(knowledge, state), said + _COUNTERS_STAY


_COUNTERS_STAY = "All other memories are as before. The counts of examples seen still include it."


def _memories(number: Any) -> str:
    return f"{number} {'memory' if number == 1 else 'memories'}"


def _learn(knowledge: Knowledge, images: np.ndarray, labels: Any) -> tuple[Knowledge, np.ndarray]:
    """Learn examples, keep pictures of those that were stored, and return the answers before."""
    network, params, state = knowledge[:3]
    labels = np.asarray(labels, np.int32)
    first = int(network.banks(params, state)[0].state.num_seen)
    state, infos = fit(network, params, state, images, labels, len(labels))
    after = knowledge._replace(state=state)
    pictures = {}
    for number in set(banks(after).numbers.tolist()):
        if number >= first:
            pictures[number] = picture(np.array(images[number - first]))
        else:
            pictures[number] = knowledge.pictures[number]
    return after._replace(pictures=pictures), np.asarray(infos.predicted)


def _without(knowledge: Knowledge, state: Any) -> Knowledge:
    """Return knowledge with another state, and the pictures of the memories that are left."""
    after = knowledge._replace(state=state)
    numbers = banks(after).numbers.tolist()
    return after._replace(pictures={number: knowledge.pictures[number] for number in numbers})


def _one(knowledge: Knowledge, image: np.ndarray) -> np.ndarray:
    images = image[None]
    check_images(images, knowledge.network.input_shape)
    return images


def _settle_name(knowledge: Knowledge, name: Any) -> str:
    """Return a class's name as it is written already, or a new one without spaces around it."""
    if not isinstance(name, str) or not (name := " ".join(name.split())):
        raise ValueError("A class needs a name.")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"A name has up to {_LONGEST_NAME} letters, all of which can be shown.")
    for known in knowledge.names:
        if known.casefold() == name.casefold():
            return known
    return name


def _check_can_learn(knowledge: Knowledge) -> None:
    if not can_learn(knowledge.network):
        raise ValueError(
            "This network does not learn in memories alone, so the page can ask it, and cannot "
            "teach it or make it forget."
        )
