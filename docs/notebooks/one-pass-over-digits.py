# %% [markdown]
# # One pass over digits
#
# A memory network meets 1,198 small handwritten digits, each once, and then answers for 599 that it
# has never seen. On the way we look at what it stored, how it grew, and why it says what it says.

# %%
# %matplotlib inline
import jax
import numpy as np

import memjax
from memjax import datasets, plotting

train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
print(train.images.shape, train.images.dtype, train.num_classes)

# %% [markdown]
# ## Learn
#
# The network is an encoder and one bank of memories. Raw pixels make memories that one can look at;
# the default, oriented edges, is more accurate. How far an example must be from all memories to be
# stored as a new one, the *novelty threshold*, is estimated from the first thousand examples. Then
# every image is learned once, in the order of the stream.

# %%
network, params = memjax.memory_network((8, 8, 1), num_classes=10, capacity=500, encoder="pixels")
params = memjax.calibrate(network, params, train.images[:1000], train.labels[:1000])
state = network.init(jax.random.key(0))
state, infos = memjax.fit(network, params, state, train.images, train.labels)
print("novelty threshold", params[1].novelty_threshold)
print("memories", memjax.evaluation.num_memories(state))

# %% [markdown]
# ## How it grew
#
# Each example is answered *before* it is learned, so the accuracy of these answers is an honest
# one, and it is there while the stream is still running. Once the bank is full, a surprise moves a
# memory in place of storing one.

# %%
plotting.growth(infos, train.labels, window=200)

# %% [markdown]
# ## What it remembers
#
# A row is a label; first come the memories that learned from most examples (the number above). A
# memory is the mean of what it learned from.

# %%
plotting.memories(network, state, train.class_names, num_columns=12)

# %% [markdown]
# ## How it answers

# %%
result = memjax.evaluate(network, params, state, test.images, test.labels)
print("accuracy", result.accuracy)
plotting.confusion(result, test.class_names)

# %% [markdown]
# ## Why this label
#
# An answer is the vote of the nearest memories, and these can be named. Here is the first image
# that is answered wrong, with the memories that voted.

# %%
wrong = int(np.flatnonzero(result.predicted != test.labels)[0])
image = test.images[wrong]
print("label", test.labels[wrong], "answer", result.predicted[wrong])
explanation = memjax.explain(network, params, state, image[None])
plotting.why(network, state, image, explanation, test.class_names)

# %% [markdown]
# ## What is new to it
#
# The novelty score is the distance to the nearest memory over the threshold: above 1 is new. Digits
# are known; the same digits with their pixels shuffled are not.

# %%
pixels = test.images.reshape(len(test.images), -1)
order = np.random.default_rng(0).permutation(pixels.shape[1])
shuffled = pixels[:, order].reshape(test.images.shape)
for name, images in (("digits", test.images), ("shuffled", shuffled)):
    score = memjax.novelty_score(network, params, state, images)
    print(f"{name:8}  median novelty {np.median(score):.2f}")

# %% [markdown]
# ## Memories by place
#
# The network with depth has a bank of memories of its own at every place of the image. They are
# patches of strokes, and they differ from place to place, for no weight is shared between places.

# %%
deep, deep_params = memjax.columnar_network((8, 8, 1), num_classes=10, size="small")
deep_state = deep.init(jax.random.key(0))
deep_state, _ = memjax.fit(deep, deep_params, deep_state, train.images, train.labels)
print("accuracy", memjax.evaluate(deep, deep_params, deep_state, test.images, test.labels).accuracy)
plotting.columns(deep, deep_state, num_memories=16)
