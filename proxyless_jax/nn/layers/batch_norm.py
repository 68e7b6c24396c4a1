"""Batch norm, over all devices that share a batch.

Statistics and their arithmetic are float32 (float64 where the input is),
whatever the compute dtype.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from proxyless_jax.nn import cpu_kernels
from proxyless_jax.nn.layers.declare import constant
from proxyless_jax.parallel.collectives import num_shards, psum
from proxyless_jax.space.checks import expect

REDUCED = (0, 1, 2)
# Collection in which a forward pass in training stores the batch's own means
# and variances.
MOMENTS = "moments"
# Collection in which a module that runs again for its backward pass finds them.
# To compute them again would cost a pass over the maps and, where devices share
# a batch, an exchange between them.
REUSED_MOMENTS = "reused_moments"
# Collections that a forward pass in training mutates.
MUTATED = ("batch_stats", MOMENTS)
# The ceiling in min(max(y, 0), ceiling), by the name of the activation; None
# for y itself.
CEILINGS = {"relu6": 6.0, "relu": jnp.inf, "linear": None}


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
  """The type of statistics of a map of this type."""
  return jnp.promote_types(dtype, jnp.float32)


def normalise(
  x: jax.Array,
  mean: jax.Array,
  rstd: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  ceiling: float | None,
) -> jax.Array:
  """y = (x - mean) * rstd * scale + bias, then min(max(y, 0), ceiling).

  Args:
    x: f[b, h, w, c].
    mean, rstd, scale, bias: f[c].
    ceiling: a value of `CEILINGS`.
  """
  wide = x.astype(mean.dtype)
  y = (wide - mean) * (rstd * scale) + bias
  if ceiling is not None:
    y = jnp.clip(y, 0.0, ceiling)
  return y.astype(x.dtype)


def batch_moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean and biased variance of a batch: of the whole one, if devices share it.

  Args:
    x: f[b, h, w, c].

  Returns:
    f[c] and f[c], float32 or wider.
  """
  sums = cpu_kernels.on_cpu(cpu_kernels.batch_means, _batch_means, x)
  mean, square = (total / num_shards() for total in psum(sums))
  var = jnp.maximum(square - mean * mean, 0.0)
  return checkpoint_name(mean, MOMENTS), checkpoint_name(var, MOMENTS)


def _batch_means(x):
  wide = x.astype(at_least_float32(x.dtype))
  return jnp.mean(wide, REDUCED), jnp.mean(wide * wide, REDUCED)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_norm(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  moments: tuple[jax.Array, jax.Array],
  epsilon: float,
  activation: str,
) -> jax.Array:
  """Normalises by the batch's own moments, then activates.

  The backward pass saves only `x` and two vectors: autodiff's own takes 10
  times as long as the forward pass on CPU. There, kernels in C++ run both
  passes on float32, in 0.45 to 0.63 of XLA's time
  (`experiments/batch_norm.py`). Differentiable once: as moments get no
  gradient, a second one would lack what goes through them.

  Args:
    x: f[b, h, w, c].
    scale, bias: f[c].
    moments: mean f[c] and variance f[c], `batch_moments(x)`. The gradient with
      respect to `x` includes the one through them; they get none themselves.
    epsilon: number added to the variance.
    activation: 'relu6', 'relu' or 'linear'.

  Returns:
    f[b, h, w, c].
  """
  return _batch_norm_forward(x, scale, bias, moments, epsilon, activation)[0]


def _batch_norm_forward(x, scale, bias, moments, epsilon, activation):
  mean, var = moments
  rstd = lax.rsqrt(var + epsilon)
  vectors = mean, rstd, scale, bias
  choice, ceiling = (cpu_kernels.normalise, normalise), CEILINGS[activation]
  y = cpu_kernels.on_cpu(*choice, x, *vectors, ceiling=ceiling)
  return y, (x, *vectors)


def _batch_norm_backward(epsilon, activation, residuals, dy):
  del epsilon
  return *norm_gradients(activation, residuals, dy), None


def norm_gradients(
  activation: str, residuals: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The gradients of x, scale and bias in `batch_norm`.

  Args:
    activation: as there.
    residuals: x; and mean, rstd, scale and bias, f[c] each.
    dy: gradient of the output.
  """
  (x, *vectors), ceiling = residuals, CEILINGS[activation]
  sums = cpu_kernels.on_cpu(
    cpu_kernels.norm_gradient_sums,
    _gradient_sums,
    x,
    dy,
    *vectors,
    ceiling=ceiling,
  )
  # Summed over all devices already: `psum_gradients` skips these parameters,
  # which it knows by `norm_paths`.
  dbias, dscale = psum(sums)
  count = num_shards() * (x.size // x.shape[-1])
  means = dbias / count, dscale / count
  dx = cpu_kernels.on_cpu(
    cpu_kernels.norm_input_gradient,
    _input_gradient,
    x,
    dy,
    *vectors,
    *means,
    ceiling=ceiling,
  )
  *_, scale, bias = vectors
  return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype)


def _passed(x, dy, mean, rstd, scale, bias, ceiling):
  """The normalised map, and dy where the activation passes it on."""
  dy = dy.astype(mean.dtype)
  normal = (x.astype(mean.dtype) - mean) * rstd
  if ceiling is not None:
    y = normal * scale + bias
    dy = jnp.where((y > 0.0) & (y < ceiling), dy, 0.0)
  return normal, dy


def _gradient_sums(x, dy, mean, rstd, scale, bias, ceiling):
  normal, dy = _passed(x, dy, mean, rstd, scale, bias, ceiling)
  return jnp.sum(dy, REDUCED), jnp.sum(dy * normal, REDUCED)


def _input_gradient(
  x, dy, mean, rstd, scale, bias, mean_dbias, mean_dscale, ceiling
):
  normal, dy = _passed(x, dy, mean, rstd, scale, bias, ceiling)
  dx = (dy - mean_dbias - normal * mean_dscale) * (scale * rstd)
  return dx.astype(x.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


@flax.struct.dataclass
class Unnormalised:
  """A map whose batch norm is left to the layer that reads it.

  Attributes:
    x: f[b, h, w, c].
    scale, bias, mean, var: f[c].
    epsilon, activation: as for `batch_norm`.
  """

  x: jax.Array
  scale: jax.Array
  bias: jax.Array
  mean: jax.Array
  var: jax.Array
  epsilon: float = flax.struct.field(pytree_node=False)
  activation: str = flax.struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    """That of the map."""
    return self.x.shape

  @property
  def dtype(self) -> jnp.dtype:
    """That of the map."""
    return self.x.dtype

  def normalised(self) -> jax.Array:
    """`batch_norm` of it."""
    moments = self.mean, self.var
    vectors = self.scale, self.bias, moments
    # The module's own scope is left when another layer reads the map.
    with jax.named_scope("bn"):
      return batch_norm(self.x, *vectors, self.epsilon, self.activation)


class BatchNorm(nn.Module):
  """Batch norm over b, h, w, then the activation.

  Where devices share a batch, its statistics are those of the whole batch.

  Attributes:
    activation: 'relu6', 'relu' or 'linear'.
    momentum: share of the running statistics that a step keeps; with 0 they are
      the last batch's.
    epsilon: number added to the variance; the default is that of the released
      ImageNet networks.
  """

  activation: str = "linear"
  momentum: float = 0.9
  epsilon: float = 1e-3

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """f[b, h, w, c] -> f[b, h, w, c]."""
    y = self.later(x, train)
    return y.normalised() if isinstance(y, Unnormalised) else y

  @nn.compact
  def later(self, x: jax.Array, train: bool) -> jax.Array | Unnormalised:
    """In training, x and how it is to be normalised; else the result.

    What Linen captures as intermediates are results of `__call__` alone.
    """
    expect(x.ndim == 4, "x.shape", x.shape, "[b, h, w, c]")
    known = self.activation in CEILINGS
    expect(known, "activation", self.activation, f"one of {[*CEILINGS]}")
    shape = x.shape[-1:]
    scale = self.param("scale", constant(1.0), shape)
    bias = self.param("bias", constant(0.0), shape)
    mean = self.variable("batch_stats", "mean", constant(0.0), None, shape)
    var = self.variable("batch_stats", "var", constant(1.0), None, shape)
    if not train:
      rstd = lax.rsqrt(var.value + self.epsilon)
      vectors = mean.value, rstd, scale, bias
      return normalise(x, *vectors, CEILINGS[self.activation])
    if not self.is_mutable_collection("batch_stats"):
      raise ValueError(
        "train = True, and 'batch_stats' is not mutable: expected "
        "apply(variables, images, train=True, mutable=['batch_stats']), which "
        "gives (logits, {'batch_stats': ...}); for predictions, train=False"
      )
    batch = self._moments(x)
    if not self.is_initializing():
      for running, new in zip((mean, var), batch):
        new = lax.stop_gradient(new).astype(running.value.dtype)
        old = self.momentum * running.value
        running.value = old + (1.0 - self.momentum) * new
    new_mean, new_var = batch
    return Unnormalised(
      *(x, scale, bias, new_mean, new_var),
      epsilon=self.epsilon,
      activation=self.activation,
    )

  def _moments(self, x):
    """The moments that the caller passed in, or those of the batch."""
    # A module may call one norm several times, on different maps: each call has
    # an entry of its own.
    calls = itertools.count()
    name = next(
      name
      for name in map("call{}".format, calls)
      if not self.has_variable(MOMENTS, name)
    )
    moments = self.get_variable(REUSED_MOMENTS, name)
    if moments is None:
      moments = batch_moments(lax.stop_gradient(x))
    if not self.is_initializing():
      self.sow(MOMENTS, name, moments, reduce_fn=lambda _, new: new)
    return moments


def norm_paths(mutated: Mapping) -> frozenset[tuple[str, ...]]:
  """The paths of a module's `BatchNorm`s, which leave `MOMENTS` behind.

  Their statistics, and the gradients of their parameters, are equal on all
  devices that share a batch.

  Args:
    mutated: collections `MUTATED` of a module's call in training.
  """
  return frozenset(path[:-1] for path in flatten_dict(mutated.get(MOMENTS, {})))


def synced_batch_stats(mutated: Mapping) -> dict:
  """The new running statistics, equal on all devices that share a batch.

  Those of `BatchNorm` are equal already. Other norms, such as Linen's in an
  operation from outside, see one device's share of the batch: the result is the
  mean of their statistics over devices. Banks, which are arrays, pass through:
  this function was called for each of their candidates.

  Args:
    mutated: collections `MUTATED` of a module's call in training.

  Returns:
    The collection 'batch_stats'.
  """
  stats = mutated.get("batch_stats", {})
  if num_shards() == 1:
    return stats
  norms = norm_paths(mutated)
  return unflatten_dict(
    {
      path: leaf
      if len(path) == 1 or path[:-1] in norms
      else psum(leaf) / num_shards()
      for path, leaf in flatten_dict(stats).items()
    }
  )
