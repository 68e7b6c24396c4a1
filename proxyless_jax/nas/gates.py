"""Binary gates: drawing a path, and the straight-through gradient.

Every edge has architecture parameters alpha and probabilities p =
softmax(alpha). A draw makes each edge's gate one-hot. Straight through the
draw (Courbariaux et al., BinaryConnect, 2015; ProxylessNAS, equation 4),

    dL/dalpha_i = sum_j dL/dg_j * p_j * (delta_ij - p_i).

Architecture parameters of a whole network are one array `arch` f[e, k], padded
to the largest number of candidates k; `valid` bool[e, k] says which exist.
All functions take arrays alone and work on any leading axes, so they serve
other supernets too.

Mode `full` lets every candidate take part. Mode `two` (section 3.2.1) draws two
candidates per edge from p without replacement and renormalises p over the
pair: it is mode `full` with `valid` narrowed to the pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
  from proxyless_jax.space import Network

MODES = ("full", "two")


class Gates(NamedTuple):
  """One draw of a path through a network.

  A step differentiates `gate` and `probs` in alpha: another way to draw gates
  is another function that returns these four.

  Attributes:
    index: i32[e], the drawn candidate of each edge.
    gate: f[e, k], one-hot at `index`; carries the straight-through gradient.
    involved: bool[e, k], the candidates whose gates get a gradient.
    probs: f[e, k], what expected costs see. Its value is softmax(alpha); its
      gradient moves the involved candidates alone.
  """

  # Nobody looks for an element by `tuple.index`, which it hides.
  index: jax.Array  # type: ignore[assignment]
  gate: jax.Array
  involved: jax.Array
  probs: jax.Array


# (key, arch f[e, k], valid bool[e, k], mode) -> Gates, as `draw`.
Draw = Callable[[jax.Array, jax.Array, jax.Array, str], Gates]


def valid_candidates(network: Network) -> np.ndarray:
  """bool[e, k]: the candidates that each edge of a network has."""
  counts = np.array([len(edge.ops) for edge in network.edges])
  return np.arange(counts.max(initial=0)) < counts[:, None]


def init_arch(
  key: jax.Array, valid: jax.Array, scale: float = 1e-3
) -> jax.Array:
  """alpha ~ N(0, scale), f32[e, k]; zero where no candidate exists.

  Args:
    key: PRNG key.
    valid: bool[e, k], the candidates that exist.
    scale: standard deviation; the released search has 1e-3.
  """
  alpha = scale * jax.random.normal(key, valid.shape, jnp.float32)
  return jnp.where(valid, alpha, 0.0)


def masked(arch: jax.Array, valid: jax.Array) -> jax.Array:
  """`arch` with -inf where `valid` is False."""
  return jnp.where(valid, arch, -jnp.inf)


def probabilities(arch: jax.Array, valid: jax.Array) -> jax.Array:
  """softmax(alpha) over the candidates that exist, f[e, k].

  Args:
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
  """
  return jax.nn.softmax(masked(arch, valid), axis=-1)


@jax.custom_vjp
def straight_through(logits: jax.Array, index: jax.Array) -> jax.Array:
  """One-hot of `index`, with the gradient of softmax(logits).

  Args:
    logits: f[..., k]; -inf where there is no candidate.
    index: i32[...], the draw.

  Returns:
    f[..., k].

  >>> import jax, jax.numpy as jnp
  >>> logits = jnp.zeros(2)
  >>> straight_through(logits, jnp.array(0))
  Array([1., 0.], dtype=float32)
  >>> jax.grad(lambda l: straight_through(l, jnp.array(0))[1])(logits)
  Array([-0.25,  0.25], dtype=float32)
  """
  return jax.nn.one_hot(index, logits.shape[-1], dtype=logits.dtype)


def _straight_through_forward(logits, index):
  return straight_through(logits, index), jax.nn.softmax(logits, axis=-1)


def _straight_through_backward(probs, dgate):
  mean = jnp.sum(probs * dgate, axis=-1, keepdims=True)
  return probs * (dgate - mean), None


straight_through.defvjp(_straight_through_forward, _straight_through_backward)


def draw(key: jax.Array, arch: jax.Array, valid: jax.Array, mode: str) -> Gates:
  """Draws one path.

  Args:
    key: PRNG key, used once.
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
    mode: `full` or `two`.

  Raises:
    ValueError: unknown mode.
  """
  if mode not in MODES:
    raise ValueError(f"mode = {mode!r}: expected one of {MODES}")
  pair_key, index_key = jax.random.split(key)
  involved = jnp.asarray(valid)
  if mode == "two":
    involved = draw_pair(pair_key, arch, valid)
  logits = masked(arch, involved)
  index = jax.random.categorical(index_key, logits, axis=-1).astype(jnp.int32)
  # The pair's renormalised p gives the gradient, softmax(alpha) the value: so
  # a target in terms of the expected cost means the same in both modes.
  inner = jax.nn.softmax(logits, axis=-1)
  probs = inner + jax.lax.stop_gradient(probabilities(arch, valid) - inner)
  return Gates(index, straight_through(logits, index), involved, probs)


def draw_pair(key: jax.Array, arch: jax.Array, valid: jax.Array) -> jax.Array:
  """Two candidates per edge, drawn from p without replacement.

  The two largest of alpha plus Gumbel noise are such a draw. Edges with one
  candidate give that one alone.

  Args:
    key: PRNG key.
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.

  Returns:
    bool[e, k].
  """
  k = arch.shape[-1]
  noisy = masked(arch + jax.random.gumbel(key, arch.shape, arch.dtype), valid)
  _, pair = jax.lax.top_k(noisy, min(2, k))
  return valid & jax.nn.one_hot(pair, k, dtype=bool).any(axis=-2)


def draw_several(
  key: jax.Array,
  arch: jax.Array,
  valid: jax.Array,
  paths: int,
  draw: Draw = draw,
) -> Gates:
  """Paths for the parts of one batch, spread evenly over the candidates.

  By systematic sampling: on each edge, m paths take the candidates at m points
  of the cumulative distribution, at equal distances from a random start, in
  random order. Each path by itself is drawn from p, independently from edge to
  edge; all together have each candidate m p times, rounded up or down. With p
  uniform over m candidates that is the strict fairness of Chu et al., FairNAS
  (ICCV 2021): each candidate once.

  Args:
    key: PRNG key, used once.
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
    paths: m, number of paths.
    draw: function that draws one path. Another one than `gates.draw` is called
      once for each path, independently.

  Returns:
    Gates with m as the leading axis of each array.
  """
  if paths == 1:
    return jax.tree.map(lambda x: x[None], draw(key, arch, valid, "full"))
  if draw is not _one_path:
    keys = jax.random.split(key, paths)
    return jax.vmap(lambda key: draw(key, arch, valid, "full"))(keys)
  index = systematic(key, probabilities(arch, valid), paths)
  return jax.vmap(path, in_axes=(0, None))(index, jnp.asarray(valid))


_one_path = draw  # The argument of `draw_several` has its name.


def systematic(key: jax.Array, probs: jax.Array, paths: int) -> jax.Array:
  """The candidates of `draw_several`: i32[m, e].

  Args:
    key: PRNG key.
    probs: f[e, k], zero where no candidate exists.
    paths: m.
  """
  start_key, order_key = jax.random.split(key)
  edges, k = probs.shape
  start = jax.random.uniform(start_key, (edges, 1))
  points = (start + jnp.arange(paths)) / paths
  order = jax.random.uniform(order_key, points.shape)
  points = jnp.take_along_axis(points, jnp.argsort(order), axis=1)
  cumulative = jnp.cumsum(probs, axis=1)[:, None, :-1]
  index = jnp.sum(points[:, :, None] >= cumulative, axis=2)
  # Sums that end below 1 must not lead to what does not exist.
  last = k - 1 - jnp.argmax(probs[:, ::-1] > 0, axis=1)
  return jnp.minimum(index.T, last).astype(jnp.int32)


def path(index: jax.Array, valid: jax.Array) -> Gates:
  """The gates of a given path, for evaluating it: no gradient, no draw."""
  gate = jax.nn.one_hot(index, valid.shape[-1], dtype=jnp.float32)
  index = jnp.asarray(index, jnp.int32)
  return Gates(index, gate, jnp.zeros_like(valid, bool), gate)


def most_probable(arch: jax.Array, valid: jax.Array) -> jax.Array:
  """The candidate of largest alpha per edge, i32[e].

  Args:
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
  """
  return jnp.argmax(masked(arch, valid), axis=-1).astype(jnp.int32)


def log_probability(
  arch: jax.Array, valid: jax.Array, index: jax.Array
) -> jax.Array:
  """log p of paths, summed over their edges: f[...].

  Args:
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
    index: i32[..., e], the candidate of each edge of each path.
  """
  log_probs = jax.nn.log_softmax(masked(arch, valid), axis=-1)
  log_probs = jnp.broadcast_to(log_probs, (*index.shape, arch.shape[-1]))
  picked = jnp.take_along_axis(log_probs, index[..., None], axis=-1)
  return jnp.sum(picked, axis=(-2, -1))


def entropy(arch: jax.Array, valid: jax.Array) -> jax.Array:
  """Entropy of each edge's gate in nats, f[e].

  Args:
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
  """
  log_probs = jax.nn.log_softmax(masked(arch, valid), axis=-1)
  # 0 log 0 = 0, without the NaN that 0 * inf would put into the gradient.
  finite = jnp.where(valid, log_probs, 0.0)
  return -jnp.sum(jnp.exp(log_probs) * finite, axis=-1)
