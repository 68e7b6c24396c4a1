"""Logits of files of the authors, against PyTorch reading the same file."""

import json
import zlib

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import proxyless_jax as pj
from proxyless_jax.space import network_from_json

SIZE = 16


class Reader:
  """Runs a file by PyTorch's functions, with weights made when asked for."""

  def __init__(self, data):
    import torch

    self.data, self.weights, self.torch = data, {}, torch
    self.f = torch.nn.functional

  def weight(self, name, *shape):
    key = zlib.crc32(name.encode())
    n = np.random.default_rng(key).standard_normal(shape)
    if len(shape) > 1:
      n *= np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
      n = 0.1 + 0.02 * np.abs(n)  # Small, so that epsilon shows.
    elif not name.endswith(("bias", "mean")):
      n = 1 + 0.1 * n
    else:
      n = 0.1 * n
    self.weights[name] = self.torch.tensor(n, dtype=self.torch.float32)
    return self.weights[name]

  def norm(self, x, name):
    parts = ("running_mean", "running_var", "weight", "bias")
    parts = (self.weight(f"{name}.{part}", x.shape[1]) for part in parts)
    eps = self.data["bn"]["eps"]
    return self.f.batch_norm(x, *parts, training=False, eps=eps)

  def convolve(self, x, name, outputs, kernel, stride=1, groups=1, dilation=1):
    shape = outputs, x.shape[1] // groups, kernel, kernel
    weight = self.weight(f"{name}.weight", *shape)
    padding = kernel // 2 * dilation
    return self.f.conv2d(x, weight, None, stride, padding, dilation, groups)

  def layer(self, x, layer, name):
    """Any layer of maps."""
    act = {"relu": self.f.relu, "relu6": self.f.relu6, None: lambda x: x}
    steps = {
      "bn": lambda x: self.norm(x, f"{name}.bn") if layer["use_bn"] else x,
      "act": act[layer["act_func"]],
      "weight": lambda x: self.weigh(x, layer, name),
    }
    for step in layer["ops_order"].split("_"):
      x = steps[step](x)
    return x

  def weigh(self, x, layer, name):
    if layer["name"] == "IdentityLayer":
      return x
    size = layer["kernel_size"], layer["stride"]
    if layer["name"] == "PoolingLayer":
      padding = size[0] // 2 if size[1] == 1 else 0
      if layer["pool_type"] == "max":
        return self.f.max_pool2d(x, *size, padding)
      return self.f.avg_pool2d(x, *size, padding, count_include_pad=False)
    inputs, outputs = x.shape[1], layer["out_channels"]
    if layer["name"] == "DepthConvLayer":
      more = inputs, layer["dilation"]
      x = self.convolve(x, f"{name}.depth_conv", inputs, *size, *more)
      return self.convolve(x, f"{name}.point_conv", outputs, 1)
    groups = layer["groups"]
    x = self.convolve(x, f"{name}.conv", outputs, *size, groups)
    if layer["has_shuffle"]:
      x = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return x

  def mbconv(self, x, layer, name):
    hidden = layer.get("mid_channels") or round(
      layer["expand_ratio"] * layer["in_channels"]
    )
    kernel, stride = layer["kernel_size"], layer["stride"]
    parts = [
      ("depth_conv", hidden, kernel, stride, hidden),
      ("point_linear", layer["out_channels"], 1, 1, 1),
    ]
    if layer["expand_ratio"] != 1:
      parts.insert(0, ("inverted_bottleneck", hidden, 1, 1, 1))
    for part, *sizes in parts:
      x = self.convolve(x, f"{name}.{part}.conv", *sizes)
      x = self.norm(x, f"{name}.{part}.bn")
      x = x if part == "point_linear" else self.f.relu6(x)
    return x

  def node(self, x, node, name):
    split = node["split_type"] == "split"
    parts = x.chunk(len(node["edges"]), 1) if split else [x] * 9
    total = 0.0
    for i, edge in enumerate(node["edges"]):
      inner = self.layer(parts[i], edge, f"{name}.edges.{i}")
      y = inner
      if below := node["child_nodes"][i]:
        y = self.node(y, below, f"{name}.child_nodes.{i}")
      if node["has_branch_bn"]:
        y = self.norm(y, f"{name}.branch_bns.{i}") + inner
      total = total + y
    return total

  def tree_block(self, x, block, name):
    y = self.layer(x, block["in_bottle"], f"{name}.in_bottle")
    y = self.node(y, block["cell"], f"{name}.cell")
    y = self.layer(y, block["out_bottle"], f"{name}.out_bottle")
    y = self.norm(y, f"{name}.final_bn")
    x = self.layer(x, block["shortcut"], "")
    return y + self.f.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))

  def __call__(self, images):
    x = self.torch.tensor(images.transpose(0, 3, 1, 2).copy())
    if "first_conv" in self.data:
      x = self.layer(x, self.data["first_conv"], "first_conv")
    for i, block in enumerate(self.data["blocks"]):
      name, inner = f"blocks.{i}", block.get("mobile_inverted_conv")
      for j, layer in enumerate(block.get("layers", ())):
        x = self.layer(x, layer, f"{name}.layers.{j}")
      if "cell" in block:
        x = self.tree_block(x, block, name)
      elif inner and inner["name"] != "ZeroLayer":
        y = self.mbconv(x, inner, f"{name}.mobile_inverted_conv")
        x = x + y if block["shortcut"] else y
    if mix := self.data.get("feature_mix_layer"):
      x = self.layer(x, mix, "feature_mix_layer")
    x, linear = x.mean((2, 3)), self.data["classifier"]
    shape = linear["out_features"], linear["in_features"]
    weight = self.weight("classifier.linear.weight", *shape)
    bias = self.weight("classifier.linear.bias", shape[0])
    return (x @ weight.T + bias).numpy()


def chain_file(net_config):
  network = pj.mobile_space(
    image_size=SIZE,
    classes=3,
    stem_width=8,
    first_width=4,
    widths=(8,),
    depths=(3,),
    strides=(2,),
    head_width=12,
  ).choose(["mbconv3_k5", "zero", "mbconv6_k3"])
  return net_config.of_chain(network, bn={"momentum": 0.03, "eps": 0.05})


def mcunet_file(net_config):
  data = chain_file(net_config)
  inner = data["blocks"][1]["mobile_inverted_conv"]
  inner.update(mid_channels=10, act_func="relu6", use_se=False)
  data["blocks"][3]["mobile_inverted_conv"]["expand_ratio"] = 2.25
  data.update(feature_mix_layer=None, resolution=SIZE)
  data["classifier"]["in_features"] = 8
  return data


def tree_file(net_config):
  network = pj.tree_space(
    image_size=SIZE, classes=3, stem_width=4, alpha=4, depths=(1, 1), levels=1
  ).choose(
    [
      *("dil_conv_3", "identity", "max_pool_3", "avg_pool_3"),
      *("sep_conv_3", "sep_conv_5", "sep_conv_7", "dil_conv_3"),
    ]
  )
  return net_config.of_tree(network, bn={"momentum": 0.03, "eps": 0.05})


pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


@pytest.mark.parametrize("make", [chain_file, mcunet_file, tree_file])
def test_logits_are_those_of_the_file(net_config, make):
  """Names of weights, epsilon, shuffle, and hidden channels of any number."""
  pytest.importorskip("torch")
  data = make(net_config)
  rng = np.random.default_rng(0)
  images = rng.standard_normal((2, SIZE, SIZE, 3)).astype(np.float32)
  reader = Reader(data)
  want = reader(images)
  network = network_from_json(json.dumps(data), image_size=SIZE)
  # All names and shapes, or an error that lists them.
  variables = pj.from_torch(network, reader.weights)
  back = pj.to_torch(network, variables)
  for name, tensor in reader.weights.items():
    assert (back[name] == tensor.numpy()).all()

  module = pj.build(network)
  got = jax.jit(lambda v, x: module.apply(v, x, False))(variables, images)
  # Another epsilon gives logits that are off by a tenth and more.
  scale = np.abs(want).max()
  assert_allclose(got / scale, want / scale, atol=1e-5)
