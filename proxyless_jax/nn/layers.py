"""Layers that every family is built from: batch norm and convolutions.

Parameters, batch-norm statistics and their arithmetic are float32 (float64
where the input is), whatever the compute dtype. Padding is kernel // 2 on each
side at every stride, as in the released networks, not TensorFlow's SAME.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from proxyless_jax.nn.conv import conv
from proxyless_jax.nn.declare import constant, he_fan_out
from proxyless_jax.nn.depthwise import depthwise_conv
from proxyless_jax.nn.parallel import add_up, of_examples, shares
from proxyless_jax.nn.switch import switch

REDUCED = (0, 1, 2)
# The collection of a batch's own means and variances. A module that is run
# again for its backward pass is given them: they cost a pass over the maps, and
# devices that share a batch an exchange.
MOMENTS = "moments"
# What a module tells of a batch in training, beside its output.
TOLD = ("batch_stats", MOMENTS)
# Of min(max(y, 0), ceiling), by the name of the activation.
CEILINGS = {"relu6": 6.0, "relu": jnp.inf}


def _at_least_float32(dtype) -> jnp.dtype:
  return jnp.promote_types(dtype, jnp.float32)


def _normalise(x, scale, bias, mean, rstd, activation):
  wide = x.astype(mean.dtype)
  y = (wide - mean) * (rstd * scale) + bias
  if activation != "linear":
    y = jnp.clip(y, 0.0, CEILINGS[activation])
  return y.astype(x.dtype)


def batch_moments(x):
  """Mean f[c] and biased variance f[c] of a batch f[b, h, w, c].

  Of the whole batch, where devices share it.
  """
  wide = x.astype(_at_least_float32(x.dtype))
  sums = jnp.mean(wide, REDUCED), jnp.mean(wide * wide, REDUCED)
  mean, square = (total / shares() for total in add_up(sums))
  var = jnp.maximum(square - mean * mean, 0.0)
  return checkpoint_name(mean, MOMENTS), checkpoint_name(var, MOMENTS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_norm(x, scale, bias, moments, epsilon: float, activation: str):
  """Normalises by the batch's own moments, then activates.

  The backward pass saves only `x` and two vectors: autodiff's own takes 10
  times as long as the forward pass on CPU.

  Args:
    x: f[b, h, w, c].
    scale, bias: f[c].
    moments: `batch_moments(x)`. The gradient in `x` is that through them too,
      they get none of their own.
    epsilon: added to the variance.
    activation: 'relu6', 'relu' or 'linear'.

  Returns:
    f[b, h, w, c].
  """
  return _batch_norm_forward(x, scale, bias, moments, epsilon, activation)[0]


def _batch_norm_forward(x, scale, bias, moments, epsilon, activation):
  mean, var = moments
  rstd = lax.rsqrt(var + epsilon)
  y = _normalise(x, scale, bias, mean, rstd, activation)
  return y, (x, scale, bias, mean, rstd)


def _batch_norm_backward(epsilon, activation, residuals, dy):
  del epsilon
  x, scale, bias, mean, rstd = residuals
  dy = dy.astype(mean.dtype)
  normal = (x.astype(mean.dtype) - mean) * rstd
  if activation != "linear":
    y = normal * scale + bias
    dy = jnp.where((y > 0.0) & (y < CEILINGS[activation]), dy, 0.0)
  dbias = jnp.sum(dy, REDUCED)
  dscale = jnp.sum(dy * normal, REDUCED)
  # Of all devices already: what adds up gradients leaves these, by `norms_of`.
  dbias, dscale = add_up((dbias, dscale))
  count = shares() * (x.size // x.shape[-1])
  dx = (dy - dbias / count - normal * (dscale / count)) * (scale * rstd)
  return (
    dx.astype(x.dtype),
    dscale.astype(scale.dtype),
    dbias.astype(bias.dtype),
    None,
  )


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


class BatchNorm(nn.Module):
  """Batch norm over b, h, w, then the activation.

  Where devices share a batch, its statistics are those of the whole batch.

  Attributes:
    activation: 'relu6', 'relu' or 'linear'.
    momentum: of the running statistics; 0 keeps the last batch's alone.
    epsilon: 1e-3, that of the released ImageNet networks.
  """

  activation: str = "linear"
  momentum: float = 0.9
  epsilon: float = 1e-3

  @nn.compact
  def __call__(self, x, train: bool):
    shape = x.shape[-1:]
    scale = self.param("scale", constant(1.0), shape)
    bias = self.param("bias", constant(0.0), shape)
    mean = self.variable("batch_stats", "mean", constant(0.0), None, shape)
    var = self.variable("batch_stats", "var", constant(1.0), None, shape)
    if not train:
      rstd = lax.rsqrt(var.value + self.epsilon)
      return _normalise(x, scale, bias, mean.value, rstd, self.activation)
    batch = self._moments(x)
    y = batch_norm(x, scale, bias, batch, self.epsilon, self.activation)
    if not self.is_initializing():
      for running, new in zip((mean, var), batch):
        new = lax.stop_gradient(new).astype(running.value.dtype)
        old = self.momentum * running.value
        running.value = old + (1.0 - self.momentum) * new
    return y

  def _moments(self, x):
    """Those that the caller gives, else the batch's, which it may ask for."""
    if self.has_variable(MOMENTS, "of_batch"):
      return self.get_variable(MOMENTS, "of_batch")
    moments = batch_moments(lax.stop_gradient(x))
    if not self.is_initializing():
      self.sow(MOMENTS, "of_batch", moments, reduce_fn=lambda _, new: new)
    return moments


def norms_of(told) -> frozenset[tuple[str, ...]]:
  """Where a module has a `BatchNorm`, by what it told of a batch in training.

  Devices that share a batch hold its statistics, and the gradients of its
  parameters, alike.
  """
  return frozenset(path[:-1] for path in flatten_dict(told.get(MOMENTS, {})))


def agreed_statistics(told) -> dict:
  """The new running statistics, the same on all devices that share a batch.

  Those of `BatchNorm` are: it tells its moments. Norms that do not, such as
  Linen's own in an operation of a user's, see one device's share; of their
  statistics all devices then hold the mean. Banks, which are arrays, have been
  through this candidate by candidate.

  Args:
    told: {'batch_stats', 'moments'}, of a module's call.
  """
  stats = told.get("batch_stats", {})
  if shares() == 1:
    return stats
  norms = norms_of(told)
  return unflatten_dict(
    {
      path: leaf
      if len(path) == 1 or path[:-1] in norms
      else add_up(leaf) / shares()
      for path, leaf in flatten_dict(stats).items()
    }
  )


class Conv1x1(nn.Module):
  """1x1 convolution without bias, as one matmul: 2 to 7 times faster on CPU.

  f[b, h, w, c] -> f[b, h, w, features].
  """

  features: int

  @nn.compact
  def __call__(self, x):
    shape = (1, 1, x.shape[-1], self.features)
    kernel = self.param("kernel", he_fan_out, shape).astype(x.dtype)
    y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return y.reshape(*x.shape[:-1], self.features)


class Conv(nn.Module):
  """kxk convolution without bias: f[b, h, w, c] -> f[b, h', w', features].

  Attributes:
    features: of the output.
    kernel, stride: of both spatial dimensions.
    groups: of channels that see nothing of each other.
  """

  features: int
  kernel: int
  stride: int
  groups: int = 1

  @nn.compact
  def __call__(self, x):
    features_in = x.shape[-1] // self.groups
    shape = (self.kernel, self.kernel, features_in, self.features)
    kernel = self.param("kernel", he_fan_out, shape).astype(x.dtype)
    # XLA:CPU takes 7 times as long for a grouped convolution as for its parts.
    parts = zip(*(jnp.split(a, self.groups, -1) for a in (x, kernel)))
    return jnp.concatenate([conv(*part, self.stride) for part in parts], -1)


def depthwise(
  module: nn.Module,
  x,
  forms: tuple[tuple[int, int], ...],
  stride: int,
  member=None,
):
  """The depthwise convolution by a module's own parameter `depthwise`.

  Args:
    module: whose parameter it is, in a compact method of it.
    x: f[b, h, w, c].
    forms: kernel size and dilation of each member of a family of operations
      (`proxyless_jax.nn.family`); of one, outside families.
    stride: of both spatial dimensions.
    member: i32[], which form to run. The parameter is then a vector that begins
      with the member's kernel. None for the only one.
  """
  features = x.shape[-1]
  if member is None:
    ((size, dilation),) = forms
    kernel = module.param("depthwise", he_fan_out, (size, size, 1, features))
    return depthwise_conv(x, kernel.astype(x.dtype), stride, dilation)

  def branch(form, x, vector):
    size, dilation = form
    kernel = vector[: size**2 * features].reshape(size, size, 1, features)
    return depthwise_conv(x, kernel, stride, dilation)

  vector = module.get_variable("params", "depthwise").astype(x.dtype)
  branches = tuple(functools.partial(branch, form) for form in forms)
  return switch(branches, member, x, vector)


def drop_path(key, y, rate):
  """Zeroes whole examples of f[b, h, w, c], and scales up the others.

  Huang et al., ECCV 2016; in the scaling of Larsson et al., ICLR 2017: the
  mean over draws is `y`.

  Args:
    key: PRNG key.
    y: what a path adds to its shortcut, or to other paths.
    rate: f[], of examples that the path is dropped for; below 1.
  """
  kept = of_examples(
    lambda n: jax.random.bernoulli(key, 1.0 - rate, (n, 1, 1, 1)), y.shape[0]
  )
  return jnp.where(kept, y / (1.0 - rate), 0.0).astype(y.dtype)


class Dropout(nn.Module):
  """Zeroes single values of f[b, ...] in training, and scales up the others.

  Attributes:
    rate: of values that are dropped; below 1.
  """

  rate: float

  @nn.compact
  def __call__(self, x, train: bool):
    if not train or self.rate == 0.0:
      return x
    key = self.make_rng("dropout")
    kept = of_examples(
      lambda n: jax.random.bernoulli(key, 1.0 - self.rate, (n, *x.shape[1:])),
      x.shape[0],
    )
    return jnp.where(kept, x / (1.0 - self.rate), 0.0).astype(x.dtype)
