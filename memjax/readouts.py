"""Readouts: from the activity of neurons to the evidence for classes, learned in the same pass."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax import _panels
from memjax._checks import check_kind, check_learned
from memjax._numerics import around_mean, matmul, max_over_members, one_member_at_a_time
from memjax.base import UNLABELLED, BlockLayer, FeatureLayer, ReadoutInfo
from memjax.params import Number, exportable

if TYPE_CHECKING:
    import optax

__all__ = [
    "DeltaParams",
    "DeltaReadout",
    "DeltaState",
    "RidgeParams",
    "RidgeReadout",
    "RidgeState",
    "VoteParams",
    "VoteReadout",
    "VoteState",
    "adam",
]

# Variance that counts as hardly any, as a part of the median one. Chosen on the validation split of
# digits; that of MNIST is known as well with a third and three times of it.
_HARDLY = 1e-3


@dataclasses.dataclass(frozen=True)
class _Readout(FeatureLayer, BlockLayer):
    """What the readouts share: their shape, and how they answer.

    Attributes:
        num_features: D, length of an input.
        num_classes: C.
    """

    num_features: int
    num_classes: int

    def _targets(self, labels: jax.Array, length: jax.Array | None) -> jax.Array:
        """Return one-hot rows [B, C]; all zero for an unlabelled example and for padding."""
        count = labels.shape[0] if length is None else length
        is_real = lax.iota(jnp.int32, labels.shape[0]) < count
        return jax.nn.one_hot(
            jnp.where(is_real, labels, UNLABELLED), self.num_classes, dtype=jnp.float32
        )

    def _info(self, evidence: jax.Array, is_settled: jax.Array) -> ReadoutInfo:
        answers = lax.argmax(evidence, evidence.ndim - 1, jnp.int32)
        return ReadoutInfo(jnp.where(is_settled, answers, UNLABELLED))


@exportable
class VoteParams(NamedTuple):
    """The numbers of a vote readout that one may sweep."""

    prior: Annotated[
        jax.Array,
        Number(1.0, 1e-30, 1e30, "activity that each neuron is taken to have met in every class"),
    ]


@exportable
class VoteState(NamedTuple):
    """What a vote readout has learned."""

    activity: jax.Array  # float32 [D, C]: activity of each neuron, summed over a class's examples
    counts: jax.Array  # int32 [C]: examples of each class


class VoteReadout(_Readout):
    r"""Hebbian label counts: a synapse adds up its neuron's activity in examples of its class.

    With $A_{ic} = \sum_{n: y_n = c} x_{ni}$, the evidence is the posterior of a multinomial model,

    $$p(c \mid x) \propto n_c \prod_i \Big( \frac{A_{ic} + a}{\sum_j A_{jc} + a D}
    \Big)^{x_i s(x)}, \qquad s(x) = D / \textstyle\sum_j x_j ,$$

    with the prior $a$. An activity below 0 counts as none. The scale $s$ makes an input's total
    activity $D$, whatever its contrast.

    Attributes:
        num_features: D, length of an input.
        num_classes: C.

    Raises:
        ValueError: an attribute is not positive.

    Source: McCallum & Nigam (1998), "A comparison of event models for naive Bayes".

    Example:
        >>> readout = VoteReadout(num_features=2, num_classes=2)
        >>> state = readout.init(jax.random.key(0))
        >>> xs, labels = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> state, _, _ = readout.step_block(readout.default_params(), state, xs, labels)
        >>> readout.recall(readout.default_params(), state, jnp.array([0.9, 0.1])).argmax().item()
        0
    """

    params_kind = VoteParams

    def init(self, key: jax.Array) -> VoteState:
        """Return empty counts; ``key`` is not used."""
        del key
        return VoteState(
            activity=jnp.zeros((self.num_features, self.num_classes), jnp.float32),
            counts=jnp.zeros((self.num_classes,), jnp.int32),
        )

    def check_values(self, state):
        """Raise unless these can be counts; see ``Layer.check_values``."""
        check_learned("VoteReadout.activity", state.activity, 0)
        check_learned("VoteReadout.counts", state.counts, 0)

    def step(self, params, state, x, label):
        """Learn from one example; see ``Layer.step``."""
        evidence = self.recall(params, state, x)
        target = self._targets(label[None], None)[0]
        new_state = VoteState(
            activity=state.activity + jnp.maximum(x, 0)[:, None] * target[None, :],
            counts=state.counts + target.astype(jnp.int32),
        )
        return new_state, evidence, self._info(evidence, jnp.sum(state.counts) > 0)

    def recall_block(self, params, state, xs):
        """Return the class evidence [B, C] of inputs [B, D]."""
        activity = state.activity + params.prior
        likelihood = jnp.log(activity) - jnp.log(jnp.sum(activity, axis=0, keepdims=True))
        xs = jnp.maximum(xs, 0)
        total = jnp.sum(xs, axis=1, keepdims=True)
        # The scale of a total near the least float32 would be infinite.
        xs = xs * (self.num_features / jnp.where(total > 1e-30, total, 1))
        counts = state.counts.astype(jnp.float32)
        scores = matmul(xs, likelihood)
        scores = scores + jnp.log(jnp.maximum(counts, 1e-30))[None, :]
        return jnp.where(jnp.sum(counts) > 0, jax.nn.softmax(scores, axis=1), 0)


def adam(learning_rate: Any) -> "optax.GradientTransformation":
    """Return ``optax.adam``; optax is imported here, as it would slow the import of memjax."""
    import optax

    return optax.adam(learning_rate)


@exportable
class DeltaParams(NamedTuple):
    """The numbers of a delta readout that one may sweep."""

    learning_rate: Annotated[jax.Array, Number(1e-3, 0, 1e6, "given to the rule")]


@exportable
class DeltaState(NamedTuple):
    """What a delta readout has learned."""

    weights: jax.Array  # float32 [D, C]
    bias: jax.Array  # float32 [C]
    rule: Any  # the state of the synapses' rule


@dataclasses.dataclass(frozen=True)
class DeltaReadout(_Readout):
    r"""Local error times activity: the delta rule, with any optax transformation as its rule.

    With the answer $p = \mathrm{softmax}(W^\top x + b)$ and the target $t$, a synapse is driven by
    $x_i (t_c - p_c)$: the activity before it and the error behind it, nothing carried back through
    other layers. The rule turns drives into changes. Drives grow with the inputs: features that lie
    far from zero, or that have scales of their own, need a ``Standardisation`` before it.

    Attributes:
        num_features: D.
        num_classes: C.
        rule: a module-level function from a learning rate to an ``optax.GradientTransformation``,
            such as ``optax.sgd``, or one of yours with a schedule.

    Raises:
        ValueError: a number of features or classes is not positive.

    Source: Widrow & Hoff (1960), "Adaptive switching circuits".

    Example:
        >>> import optax
        >>> readout = DeltaReadout(num_features=2, num_classes=2, rule=optax.sgd)
        >>> state = readout.init(jax.random.key(0))
        >>> params = readout.params(learning_rate=1.0)
        >>> state, _, _ = readout.step(params, state, jnp.array([1.0, 0.0]), jnp.int32(1))
        >>> readout.recall(params, state, jnp.array([1.0, 0.0])).argmax().item()
        1
    """

    params_kind = DeltaParams

    rule: "Callable[[Any], optax.GradientTransformation]" = adam

    def __post_init__(self):
        super().__post_init__()
        check_kind("rule", self.rule, Callable, "a function from a learning rate to a rule")

    def init(self, key: jax.Array) -> DeltaState:
        """Return zero weights; ``key`` is not used."""
        del key
        weights = jnp.zeros((self.num_features, self.num_classes), jnp.float32)
        bias = jnp.zeros((self.num_classes,), jnp.float32)
        return DeltaState(weights, bias, self.rule(1.0).init((weights, bias)))

    def step(self, params, state, x, label):
        """Learn from one example; see ``Layer.step``."""
        evidence = self.recall(params, state, x)
        target = jax.nn.one_hot(label, self.num_classes, dtype=jnp.float32)
        error = jnp.where(label >= 0, evidence - target, 0)
        drive = (x[:, None] * error[None, :], error)
        synapses = (state.weights, state.bias)
        # Some optax rules mix integers and floats, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            changes, rule = self.rule(params.learning_rate).update(drive, state.rule, synapses)
            learned: Any = jax.tree.map(jnp.add, synapses, changes)
        new_state = DeltaState(learned[0], learned[1], rule)
        # An unlabelled example must not move a rule with momentum either.
        new_state = jax.tree.map(lambda a, b: jnp.where(label >= 0, a, b), new_state, state)
        return new_state, evidence, self._info(evidence, jnp.any(state.weights != 0))

    def recall_block(self, params, state, xs):
        """Return the class evidence [B, C] of inputs [B, D]."""
        del params
        scores = matmul(xs, state.weights)
        return jax.nn.softmax(scores + state.bias[None, :], axis=1)


@exportable
class RidgeParams(NamedTuple):
    """The numbers of a ridge readout that one may sweep, without another pass over the data."""

    ridge: Annotated[
        jax.Array, Number(1e-3, 1e-12, 1e12, "penalty, as a part of the variance of each feature")
    ]
    class_balance: Annotated[
        jax.Array, Number(0.0, 0, 1, "0: classes weigh as often as they came; 1: all weigh alike")
    ]


@exportable
class RidgeState(NamedTuple):
    """The sums that a ridge readout has gathered, and the weights that were last solved."""

    scatter: tuple[jax.Array, ...]  # float32 panels [rows to the diagonal, columns] of G
    cross: jax.Array  # float32 [D, C]: sum of x t^T
    counts: jax.Array  # int32 [C]: labelled examples of each class
    weights: jax.Array  # float32 [D, C]
    bias: jax.Array  # float32 [C]


class RidgeReadout(_Readout):
    r"""Hebbian sums, solved when consolidated: order-free least squares in one pass.

    The sums $G = \sum (x - \bar x)(x - \bar x)^\top$ and $Q = \sum x t^\top$ over labelled examples
    are products of activities that meet at a synapse. ``consolidate`` solves, with covariances
    $\hat G, \hat Q$, the variances $v$ of the features, and the median $\tilde v$ of those that
    vary at all,

    $$(\hat G + \mathrm{diag}(p))\, W = \hat Q, \quad b = \bar t - W^\top \bar x , \quad
    p = \lambda_n v + \tilde v\, e^{-1000 v / \tilde v}, \quad
    \lambda_n = \lambda\, (1 + (4 D / n)^2) .$$

    A class $c$ with $n_c$ examples has the weight $\pi_c \propto n_c^{1 - \beta}$ in them. With the
    class balance $\beta = 0$, classes weigh as often as they came. With 1 all weigh alike, which
    helps if a stream shows some classes less often than they will be asked for. The covariance
    within classes is always pooled as they came.

    The factor in $\lambda_n$ is near 1 if there are many more examples $n$ than features. It keeps
    the solution calm if there are about as many. It was chosen on the validation splits of MNIST,
    digits and CIFAR-10, after 200 to 50,000 examples (docs/ablation.md).

    The penalty follows the variance of each feature, so scales do not matter as long as they do not
    differ much. A neuron whose standard deviation is below 3 % of the usual one is held back by the
    second term. It has nearly been silent so far: its weight would be as large as its few answers
    were small, and would drown the others once it speaks up. A feature in far smaller units is held
    back too, and should be scaled first. The term vanishes above 10 %.

    An input of zeros is silence and teaches nothing. Recall uses the weights of the last solve;
    before the first one the evidence is zero. The solve itself is not a local rule (see
    docs/concepts.md). The evidence is $W^\top x + b$ and may be negative.

    Attributes:
        num_features: D, length of an input.
        num_classes: C.

    Raises:
        ValueError: an attribute is not positive.

    Source: Hoerl & Kennard (1970), "Ridge regression".

    Example:
        >>> readout = RidgeReadout(num_features=2, num_classes=2)
        >>> params, state = readout.params(ridge=0.01), readout.init(jax.random.key(0))
        >>> xs, labels = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> state, _, _ = readout.step_block(params, state, xs, labels)
        >>> state = readout.consolidate(params, state)
        >>> readout.recall(params, state, jnp.array([0.9, 0.2])).argmax().item()
        0
    """

    params_kind = RidgeParams

    def init(self, key: jax.Array) -> RidgeState:
        """Return empty sums; ``key`` is not used."""
        del key
        d, c = self.num_features, self.num_classes
        return RidgeState(
            scatter=_panels.zeros(d),
            cross=jnp.zeros((d, c), jnp.float32),
            counts=jnp.zeros((c,), jnp.int32),
            weights=jnp.zeros((d, c), jnp.float32),
            bias=jnp.zeros((c,), jnp.float32),
        )

    def check_values(self, state):
        """Raise unless these can be sums of examples; see ``Layer.check_values``."""
        super().check_values(state)
        check_learned("RidgeReadout.counts", state.counts, 0)
        squares = _panels.diagonal(state.scatter)
        check_learned("RidgeReadout.scatter of a feature with itself", squares, 0)

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block by a symmetric rank-B update; see ``Layer.step_block``."""
        codes = self.recall_block(params, state, xs)
        # Silence teaches nothing: layers below may need some examples before they speak.
        is_heard = jnp.any(xs != 0, axis=1, keepdims=True)
        targets = jnp.where(is_heard, self._targets(labels, length), 0)
        number = jnp.sum(state.counts).astype(jnp.float32)
        rows = around_mean(xs, jnp.any(targets > 0, axis=1), jnp.sum(state.cross, axis=1), number)
        new_state = RidgeState(
            scatter=one_member_at_a_time(_panels.add_products)(state.scatter, rows),
            cross=state.cross + matmul(xs.T, targets),
            counts=state.counts + jnp.sum(targets, axis=0).astype(jnp.int32),
            weights=state.weights,
            bias=state.bias,
        )
        return new_state, codes, self._info(codes, jnp.any(state.bias != 0))

    def recall_block(self, params, state, xs):
        """Return the class evidence [B, C] of inputs [B, D]."""
        del params
        scores = matmul(xs, state.weights)
        return scores + state.bias[None, :]

    def consolidate(self, params: RidgeParams, state: RidgeState) -> RidgeState:
        """Solve the sums for weights and bias; with nothing gathered they stay zero.

        If rounding makes the sums unsolvable, the penalties are raised above the rounding.
        """
        # Members that share their sums share what is made of them too.
        consolidate = one_member_at_a_time(
            self._consolidate, where=lambda params, state: state.scatter[0]
        )
        return consolidate(params, state)

    def _consolidate(self, params: RidgeParams, state: RidgeState) -> RidgeState:
        solved = self._solved(params, state, 0.0)
        is_unsolved = ~jnp.all(jnp.isfinite(solved[0]))
        # A loop, as in `run_if`, would hold another copy of the sums.
        again = lax.cond(
            max_over_members(is_unsolved),
            lambda state: self._solved(params, state, 1e-6 * self.num_features),
            lambda _: solved,
            state,
        )
        weights, bias = jax.tree.map(partial(jnp.where, is_unsolved), again, solved)
        return state._replace(weights=weights, bias=bias)

    def _solved(
        self, params: RidgeParams, state: RidgeState, rounding: float
    ) -> tuple[jax.Array, jax.Array]:
        """Return weights and bias; ``rounding`` is the part of each mean square in its penalty."""
        number = jnp.maximum(jnp.sum(state.counts), 1).astype(jnp.float32)
        counts = state.counts.astype(jnp.float32)
        frequencies = counts / number
        shares = jnp.where(counts > 0, frequencies ** (1 - params.class_balance), 0)
        shares = shares / jnp.maximum(jnp.sum(shares), 1e-12)
        means = state.cross / jnp.maximum(counts, 1)[None, :]
        mean = jnp.sum(means * shares[None, :], axis=1)
        # Around the mean of the examples as they came, which is that of G.
        apart = means - jnp.sum(means * frequencies[None, :], axis=1, keepdims=True)
        excess = apart * (shares - frequencies)[None, :]
        shift = jnp.sum(apart * shares[None, :], axis=1)
        variances = (
            _panels.diagonal(state.scatter) / number
            + jnp.sum(excess * apart, axis=1)
            - jnp.square(shift)
        )
        # A neuron that never spoke, or always said the same, has no variance and gets no weight.
        is_varied = variances > 1e-12 * jnp.square(mean)
        num_varied = jnp.sum(is_varied, dtype=jnp.int32)
        ascending = jnp.sort(jnp.where(is_varied, variances, jnp.inf))
        usual = jnp.where(num_varied > 0, ascending[jnp.maximum(num_varied - 1, 0) // 2], 1)
        ridge = params.ridge * (1 + (4 * self.num_features / number) ** 2)
        silence = jnp.exp(-jnp.maximum(variances, 0) / (_HARDLY * usual))  # 0 to 1
        penalties = ridge * variances + usual * silence
        penalties = jnp.where(is_varied, penalties, usual + jnp.square(mean))
        penalties = penalties + rounding * (jnp.abs(variances) + jnp.square(mean))

        def penalised_covariance(panel, start, stop):
            # The panel is used here so that XLA waits with the product until it is its turn.
            left = excess[:stop] + 0 * panel[0, 0]
            between_classes = matmul(left, apart[start:stop].T)
            panel = panel / number + between_classes - shift[:stop, None] * shift[None, start:stop]
            return _panels.add_to_diagonal(panel, penalties[start:stop])

        cross = (apart - shift[:, None]) * shares[None, :]
        weights = _panels.solve(state.scatter, cross, penalised_covariance)
        bias = shares - matmul(mean, weights)
        return weights, bias
