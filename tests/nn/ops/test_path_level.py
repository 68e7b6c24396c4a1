"""TreeCell-A's block, wired by hand in NumPy."""

import jax
import numpy as np
import pytest

from proxyless_jax.space import Edge, TreeCellBlock, parse_op

OP = TreeCellBlock()


class Tree:
  """The block's operations on its variables, by name."""

  def __init__(self, plain, params, stats, train):
    self.plain, self.params, self.stats = plain, params, stats
    self.train = train

  def norm(self, edge, x):
    p, s = self.params[edge]["bn"], self.stats[edge]["bn"]
    return self.plain.norm(x, p, s, self.train)

  def conv(self, edge, x, stride=1, groups=1, relu=True):
    x = self.norm(edge, x)
    x = self.plain.relu(x) if relu else x
    kernel = self.params[edge]["conv"]["kernel"]
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1))
    y = [self.plain.conv(part, k, stride) for part, k in parts]
    return np.concatenate(y, axis=-1)

  def sep(self, edge, x):
    x = self.plain.relu(self.norm(edge, x))
    taps = self.params[edge]["depthwise"]
    channels = range(x.shape[-1])
    y = [self.plain.conv(x[..., [c]], taps[..., [c]]) for c in channels]
    y = np.concatenate(y, axis=-1)
    return self.plain.conv(y, self.params[edge]["pointwise"]["kernel"])

  def pool(self, x, of_window):
    y = np.zeros_like(x)
    for i, j in np.ndindex(*x.shape[1:3]):
      window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
      y[:, i, j] = of_window(window, axis=(1, 2))
    return y

  def cell(self, x, stride):
    left = self.conv("tree_0", x, stride, groups=2)
    right = self.conv("tree_1", x, stride, groups=2)
    y = self.conv("tree_0_0", left)
    half = y.shape[-1] // 2
    first = [
      self.pool(y[..., :half], np.mean),
      self.sep("tree_0_0_1", y[..., half:]),
    ]
    y = self.pool(left, np.max)
    second = (self.sep("tree_0_1_0", y) + self.sep("tree_0_1_1", y)) / 2
    left = (np.concatenate(first, axis=-1) + second) / 2
    y = self.sep("tree_1_0", right)
    first = (self.sep("tree_1_0_0", y) + 2 * self.pool(y, np.mean)) / 3
    y = self.sep("tree_1_1", right)
    second = (self.pool(y, np.mean) + self.sep("tree_1_1_1", y)) / 2
    return (left + (first + second) / 2) / 2


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("stride,size", [(1, 5), (2, 6), (2, (5, 8))])
def test_the_block_is_a_tree_beside_its_shortcut(plain, stride, size, train):
  edge = Edge("any", (OP,), 12, 16, stride, size)

  def definition(x, p, s, train):
    tree = Tree(plain, p, s, train)
    y = tree.cell(tree.conv("reduce", x, relu=False), stride)
    y = tree.norm("norm", tree.conv("widen", y))
    shortcut = plain.average(x, stride)
    return np.pad(shortcut, ((0, 0),) * 3 + ((0, 4),)) + y

  plain.check(OP, edge, definition, train)


def test_counts_are_those_of_the_module(plain):
  edge = Edge("any", (OP,), 12, 16, 1, 5)
  leaves = jax.tree.leaves(plain.variables_of(OP, edge)["params"])
  assert OP.parameters(edge) == sum(leaf.size for leaf in leaves)
  weights = sum(leaf.size for leaf in leaves if leaf.ndim == 4)
  assert OP.macs(edge) == weights * 5**2


def test_what_does_not_fit_is_refused():
  assert parse_op(OP.name) == OP
  with pytest.raises(ValueError, match="a multiple of 8, got 20"):
    Edge("e", (OP,), 16, 20, 1, 8)
  with pytest.raises(ValueError, match="has a shortcut of its own"):
    Edge("e", (OP,), 16, 16, 1, 8, shortcut=True)
