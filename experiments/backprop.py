"""A perceptron with hidden layers and a small convolutional network, trained by backpropagation.

Users would pick one of these instead. They break every rule of the memory network (many passes,
gradients through all layers, weights shared between places) and stand beside it in the tables.
"""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from memjax.datasets import Dataset

KINDS = ("mlp", "cnn")
BATCH = 64


class Network(eqx.Module):
    """Convolutions, each halved by max pooling, and dense layers on what they give."""

    convolutions: tuple[eqx.nn.Conv2d, ...]
    dense: tuple[eqx.nn.Linear, ...]

    def __call__(self, image: jax.Array) -> jax.Array:
        """Return class logits [C] of an image uint8 [H, W, channels]."""
        halve = eqx.nn.MaxPool2d(2, 2, use_ceil=True)
        x = jnp.moveaxis(image.astype(jnp.float32) / 255 - 0.5, 2, 0)
        for convolution in self.convolutions:
            x = halve(jax.nn.relu(convolution(x)))
        x = x.ravel()
        for layer in self.dense[:-1]:
            x = jax.nn.relu(layer(x))
        return self.dense[-1](x)


class Trained(NamedTuple):
    """A trained network."""

    network: Network
    was_right: np.ndarray  # bool [n]: the answers to the last epoch's examples, before their steps

    @property
    def train_accuracy(self) -> float:
        """Accuracy on the examples of the last epoch, each before its step."""
        return float(np.mean(self.was_right))


def init(kind: str, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> Network:
    """Return a network with He-normal weights and biases of 0.

    Args:
        kind: "mlp" has two hidden layers of 512. "cnn" has two convolutions with 32 and 64
            features of 3x3, each halved by max pooling, and a hidden layer of 128.
        image_shape: (H, W, channels).
        num_classes: C.
        seed: of the weights.
    """
    height, width, channels = image_shape
    features, sizes = (), (height * width * channels, 512, 512, num_classes)
    if kind == "cnn":
        features = (channels, 32, 64)
        sizes = (-(-height // 4) * -(-width // 4) * 64, 128, num_classes)
    key = jax.random.key(seed)
    network = Network(
        tuple(eqx.nn.Conv2d(*pair, 3, padding="SAME", key=key) for pair in pairwise(features)),
        tuple(eqx.nn.Linear(*pair, key=key) for pair in pairwise(sizes)),
    )
    leaves, tree = jax.tree.flatten(network)
    he_normal = jax.nn.initializers.he_normal(in_axis=1, out_axis=0)
    drawn = [
        he_normal(key, leaf.shape) if leaf.size > leaf.shape[0] else jnp.zeros_like(leaf)
        for key, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, drawn)


def logits(network: Network, images: jax.Array) -> jax.Array:
    """Return class logits [B, C] of images uint8 [B, H, W, channels]."""
    return jax.vmap(network)(images)


def step(
    optimiser: optax.GradientTransformation,
    network: Network,
    state: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[Network, Any, jax.Array]:
    """Return the network and the optimiser's state after one step, and what was right before it.

    Args:
        optimiser: turns gradients of the cross-entropy into changes.
        network: before the step.
        state: the optimiser's, before the step.
        images: uint8 [B, H, W, channels].
        labels: int32 [B].

    Returns:
        Network, state, and bool [B]: which images were answered right.
    """

    def loss(network):
        found = logits(network, images)
        entropy = optax.softmax_cross_entropy_with_integer_labels(found, labels)
        return jnp.mean(entropy), jnp.argmax(found, axis=1) == labels

    (_, right), gradients = jax.value_and_grad(loss, has_aux=True)(network)
    # The schedules of optax mix integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimiser.update(gradients, state)
        return eqx.apply_updates(network, updates), state, right


def train(
    kind: str, data: Dataset, epochs: int, learning_rate: float = 1e-3, falls: bool = True
) -> Trained:
    """Train by Adam on the cross-entropy, in batches of ``BATCH``; what fills no batch is left out.

    Args:
        kind: "mlp" or "cnn"; see ``init``.
        data: the examples. Its seed is that of the weights and the orders as well.
        epochs: passes over the data. The first keeps the given order; the others draw new ones.
        learning_rate: at the start.
        falls: whether the rate falls to 0 as a cosine; it must not in a world that changes.
    """
    images, labels = data.images, np.asarray(data.labels, np.int32)
    batch = min(BATCH, len(labels))
    num_steps = len(labels) // batch
    schedule = optax.cosine_decay_schedule(learning_rate, epochs * num_steps)
    optimiser = optax.adam(schedule if falls else learning_rate)
    height, width, channels = images.shape[1:]
    network: Any = init(kind, (height, width, channels), data.num_classes, data.seed)
    state = optimiser.init(network)

    take_step = jax.jit(partial(step, optimiser))
    generator = np.random.default_rng(data.seed)
    right = []
    # One call for each step: XLA's convolutions are many times slower inside a loop on a CPU.
    for epoch in range(epochs):
        order = np.arange(len(labels)) if epoch == 0 else generator.permutation(len(labels))
        right = []
        for rows in order[: num_steps * batch].reshape(num_steps, batch):
            network, state, are_right = take_step(network, state, images[rows], labels[rows])
            right.append(are_right)
    return Trained(network, np.concatenate(right))


def predict(trained: Trained, images: np.ndarray) -> np.ndarray:
    """Return the labels [N] of images."""
    return np.argmax(predict_proba(trained, images), axis=1)


def predict_proba(trained: Trained, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes, float32 [N, C], 500 images at a time."""
    shares = [
        np.asarray(_probabilities(trained.network, images[start : start + 500]))
        for start in range(0, len(images), 500)
    ]
    return np.concatenate(shares)


@jax.jit
def _probabilities(network, images):
    return jax.nn.softmax(logits(network, images), axis=1)
