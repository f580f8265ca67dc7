# %% [markdown]
# # Watch it learn a new class without forgetting
#
# A network trained by gradients forgets old classes when it goes on with a new one alone. Here a
# memory network that knows nine digits meets the tenth, example by example, and nothing else. We
# look at both after every few examples. Everything is measured on the validation split.

# %%
# %matplotlib inline
import math

import jax
import numpy as np
from matplotlib.figure import Figure

import memjax
from memjax import datasets, plotting

train = datasets.load("digits", "train_without_validation")
held_out = datasets.load("digits", "validation")

# %% [markdown]
# ## Nine digits first
#
# An example becomes a memory if it is farther than the novelty threshold from all others, or if its
# nearest memory votes for another label. The threshold is such that the bank keeps room for what
# comes later.

# %%
network, params = memjax.memory_network(
    (8, 8, 1), num_classes=10, capacity=300, novelty_threshold=0.2
)
is_nine = train.labels == 9
state = network.init(jax.random.key(0))
state, _ = memjax.fit(network, params, state, train.images[~is_nine], train.labels[~is_nine])
print("memories of nine digits:", memjax.evaluation.num_memories(state))

# %% [markdown]
# ## Then the nines alone
#
# `fit_stream` calls us after every block, of four examples here, and we test the network as it is.

# %%
seen, old, new = [], [], []
is_new = held_out.labels == 9


def test(state, infos, tally):
    answers = memjax.predict(network, params, state, held_out.images)
    seen.append(tally.num_seen)
    old.append(100 * np.mean(answers[~is_new] == held_out.labels[~is_new]))
    new.append(100 * np.mean(answers[is_new] == 9))


test(state, None, memjax.training.Tally())
nines = train.images[is_nine], train.labels[is_nine]
state, _ = memjax.fit_stream(network, params, state, [nines], block_size=4, callbacks=[test])
print("memories of ten digits:", memjax.evaluation.num_memories(state))
print(f"old digits {old[0]:.1f} % -> {old[-1]:.1f} %, nines {new[0]:.1f} % -> {new[-1]:.1f} %")

# %%
figure = Figure(figsize=(7, 4), layout="constrained", dpi=120)
axes = figure.add_subplot()
axes.plot(seen, old, "o-", color="#0072B2", markersize=3, label="the nine digits before")
axes.plot(seen, new, "s-", color="#D55E00", markersize=3, label="the new one")
axes.set_xlabel("nines seen")
axes.set_ylabel("accuracy, %")
axes.set_ylim(0, 100)
axes.legend(loc="center right", frameon=False)
figure

# %% [markdown]
# An example changes one memory at most. A nine whose nearest memory is another digit's is a
# surprise: it is stored beside that memory, which stays as it is. A nine near a memory of nines
# moves that one. So memories of old digits are neither moved nor removed, and an old digit is lost
# only where the new memories crowd in between it and its own.
#
# ## Five tasks, one after another
#
# The same network from its beginning, with two digits at a time. After each task it is asked about
# all digits so far, without being told which task an image is from. Down a column one sees what is
# left of a task.

# %%
tasks = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
names = [f"{a} and {b}" for a, b in tasks]


def learn_in_turn(params):
    state, matrix = network.init(jax.random.key(0)), []
    for number, task in enumerate(tasks, start=1):
        rows = np.isin(train.labels, task)
        state, _ = memjax.fit(network, params, state, train.images[rows], train.labels[rows])
        is_right = memjax.predict(network, params, state, held_out.images) == held_out.labels
        matrix.append([is_right[np.isin(held_out.labels, past)].mean() for past in tasks[:number]])
    print("memories:", memjax.evaluation.num_memories(state))
    return matrix


plotting.accuracy_matrix(learn_in_turn(params), names)

# %% [markdown]
# ## What it takes
#
# Enough memories of each class, stored while the class is there. With a threshold of infinity an
# example is stored only if the nearest memory is wrong, and among two digits few are. These few
# were good enough to tell two digits apart, and are not for ten.

# %%
errors_only = memjax.replace_params(params, novelty_threshold=math.inf)
plotting.accuracy_matrix(learn_in_turn(errors_only), names)

# %% [markdown]
# [Classes one after another](../continual.md) measures this on MNIST and CIFAR-10, beside other
# networks.
