# %% [markdown]
# # Sweep a hundred networks at once
#
# What does a memory buy? To know it one trains a network for each of many novelty thresholds, and
# each on several orders of the stream, as one order may be lucky. Since a network is a pure
# function of its params and its stream, `jax.vmap` trains them all in one compiled call: here 20
# thresholds and 5 orders.

# %%
# %matplotlib inline
import time

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
# The thresholds become the leading axis of the params, the orders that of the images and labels.
# The inner `vmap` runs over the first, the outer one over the second.

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
sizes = states[1].size  # [orders, thresholds]
print(f"{sizes.size} networks of {sizes.min()} to {sizes.max()} memories")
print(f"in {time.perf_counter() - start:.1f} s, with the compilation")

# %% [markdown]
# ## What a memory buys
#
# All hundred answer for the validation split, again in one call.

# %%
recall_thresholds = jax.vmap(network.recall_block, in_axes=(0, 0, None))
recall_all = jax.jit(jax.vmap(recall_thresholds, in_axes=(None, 0, None)))
evidence = recall_all(sweep, states, held_out.images)  # [orders, thresholds, N, classes]
accuracies = (jnp.argmax(evidence, axis=-1) == held_out.labels).mean(axis=-1)
plotting.pareto(sizes.T, accuracies.T)

# %% [markdown]
# ## Choose one
#
# The fewest memories whose accuracy is within one standard deviation of the best.

# %%
mean, deviation = accuracies.mean(axis=0), accuracies.std(axis=0, ddof=1)
best = int(jnp.argmax(mean))
is_good = mean >= mean[best] - deviation[best]
chosen = int(jnp.argmin(jnp.where(is_good, sizes.mean(axis=0), jnp.inf)))
print(f"best    threshold {thresholds[best]:.2f}  memories {sizes[:, best].mean():.0f}")
print(f"chosen  threshold {thresholds[chosen]:.2f}  memories {sizes[:, chosen].mean():.0f}")

# %% [markdown]
# Nothing was chosen on the test split, so what the five chosen networks get there, one an order, is
# what to expect. A member taken out of the batch is, for every tool, as if it had been trained
# alone: here is how the first of them grew.

# %%
test = datasets.load("digits", "test")
chosen_params = jax.tree.map(lambda leaf: leaf[chosen], sweep)
members = jax.tree.map(lambda leaf: leaf[:, chosen], states)
recall_orders = jax.vmap(network.recall_block, in_axes=(None, 0, None))
evidence = recall_orders(chosen_params, members, test.images)
print("test accuracy", (jnp.argmax(evidence, axis=-1) == test.labels).mean(axis=-1))

first = jax.tree.map(lambda leaf: leaf[0, chosen], infos)
plotting.growth(first, train.labels[orders[0]], window=200)

# %% [markdown]
# [Sweeps](../guides/sweeps.md) says what to do with a sweep that does not fit into memory, and
# [several devices](../guides/several-devices.md) how to spread one.
