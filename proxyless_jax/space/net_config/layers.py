"""Layers of a `net.config` that both families have.

Fields that a file lacks have the defaults of the authors' code.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

from proxyless_jax.space.edge import Edge
from proxyless_jax.space.net_config.fields import Fields
from proxyless_jax.space.networks.chain import ChainBuilder

ORDERS = ("weight_bn_act", "bn_act_weight")
CONVOLUTIONS = ("ConvLayer", "DepthConvLayer")


class BatchNorms(NamedTuple):
  """Epsilon and momentum of all batch norms of a network."""

  epsilon: float
  momentum: float


def batch_norms(data: Fields, epsilon: float) -> BatchNorms:
  """The field 'bn'.

  PyTorch's momentum is the share of the new statistics, Flax's and ours that
  of the old ones.

  Args:
    data: contents of the file.
    epsilon: epsilon for a file without the field.
  """
  if data.get("bn") is None:
    return BatchNorms(epsilon, 0.9)
  fields = data.inner("bn")
  epsilon, momentum = fields.get("eps"), fields.get("momentum")
  fits = type(epsilon) is float and 0.0 < epsilon < 1.0
  fields.expect(fits, "eps", "a number between 0 and 1, such as 1e-5")
  number = type(momentum) in (int, float) and 0.0 < momentum <= 1.0
  fields.expect(number, "momentum", "a number above 0, at most 1, such as 0.1")
  fields.only("ws_eps", None)  # Of weights that are standardised.
  fields.done()
  return BatchNorms(epsilon, 1.0 - momentum)


def kind(fields: Fields, *kinds: str) -> str:
  """The kind of a layer."""
  return fields.only("name", *kinds, absent=None)


def plain(
  fields: Fields, order: str, *, norm: bool, acts: tuple[str | None, ...]
) -> str | None:
  """Reads the fields that all layers of maps have.

  Args:
    fields: fields of the layer.
    order: expected order of batch norm, activation and weights.
    norm: whether the layer should have a batch norm.
    acts: activations that it may have.

  Returns:
    The activation.
  """
  convolves = fields.get("name") in CONVOLUTIONS
  fields.only("use_bn", norm, absent=convolves)
  fields.only("dropout_rate", 0)
  alone = not norm and acts == (None,)
  orders = ORDERS if alone else (order,)
  fields.only("ops_order", *orders, absent=ORDERS[0])
  return fields.only("act_func", *acts, absent="relu" if convolves else None)


def end_of_conv(fields: Fields, dilations: tuple[int, ...] = (1,)) -> None:
  """Reads the other fields of a convolution."""
  fields.only("dilation", *dilations)
  # Over one group it changes nothing; of more, the caller has read it.
  fields.only("has_shuffle", False, True)
  fields.only("bias", False)
  fields.only("use_se", False)
  fields.done()


def unchanged(fields: Fields, features: int) -> None:
  """Reads the other fields of a layer that keeps the channels."""
  fields.channels("in_channels", features)
  fields.channels("out_channels", features)
  fields.done()


def identity(fields: Fields, features: int) -> None:
  """Reads an IdentityLayer whose kind has been read already."""
  plain(fields, ORDERS[0], norm=False, acts=(None,))
  unchanged(fields, features)


def is_identity(fields: Fields, features: int) -> bool:
  """Whether a shortcut is an identity; a ZeroLayer is no shortcut."""
  if kind(fields, "IdentityLayer", "ZeroLayer") == "IdentityLayer":
    identity(fields, features)
    return True
  fields.whole("stride", 1)
  fields.done()
  return False


def classifier(
  chain: ChainBuilder, fields: Fields, classes: int | None
) -> Edge:
  """The LinearLayer at the end.

  Args:
    chain: chain to add it to.
    fields: fields of the layer.
    classes: number of classes; None for that of the file.
  """
  kind(fields, "LinearLayer")
  fields.channels("in_features", chain.features)
  own = fields.whole("out_features")
  fields.only("bias", True)
  fields.only("use_bn", False)
  fields.only("act_func", None)
  fields.only("ops_order", *ORDERS)
  rate = fields.get("dropout_rate", 0)
  fits = type(rate) in (int, float) and 0 <= rate < 1
  fields.expect(fits, "dropout_rate", "a number of 0 or more, below 1")
  fields.done()
  if rate:
    warnings.warn(
      f"{fields.at('dropout_rate')} = {rate} is left to the training: set "
      "`train.dropout` in a config, or `build(network, dropout=...)`",
      stacklevel=2,
    )
  width = own if classes is None else classes
  return chain.add_classifier(width)
