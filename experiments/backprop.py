"""A perceptron with hidden layers and a small convolutional network, trained by backpropagation.

What users would pick instead: they break every rule of the memory network (many passes, gradients
through all layers, weights shared between places) and stand beside it in the tables.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

KINDS = ("mlp", "cnn")
BATCH = 64
_CONVOLUTION = ("NHWC", "HWIO", "NHWC")


class Trained(NamedTuple):
    """A trained network."""

    kind: str
    weights: dict[str, jax.Array]
    was_right: np.ndarray  # bool [n]: the answers to the last epoch's examples, before their steps

    @property
    def train_accuracy(self) -> float:
        """Accuracy on the examples of the last epoch, each before its step."""
        return float(np.mean(self.was_right))


def init(kind: str, image_shape: tuple[int, int, int], num_classes: int, seed: int):
    """Return random weights: He-normal, biases 0.

    Args:
        kind: "mlp", two hidden layers of 512, or "cnn", two convolutions of 32 and 64 features of
            3x3, each halved by max pooling, and a hidden layer of 128.
        image_shape: (H, W, channels).
        num_classes: C.
        seed: of the weights.
    """
    height, width, channels = image_shape
    if kind == "mlp":
        shapes = [(height * width * channels, 512), (512, 512), (512, num_classes)]
    else:
        flat = -(-height // 4) * -(-width // 4) * 64
        shapes = [(3, 3, channels, 32), (3, 3, 32, 64), (flat, 128), (128, num_classes)]
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    weights = {}
    for number, (key, shape) in enumerate(zip(keys, shapes, strict=True)):
        scale = float(np.sqrt(2 / np.prod(shape[:-1])))
        weights[f"kernel_{number}"] = scale * jax.random.normal(key, shape)
        weights[f"bias_{number}"] = jnp.zeros(shape[-1])
    return weights


def logits(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Return class logits [B, C] of images uint8 [B, H, W, channels]."""
    x = images.astype(jnp.float32) / 255 - 0.5
    depth = len(weights) // 2
    for number in range(depth):
        kernel, bias = weights[f"kernel_{number}"], weights[f"bias_{number}"]
        if kernel.ndim == 4:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=_CONVOLUTION
            )
            x = jax.nn.relu(x + bias[None, None, None])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        else:
            x = x.reshape(x.shape[0], -1) @ kernel + bias[None]
            x = jax.nn.relu(x) if number < depth - 1 else x
    return x


def learn(
    optimiser: optax.GradientTransformation,
    weights: dict[str, jax.Array],
    state: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[dict[str, jax.Array], Any, jax.Array]:
    """Return the weights and the optimiser's state after one step, and what was right before it.

    Args:
        optimiser: what turns gradients of the cross-entropy into changes.
        weights: before the step.
        state: the optimiser's, before the step.
        images: uint8 [B, H, W, channels].
        labels: int32 [B].

    Returns:
        Weights, state, and bool [B]: which images were answered right.
    """

    def loss(weights):
        found = logits(weights, images)
        entropy = optax.softmax_cross_entropy_with_integer_labels(found, labels)
        return jnp.mean(entropy), jnp.argmax(found, axis=1) == labels

    (_, right), gradients = jax.value_and_grad(loss, has_aux=True)(weights)
    # The schedules of optax mix integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimiser.update(gradients, state)
        learned: Any = optax.apply_updates(weights, updates)
    return learned, state, right


def train(
    kind: str,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = 1e-3,
    falls: bool = True,
) -> Trained:
    """Train by Adam on the cross-entropy, in batches of ``BATCH``; what fills no batch is left.

    Args:
        kind: "mlp" or "cnn"; see ``init``.
        images: uint8 [N, H, W, channels]; every epoch sees them in a new order.
        labels: integers [N].
        num_classes: C.
        epochs: passes over the data; 1 is one pass, in the order that is given.
        seed: of the weights and the orders.
        learning_rate: at the start.
        falls: whether it falls to 0 as a cosine; in a world that changes it must not.
    """
    batch = min(BATCH, len(labels))
    steps = len(labels) // batch
    schedule = optax.cosine_decay_schedule(learning_rate, epochs * steps)
    optimiser = optax.adam(schedule if falls else learning_rate)
    weights = init(kind, images.shape[1:], num_classes, seed)
    state = optimiser.init(weights)
    labels = np.asarray(labels, np.int32)

    step = jax.jit(partial(learn, optimiser))
    generator = np.random.default_rng(seed)
    right = []
    # One call a step: XLA's convolutions are many times slower inside a loop on a CPU.
    for epoch in range(epochs):
        order = np.arange(len(labels)) if epoch == 0 else generator.permutation(len(labels))
        right = []
        for rows in order[: steps * batch].reshape(steps, batch):
            weights, state, are_right = step(weights, state, images[rows], labels[rows])
            right.append(are_right)
    return Trained(kind, weights, np.concatenate(right))


def predict(trained: Trained, images: np.ndarray) -> np.ndarray:
    """Return the labels [N] of images."""
    return np.argmax(predict_proba(trained, images), axis=1)


def predict_proba(trained: Trained, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes, float32 [N, C], 500 images at a time."""
    shares = [
        np.asarray(_probabilities(trained.weights, images[start : start + 500]))
        for start in range(0, len(images), 500)
    ]
    return np.concatenate(shares)


@jax.jit
def _probabilities(weights, images):
    return jax.nn.softmax(logits(weights, images), axis=1)
