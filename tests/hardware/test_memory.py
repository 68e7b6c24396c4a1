"""Peak memory: by hand, by enumeration, and beside XLA's own analysis."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.hardware.memory import alive, beside, peak_elements
from proxyless_jax.nn import build, init
from proxyless_jax.space import (
  Classifier,
  ConvBN,
  Edge,
  Identity,
  MaxPool,
  MBConv,
  Norm,
  NormConv,
  NormSepConv,
  Op,
  PlainConv,
  Zero,
  tree_space,
)
from tests.spaces import small_space

TINY = small_space(
  image_size=12,
  channels=1,
  classes=4,
  widths=(8, 16),
  depths=(2, 2),
  strides=(1, 2),
  candidates=("mbconv1_k3", "mbconv3_k5", "mbconv6_k3", "zero"),
  head_width=32,
)


@pytest.mark.parametrize(
  "op, edge, elements",
  [
    # The input and the expanded tensor, while the expansion runs.
    (MBConv(6, 3), dict(stride=5), 100 * 8 + 100 * 48),
    # The expanded tensor before and after the depthwise convolution.
    (MBConv(6, 3), dict(), 2 * 100 * 48),
    # And what the shortcut keeps.
    (MBConv(6, 5), dict(shortcut=True), 2 * 100 * 48 + 100 * 8),
    # Wide outputs, while the projection runs.
    (MBConv(1, 3), dict(features_out=64), 100 * 8 + 100 * 64),
    (MBConv(1, 3), dict(shortcut=True), 3 * 100 * 8),
    (
      MBConv(1, 3, squeeze=1),
      dict(size=1, features_out=4),
      8 + 8 + 8,
    ),
    (ConvBN(3), dict(stride=2, features_out=32), 100 * 8 + 25 * 32),
    (ConvBN(3), dict(stride=2, size=(9, 20)), 180 * 8 + 50 * 8),
    (MBConv(6, 3), dict(stride=2, size=(9, 20)), 180 * 48 + 50 * 48),
    (NormSepConv(5), dict(stride=2, size=(9, 20)), 180 * 8 + 50 * 8),
    (ConvBN(3), dict(shortcut=True), 2 * 100 * 8),
    (MaxPool(3), dict(stride=2), 100 * 8 + 25 * 8),
    (Classifier(), dict(features_out=10), 100 * 8 + 8),
    (Classifier(), dict(size=1, features_out=1000), 8 + 1000),
    (Zero(), dict(shortcut=True), 100 * 8),
    (Identity(), dict(), 100 * 8),
    (Norm(True), dict(), 100 * 8),
    (PlainConv(3), dict(features_out=16), 100 * 8 + 100 * 16),
    (NormConv(3), dict(stride=2), 100 * 8 + 25 * 8),
    # The map before and after the 1x1 convolution.
    (NormSepConv(5), dict(features_out=16), 100 * 8 + 100 * 16),
    (NormSepConv(5), dict(stride=2), 100 * 8 + 25 * 8),
  ],
)
def test_what_is_alive_at_once(op, edge, elements):
  shape = dict(features_in=8, features_out=8, stride=1, size=10) | edge
  assert peak_elements(op, Edge("a", (op,), **shape)) == elements


def test_the_table_of_a_network_is_the_largest_of_its_edges():
  table = cost_table("memory", TINY)
  assert (table.unit, table.combine) == ("bytes", "max")
  peaks = []
  for path in itertools.product(*(range(len(e.ops)) for e in TINY.edges)):
    network = TINY.choose(path)
    peak = 4 * max(peak_elements(edge.op, edge) for edge in network.layers)
    assert table.exact(network) == peak
    assert table.of_path(jnp.array(path)) == peak
    peaks.append(peak)
  assert (table.min_cost, table.max_cost) == (min(peaks), max(peaks))
  paths = np.array(
    list(itertools.product(*(range(len(e.ops)) for e in TINY.edges)))
  )
  np.testing.assert_array_equal(table.of_path(paths), peaks)


def test_tensors_beside_the_edges_of_a_tree():
  """One tree: both edges of a node, then what is below them, added up."""
  space = tree_space(
    image_size=4,
    stem_width=8,
    alpha=0,
    depths=(1,),
    halves=1,
    expand=2,
    candidates=("sep_conv_3", "identity"),
  )
  around = beside(space)
  one = 4 * 4 * 8
  # The block's input is there until the end; a node until it was read twice.
  alive_beside = {
    "in": (0, True),
    "conv": (1, False),
    "edge0_0": (1, True),
    # The input is added after the tree too.
    "edge0_1": (2, True),
    "edge0_0_0": (3, True),
    "edge0_0_1": (4, False),
    "edge0_1_0": (3, True),
    "edge0_1_1": (3, False),
    "norm0": (2, False),
    "out": (1, False),
    "final_norm": (1, False),
  }
  assert around == {
    f"block01_{name}": (count * one, keeps)
    for name, (count, keeps) in alive_beside.items()
  }
  table = cost_table("memory", space)
  # Beside four maps: what the edge reads, and what either convolution writes.
  assert table.costs[3, 0] == 4 * (4 + 2) * one
  assert table.costs[3, 1] == 4 * (4 + 1) * one


def test_other_types_of_activations():
  half = cost_table("memory:bfloat16", TINY)
  full = cost_table("memory", TINY)
  np.testing.assert_array_equal(2 * half.costs, full.costs)
  assert cost_table("memory:int8", TINY).max_cost == full.max_cost / 4
  for name in ("huge", "object", "", "str", "i4,i4"):
    with pytest.raises(ValueError, match=f"'memory:{name}': expected a type"):
      cost_table(f"memory:{name}", TINY)


@pytest.mark.parametrize("seed", range(5))
def test_the_expected_maximum_is_that_over_all_architectures(seed):
  table = cost_table("memory", TINY)
  random = np.random.default_rng(seed)
  logits = random.normal(size=table.valid.shape) * 3
  paths = np.array(
    list(itertools.product(*(range(len(e.ops)) for e in TINY.edges)))
  )
  peaks = np.maximum(table.costs[range(4), paths].max(axis=1), table.fixed)
  with jax.enable_x64(True):

    def by_enumeration(logits):
      probs = jax.nn.softmax(jnp.where(table.valid, logits, -jnp.inf))
      return probs[np.arange(4), paths].prod(axis=1) @ peaks

    def exact(logits):
      probs = jax.nn.softmax(jnp.where(table.valid, logits, -jnp.inf))
      return table.expected(probs)

    logits = jnp.asarray(logits)
    want = jax.value_and_grad(by_enumeration)(logits)
    got = jax.value_and_grad(exact)(logits)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-13)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-9, atol=1e-9)
    one_hot = jax.nn.one_hot(jnp.array([1, 3, 0, 2]), 4, dtype=jnp.float64)
    network = TINY.choose([1, 3, 0, 2])
    assert table.expected(one_hot) == table.exact(network)
    # Also where the probability of some outcomes is exactly zero.
    assert np.isfinite(jax.grad(table.expected)(one_hot)).all()
  probs = jnp.full(table.valid.shape, 0.25)
  assert table.expected(probs).dtype == jnp.float32


def test_an_operation_without_a_memory_is_refused():
  class Own(Op):
    name = "own"

    def parameters(self, edge):
      return 0

    def macs(self, edge):
      return 0

  edge = Edge("a", (Own(),), 8, 8, 1, 4)
  with pytest.raises(
    ValueError, match=r"edge 'a'.*'own' is not known.*alive\.r"
  ):
    peak_elements(Own(), edge)
  alive.register(Own, lambda op, edge: [(True, 7)])
  assert peak_elements(Own(), edge) == 4 * 4 * 8 + 7


# Widths, strides and expansions that differ, so that the ranks mean something.
SHAPES = [
  dict(widths=(8,), depths=(1,), strides=(2,), op="mbconv1_k3"),
  dict(widths=(8,), depths=(2,), strides=(1,), op="mbconv1_k3"),
  dict(widths=(16,), depths=(2,), strides=(2,), op="mbconv3_k3"),
  dict(widths=(16,), depths=(2,), strides=(1,), op="mbconv3_k3"),
  dict(widths=(24,), depths=(2,), strides=(1,), op="mbconv3_k5"),
  dict(widths=(24,), depths=(2,), strides=(1,), op="mbconv6_k3"),
  dict(widths=(40,), depths=(2,), strides=(1,), op="mbconv6_k3"),
]


def test_ranks_agree_with_those_of_xla():
  """XLA fuses batch norm and activations, and also keeps copies of its own."""
  own, xla = [], []
  for shape in SHAPES:
    shape = dict(shape)
    op = shape.pop("op")
    network = small_space(
      **shape,
      image_size=32,
      channels=3,
      classes=10,
      head_width=32,
      candidates=(op,),
    )
    module = build(network)
    variables = init(module, jax.random.key(0))
    images = jnp.zeros((1, 32, 32, 3))
    compiled = jax.jit(module.apply, static_argnames="train").lower(
      variables, images, train=False
    )
    analysis = compiled.compile().memory_analysis()
    own.append(cost_table("memory", network).max_cost)
    xla.append(analysis.temp_size_in_bytes)
  print(own, xla)
  ranks = [np.argsort(np.argsort(values)) for values in (own, xla)]
  assert np.corrcoef(*ranks)[0, 1] >= 0.9
