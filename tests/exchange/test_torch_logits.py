"""Imported weights against the same networks written again in PyTorch.

The modules here follow the released checkpoints' names and wiring and know
nothing of this package. They also give the logits of `golden_cifar.json` and
`golden_mobile.json`, and tests make them again.
"""

import functools
import json
import pathlib
import zlib

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import proxyless_jax as pj
from proxyless_jax.nn import make
from proxyless_jax.nn.networks import tree as tree_lib

torch = pytest.importorskip("torch")
nn = torch.nn
functional = torch.nn.functional

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "golden_cifar.json"
GOLDEN_MOBILE = HERE / "golden_mobile.json"

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
  """PyTorch's threads wait for each other: 30 times slower on busy cores."""
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(threads)


class Conv(nn.Module):
  """A convolution under the name `conv`, batch norm before it, ReLU."""

  def __init__(self, inputs, outputs, kernel, stride=1, groups=1, relu=True):
    super().__init__()
    self.relu = relu
    self.bn = nn.BatchNorm2d(inputs)
    padding = kernel // 2
    self.conv = nn.Conv2d(
      inputs, outputs, kernel, stride, padding, groups=groups, bias=False
    )

  def forward(self, x):
    x = self.bn(x)
    return self.conv(x.relu() if self.relu else x)


class Separable(nn.Module):
  def __init__(self, width, kernel, dilation):
    super().__init__()
    self.bn = nn.BatchNorm2d(width)
    self.depth_conv = nn.Conv2d(
      width,
      width,
      kernel,
      padding=kernel // 2 * dilation,
      dilation=dilation,
      groups=width,
      bias=False,
    )
    self.point_conv = nn.Conv2d(width, width, 1, bias=False)

  def forward(self, x):
    return self.point_conv(self.depth_conv(self.bn(x).relu()))


def candidate(name, width):
  kernel = int(name[-1]) if name[-1].isdigit() else None
  if name.startswith("sep_conv"):
    return Separable(width, kernel, 1)
  if name.startswith("dil_conv"):
    return Separable(width, kernel, 2)
  if name.startswith("max_pool"):
    return nn.MaxPool2d(3, 1, 1)
  if name.startswith("avg_pool"):
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
  return nn.Identity()


class Node(nn.Module):
  """Gives its input to each of its edges, adds what their nodes give."""

  def __init__(self, edges, children):
    super().__init__()
    self.edges = nn.ModuleList(edges)
    self.child_nodes = nn.ModuleList(children)

  def forward(self, x):
    outputs = [edge(x) for edge in self.edges]
    if len(self.child_nodes):
      outputs = [child(y) for child, y in zip(self.child_nodes, outputs)]
    return sum(outputs)


class Root(nn.Module):
  """Splits its input in two halves, with a tree for each."""

  def __init__(self, width, upper, lower):
    super().__init__()
    upper = [candidate(name, width) for name in upper]
    lower = [candidate(name, width) for name in lower]
    nodes = []
    for half in range(2):
      leaves = [Node(lower[i : i + 2], []) for i in (4 * half, 4 * half + 2)]
      nodes.append(Node(upper[2 * half : 2 * half + 2], leaves))
    self.child_nodes = nn.ModuleList(nodes)
    self.branch_bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

  def forward(self, x):
    halves = x.chunk(2, 1)
    outputs = []
    for half, node, bn in zip(halves, self.child_nodes, self.branch_bns):
      outputs.append(bn(node(half)) + half)
    return sum(outputs)


class Cell(nn.Module):
  """A convolution in two groups, then a channel from each group in turn."""

  def __init__(self, width, stride, upper, lower):
    super().__init__()
    self.edges = nn.ModuleList([Conv(width, 2 * width, 3, stride, 2)])
    self.child_nodes = nn.ModuleList([Root(width, upper, lower)])

  def forward(self, x):
    first, second = self.edges[0](x).chunk(2, 1)
    x = torch.stack([first, second], 2).flatten(1, 2)
    return self.child_nodes[0](x)


class Block(nn.Module):
  def __init__(self, inputs, width, stride, upper, lower):
    super().__init__()
    self.stride = stride
    self.in_bottle = Conv(inputs, width, 1, relu=False)
    self.cell = Cell(width, stride, upper, lower)
    self.out_bottle = Conv(width, 4 * width, 1)
    self.final_bn = nn.BatchNorm2d(4 * width)

  def forward(self, x):
    y = self.final_bn(self.out_bottle(self.cell(self.in_bottle(x))))
    if self.stride == 2:
      x = functional.avg_pool2d(x, 2)
    lacking = y.shape[1] - x.shape[1]
    return y + functional.pad(x, (0, 0, 0, 0, 0, lacking))


class End(nn.Module):
  """Stem or end: an attribute `layers`, whose elements run in order."""

  def __init__(self, layers):
    super().__init__()
    self.layers = nn.ModuleList(layers)

  def forward(self, x):
    for layer in self.layers:
      x = layer(x)
    return x


class Holder(nn.Module):
  """One module under a name of its own."""

  def __init__(self, relu=False, **module):
    super().__init__()
    ((self.held, module),) = module.items()
    self.relu = relu
    self.add_module(self.held, module)

  def forward(self, x):
    x = getattr(self, self.held)(x)
    return x.relu() if self.relu else x


class TreeNet(nn.Module):
  """From (width, stride, upper level, lower level) of each block."""

  def __init__(self, blocks):
    super().__init__()
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    stem = End([Holder(conv=stem), Holder(bn=nn.BatchNorm2d(16))])
    inputs, modules = 16, [stem]
    for width, *block in blocks:
      modules.append(Block(inputs, width, *block))
      inputs = 4 * width
    end = Holder(bn=nn.BatchNorm2d(inputs), relu=True)
    self.blocks = nn.ModuleList([*modules, End([end])])
    self.classifier = Holder(linear=nn.Linear(inputs, 10))

  def forward(self, x):
    for block in self.blocks:
      x = block(x)
    return self.classifier(x.mean((2, 3)))


def conv_bn(inputs, outputs, kernel, stride=1, groups=1, relu=True):
  padding = kernel // 2
  layers = {
    "conv": nn.Conv2d(
      inputs, outputs, kernel, stride, padding, groups=groups, bias=False
    ),
    "bn": nn.BatchNorm2d(outputs, eps=1e-3),
  }
  if relu:
    layers["relu"] = nn.ReLU6()
  sequence = nn.Sequential()
  for name, layer in layers.items():
    sequence.add_module(name, layer)
  return sequence


class MBConv(nn.Module):
  def __init__(self, inputs, outputs, kernel, expand, stride):
    super().__init__()
    hidden = expand * inputs
    self.expand = expand
    if expand > 1:
      self.inverted_bottleneck = conv_bn(inputs, hidden, 1)
    self.depth_conv = conv_bn(hidden, hidden, kernel, stride, hidden)
    self.point_linear = conv_bn(hidden, outputs, 1, relu=False)

  def forward(self, x):
    if self.expand > 1:
      x = self.inverted_bottleneck(x)
    return self.point_linear(self.depth_conv(x))


class MobileBlock(nn.Module):
  """One MBConv, or nothing but the shortcut."""

  def __init__(self, mbconv, shortcut):
    super().__init__()
    self.shortcut = shortcut
    self.dropped = mbconv is None
    if mbconv is not None:
      self.mobile_inverted_conv = mbconv

  def forward(self, x):
    if self.dropped:
      return x
    y = self.mobile_inverted_conv(x)
    return x + y if self.shortcut else y


class MobileNet(nn.Module):
  """From (features in and out, kernel, expand, stride, shortcut) of each block.

  None for a dropped one.
  """

  def __init__(self, stem, blocks, head, classes):
    super().__init__()
    self.first_conv = conv_bn(3, stem, 3, 2)
    modules, width = [], stem
    for block in blocks:
      if block is None:
        modules.append(MobileBlock(None, True))
        continue
      *mbconv, shortcut = block
      modules.append(MobileBlock(MBConv(*mbconv), shortcut))
      width = block[1]
    self.blocks = nn.ModuleList(modules)
    self.feature_mix_layer = conv_bn(width, head, 1)
    self.classifier = Holder(linear=nn.Linear(head, classes))

  def forward(self, x):
    x = self.first_conv(x)
    for block in self.blocks:
      x = block(x)
    return self.classifier(self.feature_mix_layer(x).mean((2, 3)))


def mobile(image_size):
  return pj.mobile_space(
    image_size=image_size,
    classes=10,
    stem_width=16,
    first_width=8,
    widths=(16, 24),
    depths=(3, 1),
    strides=(2, 2),
    head_width=32,
  ).choose(["mbconv3_k5", "zero", "mbconv6_k7", "mbconv6_k3"])


def set_weights(module, convs=1.0):
  """By the rule of the golden files; a generator for each name.

  Convolutions are scaled by `convs`: else the logits of 54 blocks pass all
  float32.
  """
  state = {}
  for name, old in module.state_dict().items():
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(
      tuple(old.shape)
    )
    if name.endswith("running_mean"):
      n = 0.1 * n
    elif name.endswith("running_var"):
      n = 1 + 0.1 * np.abs(n)
    elif n.ndim == 1:
      n = 1 + 0.1 * n if name.endswith("weight") else 0.1 * n
    elif n.ndim == 4:
      n = convs * n * np.sqrt(2 / np.prod(n.shape[1:]))
    elif n.ndim == 2:
      n = 0.03 * n
    if n.ndim:
      state[name] = torch.from_numpy(np.asarray(n, np.float32))
  missing, extra = module.load_state_dict(state, strict=False)
  assert not extra
  assert all(name.endswith("num_batches_tracked") for name in missing)
  return module.eval()


def images(size=32, seed=0):
  sides = size if isinstance(size, tuple) else (size, size)
  draw = np.random.default_rng(seed).standard_normal((2, 3, *sides))
  return draw.astype(np.float32)


def logits_of(module, size=32):
  with torch.no_grad():
    return module(torch.from_numpy(images(size))).numpy()


def our_logits(network, state_dict):
  variables = pj.from_torch(network, state_dict)
  module = pj.build(network)
  run = jax.jit(lambda v, x: module.apply(v, x, train=False))
  return run(variables, images(network.image_size).transpose(0, 2, 3, 1))


def tree_net(network):
  """The PyTorch module of one of our networks, from plain data."""
  return TreeNet(
    [
      (
        block.conv.features_in,
        block.conv.stride,
        [edge.op.name for edge in block.edges[:4]],
        [edge.op.name for edge in block.edges[4:]],
      )
      for block in network.blocks
    ]
  )


def mobile_net(network):
  """As `tree_net`, of a chain."""
  stem, *blocks, head, classifier = network.layers
  described = [
    None
    if edge.op.name == "zero"
    else (
      *(edge.features_in, edge.features_out, edge.op.kernel),
      *(edge.op.expand, edge.stride, edge.shortcut),
    )
    for edge in blocks
  ]
  widths = stem.features_out, head.features_out
  return MobileNet(widths[0], described, widths[1], classifier.features_out)


@pytest.mark.parametrize("size", [32, (20, 36)])
def test_a_mobile_chain_gives_the_logits_of_pytorch(size):
  blocks = [
    (16, 8, 3, 1, 1, False),
    (8, 16, 5, 3, 2, False),
    None,
    (16, 16, 7, 6, 1, True),
    (16, 24, 3, 6, 2, False),
  ]
  module = set_weights(MobileNet(16, blocks, 32, 10))
  ours = our_logits(mobile(size), module.state_dict())
  assert_allclose(ours, logits_of(module, size), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cpu", "gpu", "mobile_14"])
def test_released_chains_give_the_logits_of_pytorch(name):
  """Of small images; `mobile` at its full size is in `test_torch.py`."""
  network = pj.zoo(f"proxyless_{name}", image_size=32)
  module = set_weights(mobile_net(network))
  ours = our_logits(network, module.state_dict())
  theirs = logits_of(module)
  assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("size", [32, (8, 14)])
def test_a_tree_with_every_candidate_gives_the_logits_of_pytorch(size):
  space = pj.tree_space(image_size=size, alpha=12, depths=(1, 1))
  names = [op.name for op in space.edges[0].ops]
  network = space.choose([names[3 * i % 7] for i in range(24)])
  module = set_weights(tree_net(network), convs=0.4)
  ours = our_logits(network, module.state_dict())
  theirs = logits_of(module, size)
  assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_the_golden_logits_of_proxyless_mobile_are_those_of_pytorch():
  golden = json.loads(GOLDEN_MOBILE.read_text())
  logits = logits_of(set_weights(mobile_net(pj.zoo("proxyless_mobile"))), 224)
  assert_allclose(logits[:, :8], golden["logits_first8"], rtol=0, atol=1e-4)
  assert_allclose(np.abs(logits).mean(1), golden["abs_mean"], rtol=1e-5)
  assert logits.argmax(1).tolist() == golden["argmax"]


def as_golden(module):
  """The module, and the images, of `golden_cifar.json`."""
  module = set_weights(module, convs=0.4).double()
  return module, torch.from_numpy(images(seed=1)).double()


def test_the_golden_logits_of_two_blocks_a_stage_are_those_of_pytorch():
  golden = json.loads(GOLDEN.read_text())["two_blocks_a_stage"]["logits"]
  released = pj.zoo("proxyless_cifar")
  space = pj.tree_space(depths=(2, 2, 2))
  network = space.choose([edge.op.name for edge in released.edges[:72]])
  module, inputs = as_golden(tree_net(network))
  with torch.no_grad():
    assert_allclose(module(inputs), golden, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def released():
  """What each block of the released network gives, and its state dict."""
  module, x = as_golden(tree_net(pj.zoo("proxyless_cifar")))
  outputs = []
  with torch.no_grad():
    for block in module.blocks:
      x = block(x)
      outputs.append(x.numpy())
    logits = module.classifier(x.mean((2, 3))).numpy()
  return outputs, logits, module.state_dict()


def test_pytorch_gives_the_golden_logits_and_block_outputs(released):
  golden = json.loads(GOLDEN.read_text())["proxyless_cifar"]
  outputs, logits, _ = released
  wrong = []
  for name, expected in golden["block_outputs"].items():
    output = outputs[int(name.removeprefix("blocks."))]
    means = np.abs(output).mean(), expected["abs_mean"]
    first = output[0, 0, 0, :4], expected["first_image_channel_0_row_0_first4"]
    if not (np.allclose(*means, 1e-6) and np.allclose(*first, 0, 1e-6)):
      wrong.append(name)
  assert not wrong
  expected = np.array(golden["logits"])
  assert_allclose(logits, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


# Of each stage the first block, and the last of all; the whole network, as a
# path of its space, is in `test_torch.py`.
@pytest.mark.parametrize("number", [1, 2, 19, 37, 54])
def test_a_released_block_gives_what_it_does_in_pytorch(released, number):
  outputs, _, state_dict = released
  network = pj.zoo("proxyless_cifar")
  variables = pj.from_torch(network, state_dict)
  block = network.blocks[number - 1]

  def edge(edge, x):
    module = make(edge.op, edge, name=None, bn_momentum=0.9, dropout=0.0)
    at = {
      name: tree.get(edge.name, {}).get(edge.op.name, {})
      for name, tree in variables.items()
    }
    return module.apply(at, x, train=False)

  trees = functools.partial(tree_lib._run_trees, block, edge)
  run = jax.jit(functools.partial(tree_lib._run_block, block, edge, trees))
  x, expected = (
    outputs[i].transpose(0, 2, 3, 1).astype(np.float32)
    for i in (number - 1, number)
  )
  assert_allclose(run(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
