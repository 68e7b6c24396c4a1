"""The module of trees against a slow plain evaluation, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import proxyless_jax as pj
from proxyless_jax.nn.networks import tree as tree_lib

# Odd sizes, two strides, trees of three levels in all: 7, 4 and 2 pixels.
SPACE = pj.tree_space(
  image_size=7,
  channels=2,
  classes=3,
  stem_width=4,
  alpha=4,
  depths=(1, 1, 1),
  expand=2,
)
NAMES = [op.name for op in SPACE.edges[0].ops]
NETWORK = SPACE.choose([NAMES[(3 * i + i // 12) % 7] for i in range(36)])


pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


def random_variables(network):
  """Float64 variables, none of them zero or one."""
  rng = np.random.default_rng(0)
  variables = pj.init(pj.build(network), jax.random.key(0))
  return jax.tree.map(
    lambda leaf: jnp.asarray(
      leaf + 0.1 * np.abs(rng.standard_normal(leaf.shape))
    ),
    variables,
  )


def windows(x, kernel, stride, dilation, outside):
  """Of each output pixel: [b, rows, cols, kernel, kernel, c]."""
  pad = dilation * (kernel // 2)
  x = np.pad(
    x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=outside
  )
  reach = dilation * (kernel - 1) + 1
  starts = range(0, x.shape[1] - reach + 1, stride)
  taps = [
    [x[:, i : i + reach : dilation, j : j + reach : dilation] for j in starts]
    for i in starts
  ]
  return np.array(taps).transpose(2, 0, 1, 3, 4, 5)


def plain_conv(x, kernel, stride=1, dilation=1):
  """Grouped, as many groups as the kernel's inputs leave."""
  seen, features = kernel.shape[2:]
  groups = x.shape[-1] // seen
  taps = windows(x, kernel.shape[0], stride, dilation, 0.0)
  outputs = [
    np.einsum(
      "byxijc,ijco->byxo",
      taps[..., g * seen : (g + 1) * seen],
      kernel[..., g * (features // groups) : (g + 1) * (features // groups)],
    )
    for g in range(groups)
  ]
  return np.concatenate(outputs, axis=-1)


def shuffled(x, groups):
  """Output channel groups * c + g is channel c of group g."""
  y = np.empty_like(x)
  width = x.shape[-1] // groups
  for g, c in np.ndindex(groups, width):
    y[..., groups * c + g] = x[..., g * width + c]
  return y


class Plain:
  """One evaluation, edge by edge, from the variables alone."""

  def __init__(self, variables, train):
    self.params = jax.tree.map(np.asarray, variables["params"])
    self.stats = jax.tree.map(np.asarray, variables["batch_stats"])
    self.train = train

  def norm(self, at, x, relu):
    """By the batch or by the running statistics."""
    (edge, op), own = at, self.stats[at[0]][at[1]]["bn"]
    mean, var = own["mean"], own["var"]
    if self.train:
      mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    scaled = self.params[edge][op]["bn"]
    y = (x - mean) / np.sqrt(var + 1e-5) * scaled["scale"] + scaled["bias"]
    return np.maximum(y, 0.0) if relu else y

  def norm_conv(self, edge, x, relu=True):
    at = (edge.name, edge.op.name)
    kernel = self.params[at[0]][at[1]]["conv"]["kernel"]
    return plain_conv(self.norm(at, x, relu), kernel, edge.stride)

  def candidate(self, edge, x):
    name, at = edge.op.name, (edge.name, edge.op.name)
    if name == "identity":
      return x
    if name == "max_pool_3":
      return windows(x, 3, 1, 1, -np.inf).max((3, 4))
    if name == "avg_pool_3":
      return np.nanmean(windows(x, 3, 1, 1, np.nan), (3, 4))
    own = self.params[at[0]][at[1]]
    x = self.norm(at, x, relu=True)
    dilation = 2 if name.startswith("dil") else 1
    # k x k x 1 x c is a convolution in c groups.
    x = plain_conv(x, own["depthwise"], dilation=dilation)
    return plain_conv(x, own["pointwise"]["kernel"])

  def block(self, block, x):
    y = self.norm_conv(block.in_bottleneck, x, relu=False)
    y = shuffled(self.norm_conv(block.conv, y), groups=2)
    edges = {e.name.partition("_edge")[2]: e for e in block.edges}
    total = 0.0
    for half, norm in enumerate(block.branch_norms):
      width = norm.features_in
      own = y[..., half * width : (half + 1) * width]
      z = self.node(edges, str(half), own)
      total = total + self.norm((norm.name, "norm"), z, relu=False) + own
    y = self.norm_conv(block.out_bottleneck, total)
    y = self.norm((block.final_norm.name, "norm"), y, relu=False)
    if block.conv.stride == 2:
      h, w = x.shape[1:3]
      x = np.array(
        [
          [x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, w, 2)]
          for i in range(0, h, 2)
        ]
      ).transpose(2, 0, 1, 3)
    y[..., : x.shape[-1]] += x
    return y

  def node(self, edges, path, x):
    """Both edges on x, what is below them on their outputs, added."""
    outputs = []
    for i in range(2):
      below = f"{path}_{i}"
      z = self.candidate(edges[below], x)
      deeper = f"{below}_0" in edges
      outputs.append(self.node(edges, below, z) if deeper else z)
    return sum(outputs)

  def logits(self, network, images):
    kernel = self.params["stem"]["plain_conv_k3"]["conv"]["kernel"]
    x = self.norm(("stem_norm", "norm"), plain_conv(images, kernel), False)
    for block in network.blocks:
      x = self.block(block, x)
    x = self.norm(("last_norm", "norm_relu"), x, relu=True).mean((1, 2))
    last = self.params["classifier"]["classifier"]
    return x @ last["kernel"] + last["bias"]


@pytest.fixture
def problem():
  """The module, float64 variables and images."""
  with jax.enable_x64(True):
    images = np.random.default_rng(1).standard_normal((3, 7, 7, 2))
    module = pj.build(NETWORK, dtype=jnp.float64)
    yield module, random_variables(NETWORK), jnp.asarray(images)


@pytest.mark.parametrize("train", [False, True])
def test_logits_are_those_of_a_plain_evaluation(problem, train):
  module, variables, images = problem

  @jax.jit
  def run(variables, images):
    return module.apply(
      variables, images, train=train, mutable=["batch_stats"]
    )[0]

  assert {e.op.name for e in NETWORK.edges} == set(NAMES)
  expected = Plain(variables, train).logits(NETWORK, np.asarray(images))
  assert_allclose(run(variables, images), expected, rtol=1e-9, atol=1e-10)


def tiny(candidates, **options):
  sizes = dict(image_size=4, stem_width=4, alpha=0, depths=(1,), expand=2)
  return pj.tree_space(candidates=candidates, **{**sizes, **options})


def test_paths_are_dropped_in_training_alone(monkeypatch):
  dropped = []

  def record(key, y, rate):
    dropped.append((tuple(np.asarray(jax.random.key_data(key))), rate))
    return y

  monkeypatch.setattr(tree_lib, "drop_path", record)
  space = tiny(("max_pool_3", "identity"))
  module = pj.build(space.choose([0, 1, 1, 0, *[1, 0, 1, 1, 1, 1, 0, 1]]))
  variables = pj.init(module, jax.random.key(0))
  images = np.zeros((2, 4, 4, 3), np.float32)
  rngs = {"dropout": jax.random.key(1)}
  for train, rate in ((False, 0.5), (True, None), (True, 0.5)):
    module.apply(
      variables,
      images,
      train=train,
      drop_rate=rate,
      rngs=rngs,
      mutable=["batch_stats"],
    )
    # One for each edge but the identities, each with a key of its own.
    assert len(set(dropped)) == len(dropped) == (4 if train and rate else 0)
  assert {rate for _, rate in dropped} == {0.5}


def test_dropped_edges_are_dropped_for_whole_examples():
  """With one pooling edge, an example's tree gives its all, twice, or none."""
  network = tiny(("max_pool_3",), halves=1, levels=1, branches=1).choose([0])
  module = pj.build(network)
  variables = pj.init(module, jax.random.key(0))
  images = np.ones((16, 4, 4, 3), np.float32)
  _, saved = module.apply(
    variables,
    images,
    train=True,
    drop_rate=0.5,
    rngs={"dropout": jax.random.key(1)},
    mutable=["batch_stats", "intermediates"],
    capture_intermediates=lambda m, _: m.name in ("block01_edge0_0", "norm"),
  )
  own = saved["intermediates"]["block01_edge0_0"]["__call__"][0]
  # What the branch norm gives has one of two values per channel and pixel.
  seen = saved["intermediates"]["block01_norm0"]["norm"]["__call__"][0]
  assert own.shape == seen.shape
  assert len(np.unique(np.round(seen.mean((1, 2, 3)), 4))) == 2


def test_identities_alone_need_no_random_numbers():
  network = tiny(("identity",)).choose([0] * 12)
  module = pj.build(network)
  variables = pj.init(module, jax.random.key(0))
  images = np.zeros((2, 4, 4, 3), np.float32)
  module.apply(
    variables, images, train=True, drop_rate=0.5, mutable=["batch_stats"]
  )


def test_bfloat16_is_of_activations_alone():
  network = tiny(NAMES, halves=1).choose(range(6))
  variables = pj.init(pj.build(network), jax.random.key(0))
  images = np.random.default_rng(0).standard_normal((4, 4, 4, 3)).astype("f")
  one, other = (
    pj.build(network, dtype=dtype).apply(variables, images, train=False)
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  assert one.dtype == other.dtype == jnp.float32
  assert_allclose(one, other, atol=0.1 * np.abs(one).max())
  assert np.abs(one - other).max() > 0.0


def test_variables_hold_as_many_parameters_as_are_counted():
  variables = pj.init(pj.build(NETWORK), jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert count == pj.parameters(NETWORK)


def test_architectures_inherit_from_their_space():
  variables = pj.init(pj.build(SPACE), jax.random.key(0))
  mine = pj.inherit(SPACE, variables, NETWORK)
  fresh = pj.init(pj.build(NETWORK), jax.random.key(0))
  assert jax.tree.map(np.shape, mine) == jax.tree.map(np.shape, fresh)
  assert_array_equal(
    mine["params"]["stem"]["plain_conv_k3"]["conv"]["kernel"],
    variables["params"]["stem"]["plain_conv_k3"]["conv"]["kernel"],
  )


def test_macs_are_half_the_floating_point_operations():
  """XLA counts no products with padding, but batch norm and pooling."""
  space = pj.tree_space(stem_width=32, alpha=32, depths=(1, 1))
  network = space.choose(["sep_conv_3", "identity"] * 12)
  module = pj.build(network)
  variables = pj.init(module, jax.random.key(0))
  images = np.zeros((1, 32, 32, 3), np.float32)
  cost = (
    jax.jit(lambda v, x: module.apply(v, x, train=False))
    .lower(variables, images)
    .cost_analysis()
  )
  assert 0.9 < cost["flops"] / (2 * pj.macs(network)) < 1.25


def test_spaces_without_gates_and_other_images_are_refused():
  space = tiny(("identity", "max_pool_3"))
  variables = pj.init(pj.build(space), jax.random.key(0))
  images = np.zeros((1, 4, 4, 3), np.float32)
  with pytest.raises(ValueError, match=r"pass `gates` to `apply`, or choose"):
    pj.build(space).apply(variables, images, train=False)
  network = space.choose([0] * 12)
  with pytest.raises(ValueError, match=r"expected \[b, 4, 4, 3\]"):
    pj.build(network).apply(variables, images[:, :3], train=False)
