# %% [markdown]
# # One pass over digits
#
# A memory network sees 1,198 small handwritten digits, each once. Then it answers for 599 digits
# that it has never seen. On the way we look at what it stored, how it grew, and why it gives the
# answers that it gives.

# %%
# %matplotlib inline
import numpy as np

import memjax
from memjax import datasets, plotting

train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
print(train.images.shape, train.images.dtype, train.num_classes)

# %% [markdown]
# ## Learn
#
# The network is an encoder and one bank of memories. We take raw pixels as the encoder, because
# they make memories that one can look at. The default, oriented edges, is more accurate.
#
# An image becomes a new memory if it is farther from all memories than the *novelty threshold*.
# `learn` estimates this threshold from the first thousand examples, and then learns every image
# once, in the order of the stream.

# %%
network, params = memjax.memory_network((8, 8, 1), num_classes=10, capacity=500, encoder="pixels")
params, state, infos = memjax.learn(network, params, train.images, train.labels)
print("novelty threshold", memjax.find_params(params, "novelty_threshold")[0])
print("memories", memjax.num_memories(network, state))

# %% [markdown]
# ## How it grew
#
# The network answers for each example *before* it learns from it. So the accuracy of these answers
# is honest, and we know it while the stream is still running. Once the bank is full, a surprise can
# no longer be stored, and moves a memory instead.

# %%
plotting.growth(infos, train.labels, window=200)

# %% [markdown]
# ## What it remembers
#
# The memories of each label stand beside its name, and the memories that learned from the most
# examples come first. A memory is the mean of what it learned from. With `images=train.images` each
# is drawn as the image that it was stored from instead, also where an encoder made it.

# %%
plotting.memories(network, state, train.class_names)

# %% [markdown]
# ## How it answers

# %%
result = memjax.evaluate(network, params, state, test.images, test.labels)
print("accuracy", result.accuracy)
plotting.confusion(result, test.class_names, test.images, test.labels)

# %% [markdown]
# ## Why this label
#
# An answer is the vote of the nearest memories, and we can look at them. Here is the first image
# with a wrong answer, and the memories that voted, each with its share of the evidence.

# %%
wrong = int(np.flatnonzero(result.predicted != test.labels)[0])
image = test.images[wrong]
print("label", test.labels[wrong], "answer", result.predicted[wrong])
explanation = memjax.explain(network, params, state, image[None])
plotting.why(network, state, image, explanation, test.class_names)

# %% [markdown]
# ## What is new to it
#
# The novelty score says how many of the learned examples were nearer to their memory: at 0.95 only
# one in twenty was farther. The digits are known to the network. The same digits with shuffled
# pixels are not.

# %%
pixels = test.images.reshape(len(test.images), -1)
order = np.random.default_rng(0).permutation(pixels.shape[1])
shuffled = pixels[:, order].reshape(test.images.shape)
for name, images in (("digits", test.images), ("shuffled", shuffled)):
    score = memjax.novelty_score(network, params, state, images)
    print(f"{name:8}  above 0.95: {np.mean(score > 0.95):.0%}")

# %% [markdown]
# ## Memories by place
#
# The network with depth has a bank of memories at every place of the image. Its memories are
# patches of strokes. They differ from place to place, because no weight is shared between places.

# %%
deep, deep_params = memjax.columnar_network((8, 8, 1), num_classes=10, size="small")
deep_params, deep_state, _ = memjax.learn(deep, deep_params, train.images, train.labels)
print("accuracy", memjax.evaluate(deep, deep_params, deep_state, test.images, test.labels).accuracy)
plotting.columns(deep, deep_state, num_memories=16)
