"""StableHLO: a network as a portable program of XLA, by `jax.export`.

Any later JAX runs it on a CPU, a GPU or a TPU, without this package:

    network = jax.export.deserialize(open(path, "rb").read())
    logits = network.call(images)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from proxyless_jax.exchange.normalisation import Normalisation, as_function
from proxyless_jax.space import Network

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(
  network: Network,
  variables: Mapping[str, Any],
  *,
  batch: int | None = None,
  normalisation: Normalisation | None = None,
  platforms: tuple[str, ...] = PLATFORMS,
) -> export.Exported:
  """An architecture with its weights as an exported function.

  Args:
    network: an architecture.
    variables: {'params', 'batch_stats'} of the network's module.
    batch: number of images at once; None for any number.
    normalisation: normalisation to begin with; None for normalised images.
    platforms: platforms to export for, by JAX's names.

  Returns:
    Function from f32[batch, h, w, c], or uint8[batch, h, w, c] where it
    normalises them itself, to f32[batch, classes]; `serialize()` gives its
    bytes.
  """
  sizes = [str(size) for size in network.image_shape]
  first = "batch" if batch is None else str(batch)
  shape = export.symbolic_shape(", ".join([first, *sizes]))
  dtype = jnp.float32 if normalisation is None else jnp.uint8
  apply = jax.jit(as_function(network, variables, normalisation))
  return export.export(apply, platforms=platforms)(
    jax.ShapeDtypeStruct(shape, dtype)
  )
