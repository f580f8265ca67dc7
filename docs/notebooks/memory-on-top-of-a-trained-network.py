# %% [markdown]
# # Memory on top of a trained network
#
# A network that was trained by gradients knows the classes of its training, and no others. Here a
# small one is trained on five of the ten classes of Fashion-MNIST, and then frozen. A bank of
# memories stands on its features. It learns the other five classes one after another, and sees each
# image once. After each class we ask it about all ten, we look at what is new to it, and at the end
# at why it gives an answer. All figures are for images of the validation split.

# %%
# %matplotlib inline
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import memjax
from memjax import datasets, plotting

train = datasets.load("fashion_mnist", "train_without_validation")
held_out = datasets.load("fashion_mnist", "validation")
images, labels = held_out.images[:2000], held_out.labels[:2000]
names, is_first = train.class_names, labels < 5
print("first:", ", ".join(names[:5]))
print("later:", ", ".join(names[5:]))


def first_rows(label, number):
    return np.flatnonzero(train.labels == label)[:number]


def pixels(images):
    return images.reshape(len(images), -1) / np.float32(255)


# %% [markdown]
# ## A network that knows five classes
#
# It has one hidden layer. [Equinox](https://docs.kidger.site/equinox/) builds it and
# [Optax](https://optax.readthedocs.io) trains it.

# %%
model = eqx.nn.MLP(28 * 28, 5, width_size=256, depth=1, key=jax.random.key(0))
optimiser = optax.adam(1e-3)


@eqx.filter_jit
def descend(model, moments, xs, targets):
    def loss(model):
        logits = jax.vmap(model)(xs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    updates, moments = optimiser.update(eqx.filter_grad(loss)(model), moments)
    return eqx.apply_updates(model, updates), moments


rows = np.concatenate([first_rows(label, 2000) for label in range(5)])
xs, targets = pixels(train.images[rows]), train.labels[rows]
moments = optimiser.init(eqx.filter(model, eqx.is_array))
generator = np.random.default_rng(0)
for _ in range(5):
    for batch in generator.permutation(len(rows)).reshape(-1, 100):
        model, moments = descend(model, moments, xs[batch], targets[batch])

answers = jax.vmap(model)(pixels(images[is_first])).argmax(axis=1)
print(f"its accuracy on its five classes: {100 * np.mean(answers == labels[is_first]):.1f} %")

# %% [markdown]
# ## Memories on its features
#
# From here on the network does not change. The features of an image are the activity of the hidden
# layer, scaled to length 1.
#
# The bank first learns the five classes that the network knows, in mixed order. `calibrate`
# estimates the novelty threshold from the first of these images. Then it learns each of the other
# classes, and during that time it sees images of this class alone.


# %%
@jax.jit
def features(images):
    activity = jax.nn.relu(jax.vmap(model.layers[0])(pixels(images)))
    return activity / jnp.linalg.norm(activity, axis=1, keepdims=True)


known = np.concatenate([first_rows(label, 500) for label in range(5)])
turns = [generator.permutation(known), *(first_rows(label, 500) for label in range(5, 10))]
turn_names = ["the first five", *names[5:]]


def learn_in_turn(encode):
    codes, held_out_codes = encode(train.images[np.concatenate(turns)]), encode(images)
    bank = memjax.MemoryLayer(codes.shape[1], num_classes=10, capacity=4000)
    params = memjax.calibrate(bank, bank.params(), codes[:1000], train.labels[turns[0][:1000]])
    state, start, stages = bank.init(jax.random.key(0)), 0, []
    for rows in turns:
        stop = start + len(rows)
        state, _ = memjax.fit(bank, params, state, codes[start:stop], train.labels[rows])
        evidence = memjax.predict_proba(bank, params, state, held_out_codes)
        novelty = memjax.novelty_score(bank, params, state, held_out_codes)
        stages.append((memjax.num_memories(bank, state), evidence, novelty))
        start = stop
    return bank, params, state, stages


bank, params, state, stages = learn_in_turn(features)

# %% [markdown]
# ## Accuracy after each class
#
# The third column is the accuracy on all ten classes, also on those that are still to come. The
# last column asks only about the first five classes, and lets the bank choose only among these
# five. It shows what was forgotten of them.

# %%
print(f"{'learned':15} {'memories':>8} {'all ten':>9} {'so far':>9} {'first five':>11}")
for number, (size, evidence, _) in enumerate(stages):
    is_right = evidence.argmax(axis=1) == labels
    among_five = evidence[is_first, :5].argmax(axis=1) == labels[is_first]
    shares = is_right.mean(), is_right[labels < 5 + number].mean(), among_five.mean()
    whole, so_far, five = (100 * share for share in shares)
    print(f"{turn_names[number]:15} {size:8,} {whole:7.1f} % {so_far:7.1f} % {five:9.1f} %")

# %% [markdown]
# The same by class. Down a column one sees how many images of a class are still recognised. Some
# may be lost because there is more to choose from: a shirt looks like a T-shirt.

# %%
groups = [labels < 5, *(labels == label for label in range(5, 10))]
matrix = [
    [np.mean(evidence.argmax(axis=1)[group] == labels[group]) for group in groups[: number + 1]]
    for number, (_, evidence, _) in enumerate(stages)
]
plotting.accuracy_matrix(matrix, turn_names)

# %% [markdown]
# ## What is new to it
#
# The novelty score of an image says how many of the learned examples were nearer to their memory.
# At 0.95 only one in twenty was farther. Here are the median scores of each class, and how many of
# its images score above 0.95, just before and just after the bank has learned the class.

# %%
print(f"{'':12} {'median before':>14} {'after':>6} {'new before':>12} {'after':>7}")
for turn, label in enumerate(range(5, 10), start=1):
    before, after = (stages[stage][2][labels == label] for stage in (turn - 1, turn))
    middle = f"{np.median(before):14.2f} {np.median(after):6.2f}"
    print(f"{names[label]:12} {middle} {np.mean(before > 0.95):12.0%} {np.mean(after > 0.95):7.0%}")

# %% [markdown]
# ## Why this answer
#
# Take the first held-out image of a class that the network was not trained on. `explain` says which
# memories voted. A memory remembers the number of the example that it was stored from, so we can
# look at that training image. Above it stand its label, the weight of its vote, and how many images
# the memory has learned from.

# %%
index = int(np.flatnonzero(~is_first)[0])
why = memjax.explain(bank, params, state, features(images[index : index + 1]))
voters, weights = why.memories[0, 0], why.weights[0, 0]
stored_from = np.concatenate(turns)[np.asarray(state.stored_at)[voters]]
answer = int(stages[-1][1][index].argmax())
print("label", names[labels[index]], "answer", names[answer])

figure = Figure(figsize=(9, 1.7), layout="constrained", dpi=120)
panels = figure.subplots(1, 1 + len(voters))
panels[0].set_title("image", fontsize=7)
panels[0].imshow(images[index, :, :, 0], cmap="gray")
for panel, memory, row, weight in zip(panels[1:], voters, stored_from, weights, strict=True):
    label = names[train.labels[row]]
    panel.set_title(f"{label}\nweight {weight:.2f}\nimages {state.counts[memory]}", fontsize=7)
    panel.imshow(train.images[row, :, :, 0], cmap="gray")
for panel in panels:
    panel.set_axis_off()
figure

# %% [markdown]
# ## Does it need the trained network?
#
# A network that learns to tell five classes apart may drop what tells the others apart. So we let
# the same bank learn the same images in the same order once more. This time it stands on oriented
# edges, memjax's encoder that nobody trains.

# %%
edges = memjax.OrientedEdges((28, 28, 1))
*_, by_edges = learn_in_turn(lambda images: edges.recall_block((), (), images))
for name, last in (("trained features", stages[-1]), ("oriented edges", by_edges[-1])):
    size, evidence, _ = last
    accuracy = 100 * np.mean(evidence.argmax(axis=1) == labels)
    print(f"{name:16} {accuracy:.1f} % of all ten classes, {size:,} memories")

# %% [markdown]
# [Inside another program](../guides/inside-another-program.md) has gradients through the memories,
# and a function that learns and descends at once. [Classes one after another](../continual.md)
# measures whole networks on such streams.
