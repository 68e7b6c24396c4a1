"""A PyTorch twin of our supernet, to measure ours beside.

Any `Chain` of MBConv, ConvBN, Zero and Classifier. All candidates have
parameters, one drawn path runs. Architecture steps find the gradients of gates
in the manner of the released search:

    full  the drawn candidate runs with gradients; in the backward pass every
          other one runs without, for <o_j(x), dL/dm>
    two   both candidates of a pair run in the forward pass, the one that is
          not drawn without gradients; autograd finds the rest

Eager PyTorch, as released; `amp` computes in bfloat16 where autocast does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import flax.traverse_util
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from proxyless_jax import space as space_lib
from proxyless_jax.nn import inherit

MOMENTUM = 0.1
# Our names of leaves, and PyTorch's.
LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
ACTIVATIONS = {"relu6": nn.ReLU6, "relu": nn.ReLU, "linear": nn.Identity}


def _conv(features_in, features_out, kernel, stride=1, groups=1):
  return nn.Conv2d(
    features_in,
    features_out,
    kernel,
    stride,
    kernel // 2,
    groups=groups,
    bias=False,
  )


def _norm(features, op):
  return nn.BatchNorm2d(features, op.epsilon, MOMENTUM)


class ConvBN(nn.Module):
  """Convolution, batch norm, activation."""

  def __init__(self, op: space_lib.ConvBN, edge: space_lib.Edge):
    super().__init__()
    sizes = edge.features_in, edge.features_out, op.kernel, edge.stride
    self.conv, self.bn = _conv(*sizes), _norm(edge.features_out, op)
    self.activation = _activation(op.activation)

  def forward(self, x):
    return self.activation(self.bn(self.conv(x)))


class MBConv(nn.Module):
  """1x1 expansion, kxk depthwise, 1x1 projection."""

  def __init__(self, op: space_lib.MBConv, edge: space_lib.Edge):
    super().__init__()
    hidden = op.hidden(edge)
    self.expand = None
    if op.expands:
      self.expand = _conv(edge.features_in, hidden, 1)
      self.expand_bn = _norm(hidden, op)
    self.depthwise = _conv(hidden, hidden, op.kernel, edge.stride, hidden)
    self.depthwise_bn = _norm(hidden, op)
    self.project = _conv(hidden, edge.features_out, 1)
    self.project_bn = _norm(edge.features_out, op)
    self.activation = _activation(op.activation)

  def forward(self, x):
    if self.expand is not None:
      x = self.activation(self.expand_bn(self.expand(x)))
    x = self.activation(self.depthwise_bn(self.depthwise(x)))
    return self.project_bn(self.project(x))


class Zero(nn.Module):
  """Zeros; only on edges that keep the shape."""

  def __init__(self, op, edge):
    super().__init__()
    del op, edge

  def forward(self, x):
    return torch.zeros_like(x)


class Classifier(nn.Linear):
  """Average pooling, then a linear layer."""

  def __init__(self, op, edge: space_lib.Edge):
    del op
    super().__init__(edge.features_in, edge.features_out)

  def forward(self, x):
    return super().forward(x.mean((2, 3)))


MODULES = {
  space_lib.ConvBN: ConvBN,
  space_lib.MBConv: MBConv,
  space_lib.Zero: Zero,
  space_lib.Classifier: Classifier,
}


def _activation(name: str) -> nn.Module:
  return nn.Identity() if name == "linear" else ACTIVATIONS[name](inplace=True)


class MixedEdge(nn.Module):
  """All candidates of an edge, of which the drawn one runs.

  Attributes:
    index: index of the drawn candidate.
    involved: candidates whose gates get a gradient; none in a weight step.
    gate: f[k], one-hot at `index`, where gates want gradients.
  """

  def __init__(self, edge: space_lib.Edge, autocast):
    super().__init__()
    modules = [MODULES[type(op)](op, edge) for op in edge.ops]
    self.candidates = nn.ModuleList(modules)
    self.shortcut, self.autocast = edge.shortcut, autocast
    self.index, self.involved, self.gate = 0, (), None

  def forward(self, x):
    y = self._mixed(x)
    return x + y if self.shortcut else y

  def _mixed(self, x):
    if self.gate is None:
      return self.candidates[self.index](x)
    if len(self.involved) == len(self.candidates):
      return _Full.apply(x, self.gate, self)
    y = 0.0
    for j in self.involved:
      with contextlib.nullcontext() if j == self.index else torch.no_grad():
        own = self.candidates[j](x)
      y = y + self.gate[j] * own
    return y


class _Full(torch.autograd.Function):
  """The drawn candidate's output, with gradients for all gates."""

  @staticmethod
  def forward(ctx, x, gate, edge):
    del gate
    ctx.edge, ctx.x = edge, x.detach().requires_grad_()
    with torch.enable_grad():
      ctx.y = edge.candidates[edge.index](ctx.x)
    return ctx.y.detach()

  @staticmethod
  def backward(ctx, dy):
    (dx,) = torch.autograd.grad(ctx.y, ctx.x, dy)
    edge, products = ctx.edge, []
    # A backward pass does not remember that the forward one was autocast.
    with torch.no_grad(), edge.autocast():
      for j, candidate in enumerate(edge.candidates):
        y = ctx.y if j == edge.index else candidate(ctx.x)
        products.append(torch.sum(y * dy))
    return dx, torch.stack(products).float(), None


class Twin:
  """A supernet, or a plain network, with its optimizers and its steps."""

  def __init__(
    self,
    network: space_lib.Chain,
    device: str = "cpu",
    *,
    channels_last: bool,
    amp: bool = False,
  ):
    """Builds it with weights of PyTorch's own initialisers.

    Args:
      network: a space or an architecture.
      device: device of PyTorch.
      channels_last: the layout of maps.
      amp: whether to compute in bfloat16, by autocast.
    """
    self.layout = (
      torch.channels_last if channels_last else torch.contiguous_format
    )
    self.device, self.amp = torch.device(device), amp
    layers = [
      (edge.name, MixedEdge(edge, self.autocast)) for edge in network.layers
    ]
    self.module = nn.ModuleDict(layers)
    self.module.to(self.device, memory_format=self.layout).train()
    self.mixed = [self.module[edge.name] for edge in network.edges]
    counts = [len(edge.ops) for edge in network.edges]
    self.arch = [
      nn.Parameter(torch.zeros(count, device=self.device)) for count in counts
    ]
    self.sgd = torch.optim.SGD(
      self.module.parameters(), 0.01, 0.9, weight_decay=4e-5, nesterov=True
    )
    self.adam = torch.optim.Adam(self.arch, 1e-3, (0.0, 0.999))

  def autocast(self):
    """The context of a forward pass."""
    return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

  def inputs(self, images, labels):
    """NumPy's f[b, h, w, c] and i[b] on the device, in the layout."""
    images = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    images = images.to(self.device).contiguous(memory_format=self.layout)
    return images, torch.from_numpy(np.array(labels)).long().to(self.device)

  def draw(self, index: Sequence[int], involved=None):
    """Sets the path, and the candidates whose gates get gradients."""
    pairs = involved or [()] * len(self.mixed)
    for edge, drawn, own in zip(self.mixed, index, pairs):
      edge.index, edge.involved, edge.gate = drawn, tuple(own), None
      if own:
        gate = F.one_hot(torch.tensor(drawn), len(edge.candidates)).float()
        edge.gate = gate.to(self.device).requires_grad_()

  def logits(self, images):
    """f[b, classes] of the drawn path."""
    with self.autocast():
      for layer in self.module.values():
        images = layer(images)
    return images

  def loss(self, images, labels, label_smoothing: float = 0.1):
    """Mean cross-entropy of the drawn path."""
    logits = self.logits(images).float()
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)

  def weight_step(self, images, labels, index=()):
    """Trains the weights of one path. Of an architecture: `index` is ()."""
    self.draw(index)
    self.sgd.zero_grad(set_to_none=True)
    self.loss(images, labels).backward()
    self.sgd.step()

  def arch_gradients(self, images, labels, index, involved):
    """Fills the gradients of `arch`, straight through the drawn gates.

    Args:
      images, labels: results of `inputs`.
      index: the drawn candidate of each edge.
      involved: candidates of each edge that take part: all or a pair.
    """
    self.draw(index, involved)
    self.loss(images, labels).backward()
    for arch, edge in zip(self.arch, self.mixed):
      own = torch.tensor(edge.involved, device=self.device)
      probs = torch.softmax(arch.detach()[own], 0)
      products = edge.gate.grad[own]
      arch.grad = torch.zeros_like(arch)
      arch.grad[own] = probs * (products - torch.sum(probs * products))

  def arch_step(self, images, labels, index, involved):
    """Trains the architecture parameters."""
    self.module.zero_grad(set_to_none=True)
    self.arch_gradients(images, labels, index, involved)
    self.adam.step()

  @torch.no_grad()
  def copy_weights(self, space: space_lib.Chain, variables: dict):
    """Takes over all candidates' variables of our module of the space."""
    most = max((len(edge.ops) for edge in space.edges), default=1)
    for j in range(most):
      names = [min(j, len(edge.ops) - 1) for edge in space.edges]
      network = space.choose(names)
      ours = inherit(space, variables, network)
      for edge, whole in zip(network.layers, space.layers):
        at = whole.index(edge.op.name)
        target = self.module[edge.name].candidates[at]
        for tree in ours.values():
          _copy(target, tree.get(edge.name, {}).get(edge.op.name, {}))


def _copy(module: nn.Module, tree: dict):
  for path, leaf in flax.traverse_util.flatten_dict(tree).items():
    *where, name = path
    if name == "depthwise":
      where, name = [name], "kernel"
    target = getattr(module.get_submodule(".".join(where)), LEAVES[name])
    leaf = np.array(leaf)
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]
    target.copy_(torch.from_numpy(leaf.transpose(axes)))
