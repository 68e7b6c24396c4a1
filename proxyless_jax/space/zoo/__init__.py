"""Published networks by name: ProxylessNAS's own, and the baselines.

Each is a function of the images' size, channels and classes, with the published
ones as defaults; some have other options, such as a width multiplier.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
from collections.abc import Callable
from typing import Any

from proxyless_jax.space.checks import expect
from proxyless_jax.space.networks.network import Network
from proxyless_jax.space.suggest import did_you_mean
from proxyless_jax.space.zoo import (
  cells,
  dense,
  mobile,
  path_level,
  proxyless,
  proxyless_cifar,
  pyramid,
  resnet,
  shake,
  shuffle,
)

NETWORKS: dict[str, Callable[..., Network]] = {
  "proxyless_cpu": functools.partial(proxyless.imagenet, proxyless.CPU),
  "proxyless_gpu": functools.partial(proxyless.imagenet, proxyless.GPU),
  "proxyless_mobile": functools.partial(proxyless.imagenet, proxyless.MOBILE),
  "proxyless_mobile_14": functools.partial(
    proxyless.imagenet, proxyless.MOBILE_14
  ),
  "proxyless_cifar": proxyless_cifar.cifar,
  "mobilenet_v2": mobile.mobilenet_v2,
  "mnasnet_a1": functools.partial(mobile.mnasnet, mobile.MNASNET_A1),
  "mnasnet_b1": functools.partial(mobile.mnasnet, mobile.MNASNET_B1),
  "shufflenet_v2": shuffle.shufflenet_v2,
  "shufflenet_v2_15": functools.partial(shuffle.shufflenet_v2, width_mult=1.5),
  "resnet_18": functools.partial(resnet.resnet, resnet.DEPTHS_18),
  "resnet_34": functools.partial(resnet.resnet, resnet.DEPTHS_34),
  "densenet_bc": dense.densenet_bc,
  "pyramidnet_272": pyramid.pyramidnet,
  "shake_shake": shake.shake_shake,
  "nasnet_a_mobile": cells.nasnet_a_mobile,
  "nasnet_a_cifar": cells.nasnet_a_cifar,
  "amoebanet_b": cells.amoebanet_b,
  "enas": cells.enas,
  "darts": cells.darts,
  "path_level_eas": path_level.path_level_eas,
}


def list_networks(pattern: str = "*") -> list[str]:
  """The names of the published networks, in alphabetical order.

  Args:
    pattern: filter with the wildcards `*`, `?` and `[...]`; a text without any
      matches every name that contains it.

  >>> list_networks("resnet*"), list_networks("cifar")
  (['resnet_18', 'resnet_34'], ['nasnet_a_cifar', 'proxyless_cifar'])
  """
  expect(
    isinstance(pattern, str), "pattern", pattern, "a text such as 'resnet*'"
  )
  if not set(pattern) & set("*?["):
    pattern = f"*{pattern}*"
  return sorted(fnmatch.filter(NETWORKS, pattern))


def zoo(name: str, **options: Any) -> Network:
  """A published network.

  Args:
    name: one of `list_networks()`.
    **options: image_size (an integer, or (height, width)), channels, classes:
      of the data, where they differ from those of the publication; and other
      options of the network, such as width_mult of 'mobilenet_v2'.

  Raises:
    ValueError: there is no such network, or it has no such option.
  """
  if not isinstance(name, str) or name not in NETWORKS:
    names = ", ".join(list_networks())
    meant = did_you_mean(name, NETWORKS) or f": expected one of {names}"
    raise ValueError(
      f"name = {name!r}: no published network (docs/networks.md){meant}"
    )
  network = NETWORKS[name]
  known = [
    parameter.name
    for parameter in inspect.signature(network).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY
  ]
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(
      f"zoo({name!r}): unknown options {unknown}; known: {known}"
      f"{did_you_mean(unknown[0], known)}"
    )
  return network(**options)
