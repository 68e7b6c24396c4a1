"""Families: each member is the module of its operation."""

import dataclasses
import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments import communication
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.supernet import bank, bottleneck, parts
from proxyless_jax.nn.supernet.kernel_sharing import kernel_groups
from proxyless_jax.space import (
  ConvBN,
  Edge,
  Identity,
  MBConv,
  NormSepConv,
  Zero,
)

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


OPTIONS = (("bn_momentum", 0.8), ("dropout", 0.0))


def edge_of(ops, expand_shape=True):
  if expand_shape:
    return Edge("any", ops, 3, 4, 2, 7)
  return Edge("any", ops, 4, 4, 1, 5, shortcut=True)


# The kernel lies first in the rows of the one, between others in the other's.
MBCONVS = tuple(MBConv(2, kernel) for kernel in (5, 3, 7))
# Of two and of one part; the last of the longest rows is not the longest.
WIDER = MBConv(2, 5), MBConv(4, 3), MBConv(2, 7)
UNEXPANDED = MBConv(1, 3), MBConv(1, 5)
SEPARABLE = NormSepConv(5), NormSepConv(3), NormSepConv(3, dilated=True)


def test_candidates_of_multiples_of_an_expansion_are_a_kernel_group():
  names = [(3, 3), (6, 5), (3, 7), (1, 3), (4, 5)]
  ops = (*(MBConv(*name) for name in names), Zero(), ConvBN(3))
  position = edge_of(ops, expand_shape=False)
  groups = kernel_groups(ops, position, OPTIONS, True)
  members = sorted(group.candidates for group in groups)
  assert members == [(0, 1, 2), (3,), (4,), (5,), (6,)]
  again = kernel_groups(ops, position, OPTIONS, True)
  assert [g.run for g in again] == [g.run for g in groups]


def test_what_does_not_expand_is_no_part_of_what_does():
  ops = MBConv(Fraction(1, 2), 3), MBConv(1, 3), MBConv(2, 3)
  position = Edge("any", ops, 4, 4, 1, 5)
  groups = kernel_groups(ops, position, OPTIONS, True)
  assert sorted(group.candidates for group in groups) == [(0, 2), (1,)]


def test_on_a_gpu_each_expansion_is_a_kernel_group(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  ops = tuple(MBConv(*name) for name in [(3, 3), (6, 5), (3, 7)])
  groups = kernel_groups(ops, edge_of(ops, False), OPTIONS, True)
  assert sorted(group.candidates for group in groups) == [(0, 2), (1,)]


def test_the_number_of_parts_is_that_of_the_group():
  relu = MBConv(6, 3, activation="relu")
  ops = (*(MBConv(n, 3) for n in (Fraction(1, 2), 1, 2, 4, 16)), relu, Zero())
  edge = Edge("any", ops, 4, 4, 1, 5, shortcut=True)
  # 2 is four parts of 1/2. No other is in a group with one that it is parts of.
  numbers = [communication.parts(edge, i) for i in range(len(ops))]
  assert numbers == [1, 1, 4, 1, 1, 1, 1]


def test_separable_convolutions_of_trees_are_a_kernel_group():
  ops = *SEPARABLE[:2], Identity(), SEPARABLE[2]
  position = Edge("any", ops, 4, 4, 1, 5)
  groups = kernel_groups(ops, position, OPTIONS, True)
  assert sorted(g.candidates for g in groups) == [(0, 1, 3), (2,)]


def row_of(rng, op, position, collection, length):
  layout = bank.layout(op, position, collection)
  row = rng.uniform(0.5, 1.5, layout.length)
  return np.concatenate([row, np.full(length - layout.length, np.nan)])


def pull(run, cotangent, params, stats, x):
  """y, new statistics, and gradients of parameters and x."""

  def loss(params, x):
    y, new, *_ = run(params, stats, x)
    return jnp.sum(y * cotangent), (y, new)

  grads, aux = jax.grad(loss, (0, 1), has_aux=True)(params, x)
  return (*aux, *grads)


def with_epsilon(ops, epsilon):
  return tuple(dataclasses.replace(op, epsilon=epsilon) for op in ops)


def test_candidates_of_another_epsilon_are_another_group():
  ops = MBCONVS[:2] + with_epsilon(MBCONVS[2:], 0.1)
  groups = kernel_groups(ops, edge_of(ops), OPTIONS, True)
  assert sorted(g.candidates for g in groups) == [(0, 1), (2,)]


@pytest.mark.parametrize(
  "ops,train",
  [
    (MBCONVS, True),
    (MBCONVS, False),
    (WIDER, True),
    (WIDER, False),
    (UNEXPANDED, True),
    (MBCONVS[:1], True),
    (SEPARABLE, True),
    (with_epsilon(MBCONVS, 0.1), True),
    (with_epsilon(SEPARABLE, 0.1), False),
  ],
)
def test_every_member_is_the_module_of_its_operation(ops, train):
  """What lies behind a member's own in its row, here NaN, is not read."""
  position = edge_of(ops)
  rng = np.random.default_rng(0)
  lengths = [
    bank.Bank("any", (position,), position).length(c)
    for c in ("params", "batch_stats")
  ]
  with jax.enable_x64(True):
    x = jnp.asarray(rng.standard_normal((2, 7, 7, 3)))
    cotangent = jnp.asarray(rng.standard_normal((2, 4, 4, 4)))
    (group,) = kernel_groups(ops, position, OPTIONS, train)
    of_group = jax.jit(
      lambda member, *args: pull(
        functools.partial(group.run, member), cotangent, *args
      )
    )
    for member, op in enumerate(ops):
      params, stats = (
        jnp.asarray(row_of(rng, op, position, collection, length))
        for collection, length in zip(("params", "batch_stats"), lengths)
      )
      got = of_group(member, params, stats, x)
      single = jax.jit(
        lambda *args, op=op: pull(alone(op, position, train), cotangent, *args)
      )
      want = single(params, stats, x)
      for one, other in zip(got, want):
        if len(one) == lengths[1] and not train:
          one = np.nan_to_num(one)  # Statistics that nobody changed.
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)
      own = bank.layout(op, position, "params").length
      assert_array_equal(got[2][own:], 0.0)


def alone(op, position, train):
  """The operation's own module, on rows."""
  module = make(op, position, name=None, **dict(OPTIONS))
  layouts = {c: bank.layout(op, position, c) for c in ("params", "batch_stats")}

  def run(params, stats, x):
    variables = {
      "params": layouts["params"].unpack(params),
      "batch_stats": layouts["batch_stats"].unpack(stats),
    }
    y, new = module.apply(variables, x, train, mutable=["batch_stats"])
    return y, layouts["batch_stats"].pack(new["batch_stats"], len(stats))

  return run


@pytest.mark.parametrize("ops", [WIDER, MBCONVS])
def test_a_map_that_is_too_large_is_divided_further(monkeypatch, ops):
  position = edge_of(ops)
  rng = np.random.default_rng(0)
  length = bank.Bank("any", (position,), position).length
  params, stats = (
    np.nan_to_num(row_of(rng, ops[-1], position, name, length(name)))
    for name in ("params", "batch_stats")
  )
  found = []
  with jax.enable_x64(True):
    x = jnp.asarray(rng.standard_normal((2, 7, 7, 3)))
    cotangent = jnp.asarray(rng.standard_normal((2, 4, 4, 4)))
    # Bytes of four channels in float64, hence three; and of less than one.
    for largest in (1 << 27, 4 * 2 * 7 * 7 * 8, 1):
      monkeypatch.setattr(parts, "LARGEST", largest)
      bottleneck.bottleneck_run.cache_clear()
      (group,) = kernel_groups(ops, position, OPTIONS, True)
      run = functools.partial(group.run, len(ops) - 1)
      found.append(pull(run, cotangent, params, stats, x))
  bottleneck.bottleneck_run.cache_clear()
  for other in found[1:]:
    for one, same in zip(found[0], other):
      assert_allclose(same, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ops", [MBCONVS, WIDER, SEPARABLE])
def test_a_run_that_is_given_its_moments_is_the_same(ops):
  position = edge_of(ops)
  rng = np.random.default_rng(0)
  length = bank.Bank("any", (position,), position).length
  params, stats = (
    row_of(rng, ops[1], position, name, length(name)).astype(np.float32)
    for name in ("params", "batch_stats")
  )
  x = rng.standard_normal((2, 7, 7, 3)).astype(np.float32)
  (group,) = kernel_groups(ops, position, OPTIONS, True)
  y, new, moments, kept = group.run(1, params, stats, x)
  again = group.run(1, params, stats, x, moments, kept)
  for one, other in zip((y, new, moments), again):
    assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  # They are taken for the batch's: others give another output.
  other, *_ = group.run(1, params, stats, x, moments + 1.0)
  assert not np.allclose(y, other, atol=1e-2)
