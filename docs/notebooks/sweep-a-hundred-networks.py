# %% [markdown]
# # Sweep a hundred networks at once
#
# What does a memory buy? To find out, we train one network for each of many novelty thresholds. We
# do this for several orders of the stream, because a single order may be a lucky one. A network is
# a pure function of its params and its stream, so `jax.vmap` trains all networks in one compiled
# call: 20 thresholds times 5 orders.

# %%
# %matplotlib inline
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import memjax
from memjax import datasets, plotting

train = datasets.load("digits", "train_without_validation")
held_out = datasets.load("digits", "validation")
network, params = memjax.memory_network((8, 8, 1), num_classes=10, capacity=1000)
state = network.init(jax.random.key(0))

# %% [markdown]
# ## A hundred networks
#
# The thresholds become the leading axis of the params. The orders become the leading axis of the
# images and labels. The inner `vmap` runs over the thresholds and the outer one over the orders.

# %%
thresholds = jnp.linspace(0.02, 0.4, 20)
sweep = jax.vmap(lambda t: memjax.replace_params(params, novelty_threshold=t))(thresholds)
orders = np.stack([np.random.default_rng(seed).permutation(len(train.labels)) for seed in range(5)])

over_thresholds = jax.vmap(memjax.fit, in_axes=(None, 0, None, None, None))
fit_all = jax.vmap(over_thresholds, in_axes=(None, None, None, 0, 0))
start = time.perf_counter()
states, infos = jax.block_until_ready(
    fit_all(network, sweep, state, train.images[orders], train.labels[orders])
)
seconds = time.perf_counter() - start
count = partial(memjax.num_memories, network)
sizes = jax.vmap(jax.vmap(count))(states)  # [orders, thresholds]
print(f"{sizes.size} networks of {sizes.min()} to {sizes.max()} memories")
print(f"in {seconds:.1f} s, including the compilation")

# %% [markdown]
# ## What a memory buys
#
# All hundred networks answer for the validation split, again in one call.


# %%
def accuracy(params, state):
    return memjax.evaluate(network, params, state, held_out.images, held_out.labels).accuracy


evaluate_thresholds = jax.vmap(accuracy, in_axes=(0, 0))
accuracies = jax.vmap(evaluate_thresholds, in_axes=(None, 0))(sweep, states)
plotting.pareto(sizes.T, accuracies.T)

# %% [markdown]
# ## Choose one
#
# We take the fewest memories with an accuracy within one standard deviation of the best.

# %%
mean, deviation = accuracies.mean(axis=0), accuracies.std(axis=0, ddof=1)
best = int(jnp.argmax(mean))
is_good = mean >= mean[best] - deviation[best]
chosen = int(jnp.argmin(jnp.where(is_good, sizes.mean(axis=0), jnp.inf)))
print(f"best    threshold {thresholds[best]:.2f}  memories {sizes[:, best].mean():.0f}")
print(f"chosen  threshold {thresholds[chosen]:.2f}  memories {sizes[:, chosen].mean():.0f}")

# %% [markdown]
# We chose nothing on the test split. So the accuracies of the five chosen networks on it, one for
# each order, are what to expect of new images.

# %%
test = datasets.load("digits", "test")
chosen_params = jax.tree.map(lambda leaf: leaf[chosen], sweep)
members = jax.tree.map(lambda leaf: leaf[:, chosen], states)


def test_accuracy(state):
    return memjax.evaluate(network, chosen_params, state, test.images, test.labels).accuracy


print("test accuracy", jax.vmap(test_accuracy)(members))

# %% [markdown]
# Every tool also takes one network out of the batch, as if it had been trained alone. Here is how
# the first of the five grew.

# %%
first = jax.tree.map(lambda leaf: leaf[0, chosen], infos)
plotting.growth(first, train.labels[orders[0]], window=200)

# %% [markdown]
# [Sweeps](../guides/sweeps.md) says what to do with a sweep that does not fit into memory.
# [Several devices](../guides/several-devices.md) says how to spread one over devices.
