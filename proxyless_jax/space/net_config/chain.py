"""'ProxylessNASNets': the ImageNet networks, and MCUNet's."""

from __future__ import annotations

import math
from fractions import Fraction

from proxyless_jax.space.edge import Edge, Size
from proxyless_jax.space.net_config.fields import Fields
from proxyless_jax.space.net_config.layers import (
  ORDERS,
  batch_norms,
  classifier,
  end_of_conv,
  is_identity,
  kind,
  plain,
)
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.mobile import ConvBN, MBConv, Zero

ORDER = ORDERS[0]
IMAGE_SIZE = 224


def proxyless_nas_nets(
  data: Fields,
  *,
  image_size: Size | None,
  channels: int | None,
  classes: int | None,
) -> Chain:
  """The chain: see `network_from_net_config`; edges are named as in the zoo.

  MCUNet's files have the size of the images, as 'resolution', and no
  'feature_mix_layer'.
  """
  # Of a file without 'bn': the default of the search's and MCUNet's code. (That
  # which loads the released files has PyTorch's 1e-5; all of them say 1e-3.)
  norms = batch_norms(data, epsilon=1e-3)
  resolution = data.whole("resolution", IMAGE_SIZE)
  first = data.inner("first_conv")
  chain = ChainBuilder(
    first.channels("in_channels") if channels is None else channels,
    resolution if image_size is None else image_size,
  )
  stem = _conv_bn(chain, "stem", first, norms.epsilon)
  blocks = [
    _block(chain, f"block{i:02d}", fields, norms.epsilon)
    for i, fields in enumerate(data.inner_list("blocks"))
  ]
  after = []
  if head := data.inner_or_none("feature_mix_layer"):
    head.channels("in_channels", chain.features)
    after.append(_conv_bn(chain, "head", head, norms.epsilon))
  after.append(classifier(chain, data.inner("classifier"), classes))
  data.done()
  # The first block is the one that a search leaves alone.
  before, edges = (stem, *blocks[:1]), tuple(blocks[1:])
  return Chain(before, edges, tuple(after), norms.momentum)


def _conv_bn(
  chain: ChainBuilder, name: str, fields: Fields, epsilon: float
) -> Edge:
  """A ConvLayer; the caller has read the channels of its input."""
  fields.get("in_channels")
  kind(fields, "ConvLayer")
  activation = plain(fields, ORDER, norm=True, acts=("relu6", "relu", None))
  fields.only("groups", 1)
  kernel, stride = fields.odd("kernel_size", 3), fields.whole("stride", 1)
  width = fields.channels("out_channels")
  end_of_conv(fields)
  op = ConvBN(kernel, activation or "linear", epsilon)
  return chain.add(name, (op,), width, stride)


def _block(
  chain: ChainBuilder, name: str, fields: Fields, epsilon: float
) -> Edge:
  kind(fields, "MobileInvertedResidualBlock")
  shortcut = fields.inner_or_none("shortcut")
  added = shortcut is not None and is_identity(shortcut, chain.features)
  conv = fields.inner_or_none("mobile_inverted_conv")
  fields.done()
  if conv and kind(conv, "MBInvertedConvLayer", "ZeroLayer") != "ZeroLayer":
    conv.channels("in_channels", chain.features)
    width, stride = conv.channels("out_channels"), conv.whole("stride", 1)
    op = _mbconv(conv, chain.features, epsilon)
    return chain.add(name, (op,), width, stride, added)
  if conv:
    conv.only("stride", 1)
    conv.done()
  # Their code gives the input then, whatever the shortcut is.
  return chain.add(name, (Zero(),), chain.features, shortcut=True)


def _mbconv(fields: Fields, features_in: int, epsilon: float) -> MBConv:
  expand, kernel = _expand(fields, features_in), fields.odd("kernel_size", 3)
  activation = fields.only("act_func", "relu6", "relu")
  fields.only("use_se", False)
  fields.only("groups", None, 1)
  fields.done()
  return MBConv(expand, kernel, activation=activation, epsilon=epsilon)


def _expand(fields: Fields, features_in: int) -> int | Fraction:
  """Hidden channels over those of the input."""
  ratio, hidden = fields.get("expand_ratio", 6), fields.get("mid_channels")
  number = type(ratio) in (int, float) and 1 <= ratio < math.inf
  fields.expect(number, "expand_ratio", "a number of 1 or more")
  if hidden is None:
    hidden = round(features_in * ratio)
  positive = type(hidden) is int and hidden > 0
  fields.expect(positive, "mid_channels", "null or a positive integer")
  if (ratio == 1) != (hidden == features_in):
    # In their code the ratio alone says whether there is an expansion.
    raise ValueError(
      f"{fields.at('expand_ratio')} = {ratio} with {hidden} hidden channels "
      f"for the {features_in} of the input: expected as many for a ratio of 1, "
      "and others for any other"
    )
  expand = Fraction(hidden, features_in)
  return expand if expand.denominator > 1 else int(expand)
