"""Networks of cells against a plain evaluation; drop path; dtypes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn import build, init
from proxyless_jax.space import (
  AvgPool,
  Cell,
  CellConv,
  CellNetwork,
  Classifier,
  Edge,
  Path,
)
from proxyless_jax.space.networks.genotype import Genotype, Style, cell_network

GENOTYPE = Genotype(
  normal="""
    sep_3:0  skip:1
    avg_3:2  max_3:1
  """,
  normal_outputs=(0, 3),
  reduction="""
    max_2:1  skip:0
    dil_3:2  conv_3:1
  """,
  reduction_outputs=(2, 3),
)
EPSILON = 1e-4
NETWORK = cell_network(
  GENOTYPE,
  Style(epsilon=EPSILON, strided_skip="reduce"),
  (9, 2, 3),
  cells=1,
  filters=4,
  stem_filters=6,
)
IMAGES = np.random.default_rng(0).standard_normal((4, 9, 9, 2))


def cut(network, cells):
  """The first cells alone, with a classifier for what they give."""
  like = network.cells[cells].inputs[1].edges[0]
  classifier = dataclasses.replace(
    like, name="classifier", ops=(Classifier(),), features_out=3
  )
  return dataclasses.replace(
    network, cells=network.cells[:cells], after=(classifier,)
  )


class Evaluation:
  """NETWORK in NumPy, wired by hand."""

  def __init__(self, plain, variables, train):
    self.plain, self.variables, self.train = plain, variables, train

  def norm(self, name, y):
    p, s = (
      next(iter(self.variables[collection][name].values()))["bn"]
      for collection in ("params", "batch_stats")
    )
    return self.plain.norm(y, p, s, self.train, EPSILON)

  def params(self, name):
    return next(iter(self.variables["params"][name].values()))

  def conv(self, name, x, stride=1, relu=True):
    x = self.plain.relu(x) if relu else x
    kernel = self.params(name)["conv"]["kernel"]
    return self.norm(name, self.plain.conv(x, kernel, stride))

  def sep(self, name, x, dilation=1):
    p, x = self.params(name), self.plain.relu(x)
    k, c = len(p["depthwise"]), x.shape[-1]
    # A dense kernel with the taps where the dilation puts them.
    dense = np.zeros((dilation * (k - 1) + 1,) * 2 + (c, c))
    for i, j, channel in np.ndindex(k, k, c):
      tap = p["depthwise"][i, j, 0, channel]
      dense[i * dilation, j * dilation, channel, channel] = tap
    y = self.plain.conv(self.plain.conv(x, dense), p["pointwise"]["kernel"])
    return self.norm(name, y)

  def reduce(self, name, x, relu):
    p, x = self.params(name), self.plain.relu(x) if relu else x
    shifted = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
    halves = [
      self.plain.conv(x, p["even"]["kernel"], 2),
      self.plain.conv(shifted, p["odd"]["kernel"], 2),
    ]
    return self.norm(name, np.concatenate(halves, axis=-1))

  def pool(self, x, of_window, reach=(-1, 2), stride=1):
    size = -(-x.shape[1] // stride)
    y = np.zeros((len(x), size, size, x.shape[-1]))
    for i, j in np.ndindex(size, size):
      rows, cols = (
        slice(max(stride * n + reach[0], 0), stride * n + reach[1])
        for n in (i, j)
      )
      y[:, i, j] = of_window(x[:, rows, cols], axis=(1, 2))
    return y

  def normal(self, cell, x0, x1, output=None):
    y = self.sep(f"{cell}_node0_0_1", self.sep(f"{cell}_node0_0_0", x0)) + x1
    z = self.pool(y, np.mean) + self.pool(x1, np.max)
    return np.concatenate([x0 if output is None else output, z], axis=-1)

  def reduction(self, cell, x0, x1):
    y = self.pool(x1, np.max, (0, 2), 2)
    y = y + self.reduce(f"{cell}_node0_1", x0, relu=False)
    z = self.conv(f"{cell}_node1_1_0", x1)
    z = self.conv(f"{cell}_node1_1_1", z, 2)
    z = self.conv(f"{cell}_node1_1_2", z)
    z = z + self.sep(f"{cell}_node1_0", y, dilation=2)
    return np.concatenate([y, z], axis=-1)

  def logits(self, images):
    stem = self.conv("stem", images, relu=False)
    last = self.conv("cell0_last", stem)
    projected = self.conv("cell0_output0", stem, relu=False)
    first = self.normal("cell0", stem, last, projected)
    x0, x1 = self.conv("cell1_older", stem), self.conv("cell1_last", first)
    second = self.reduction("cell1", x0, x1)
    x0 = self.reduce("cell2_older", first, relu=True)
    third = self.normal("cell2", x0, self.conv("cell2_last", second))
    # 16 channels at the same size: taken as they are.
    fourth = self.reduction("cell3", second, self.conv("cell3_last", third))
    x0 = self.reduce("cell4_older", third, relu=True)
    fifth = self.normal("cell4", x0, self.conv("cell4_last", fourth))
    p = self.params("classifier")
    return self.plain.relu(fifth).mean((1, 2)) @ p["kernel"] + p["bias"]


@pytest.mark.parametrize("train", [True, False])
def test_logits_are_those_of_a_plain_evaluation(plain, train):
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda leaf: (
      np.asarray(leaf, np.float64) + rng.uniform(0.0, 0.3, leaf.shape)
    ),
    init(build(NETWORK), jax.random.key(0)),
  )
  want = Evaluation(plain, variables, train).logits(IMAGES)
  with jax.enable_x64(True):
    module = build(NETWORK, dtype=jnp.float64)

    @jax.jit
    def run(variables, images):
      return module.apply(
        variables, images, train=train, mutable=["batch_stats"]
      )[0]

    got = run(variables, jnp.asarray(IMAGES))
  assert got.dtype == np.float64
  assert_allclose(got, want, rtol=1e-8, atol=1e-9)


def pooled_and_identity():
  """One cell with one node: an average pool beside an identity."""
  stem = Edge("stem", (CellConv(1, relu=False),), 2, 3, 1, 5)
  pool = Edge("pool", (AvgPool(3),), 3, 3, 1, 5)
  node = (Path(0, ()), Path(1, (pool,)))
  cell = Cell((Path(0, ()), Path(1, ())), (node,), (Path(2, ()),))
  classifier = Edge("classifier", (Classifier(),), 3, 4, 1, 5)
  return CellNetwork((stem,), (cell,), (classifier,))


def test_drop_path_keeps_the_mean_and_the_identities():
  network, rate = pooled_and_identity(), 0.25
  module = build(network)
  variables = init(module, jax.random.key(0))
  images = IMAGES[:, :5, :5].astype(np.float32)

  def run(key, rate, train=True):
    rngs = {"dropout": key}
    return module.apply(
      variables,
      images,
      train,
      drop_rate=rate,
      rngs=rngs,
      mutable=["batch_stats"],
    )[0]

  keys = jax.random.split(jax.random.key(1), 2000)
  draws = np.asarray(jax.vmap(lambda key: run(key, rate))(keys))
  whole, identity = run(keys[0], None), run(keys[0], 0.999999)
  path = np.asarray(whole - identity)
  # Of each example by itself, the path is there in its scale, or it is not.
  there = np.abs(draws - identity).max(-1) > 1e-4
  assert abs(there.mean() - (1 - rate)) < 0.02
  assert np.any(there[:, 0] != there[:, 1])
  scaled = np.asarray(identity) + there[..., None] * path / (1 - rate)
  assert_allclose(draws, scaled, atol=1e-4)
  assert_array_equal(run(keys[0], rate, False), run(keys[1], None, False))


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_is_of_activations_alone(train):
  network = cut(NETWORK, 2)
  variables = init(build(network), jax.random.key(0))
  results = []
  for dtype in (jnp.float32, jnp.bfloat16):
    apply = functools.partial(
      build(network, dtype=dtype).apply, train=train, mutable=["batch_stats"]
    )
    logits, new = jax.jit(apply)(variables, IMAGES.astype("f"))
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {np.dtype("f")}
    results.append(logits)
  one, other = results
  assert_allclose(one, other, atol=0.1 * np.abs(one).max())
  assert np.abs(one - other).max() > 0.0


def test_gradients_are_finite_and_reach_everything():
  network = cut(NETWORK, 2)
  module = build(network, dropout=0.5)
  variables = init(module, jax.random.key(0))

  @jax.jit
  def gradient(params, key):
    def loss(params):
      logits, _ = module.apply(
        {**variables, "params": params},
        IMAGES.astype("f"),
        train=True,
        drop_rate=0.2,
        rngs={"dropout": key},
        mutable=["batch_stats"],
      )
      return jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    return jax.grad(loss)(params)

  # Of one draw some paths are missing.
  draws = [gradient(variables["params"], jax.random.key(i)) for i in range(4)]
  for leaves in zip(*map(jax.tree.leaves, draws)):
    assert np.all(np.isfinite(leaves)) and np.any(np.array(leaves) != 0.0)


def test_images_of_another_shape_are_refused():
  module = build(NETWORK)
  with pytest.raises(ValueError, match=r"expected \[b, 9, 9, 2\]"):
    module.apply({}, jnp.zeros((1, 8, 8, 2)), train=False)
