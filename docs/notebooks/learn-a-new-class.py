# %% [markdown]
# # Watch it learn a new class without forgetting
#
# A network trained by gradients forgets old classes if it goes on with a new class alone. Here a
# memory network knows nine digits. Then it sees the tenth, example by example, and nothing else. We
# test it on the old digits and on the new one after every few examples. All figures are for the
# validation split.

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
# An example becomes a memory if it is farther from all memories than the novelty threshold. So does
# a mistake of the nearest memory that comes again, or whose label few memories vote for. We set the
# threshold so high that the bank keeps room for what comes later.

# %%
network, params = memjax.memory_network(
    (8, 8, 1), num_classes=10, capacity=300, novelty_threshold=0.2
)
is_nine = train.labels == 9
state = network.init(jax.random.key(0))
state, _ = memjax.fit(network, params, state, train.images[~is_nine], train.labels[~is_nine])
print("memories of nine digits:", memjax.num_memories(network, state))

# %% [markdown]
# ## Then the nines alone
#
# `fit_stream` calls our function after every block, here of four examples. The function tests the
# network as it is at that moment.

# %%
seen, old, new = [], [], []
is_new = held_out.labels == 9


def test(state, infos, tally):
    answers = memjax.predict(network, params, state, held_out.images)
    seen.append(tally.num_seen)
    old.append(100 * np.mean(answers[~is_new] == held_out.labels[~is_new]))
    new.append(100 * np.mean(answers[is_new] == 9))


test(state, None, memjax.streams.Tally())
nines = train.images[is_nine], train.labels[is_nine]
state, _ = memjax.fit_stream(network, params, state, [nines], block_size=4, callbacks=[test])
print("memories of ten digits:", memjax.num_memories(network, state))
print(f"old digits {old[0]:.1f} % -> {old[-1]:.1f} %, nines {new[0]:.1f} % -> {new[-1]:.1f} %")

# %%
figure = Figure(figsize=(7, 4), layout="constrained", dpi=120)
axes = figure.add_subplot()
axes.plot(seen, old, "o-", color="#0072B2", markersize=3, label="the nine old digits")
axes.plot(seen, new, "s-", color="#D55E00", markersize=3, label="the new digit")
axes.set_xlabel("nines seen")
axes.set_ylabel("accuracy, %")
axes.set_ylim(0, 100)
axes.legend(loc="center right", frameon=False)
figure

# %% [markdown]
# An example changes at most one memory. If the nearest memory of a nine belongs to another digit,
# the nine is stored as a new memory while few memories are nines, and the other one stays as it is.
# If the nearest memory is one of nines, the nine moves that one. So the memories of old digits
# hardly move, and none goes away. An old digit is lost only if a new memory lies between it and its
# own.
#
# ## Five tasks, one after another
#
# Now the same network starts again, with two digits at a time. After each task we ask it about all
# digits so far, without telling it which task an image comes from. Each column of the figure shows
# what is left of one task.

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
    print("memories:", memjax.num_memories(network, state))
    return matrix


plotting.accuracy_matrix(learn_in_turn(params), names)

# %% [markdown]
# ## What it takes
#
# The network needs enough memories of each class, and it must store them while the class is there.
# With a threshold of infinity, an example is stored only if the nearest memory is wrong. With two
# digits that happens rarely. The few memories that are stored can tell two digits apart, but not
# ten.

# %%
errors_only = memjax.replace_params(params, novelty_threshold=math.inf)
plotting.accuracy_matrix(learn_in_turn(errors_only), names)

# %% [markdown]
# [Classes one after another](../continual.md) measures this on MNIST and CIFAR-10, and compares
# several networks.
