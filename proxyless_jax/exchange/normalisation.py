"""Normalisation: how uint8 images become the input of a network.

    image = (pixel / 255 - mean) / std

Exports have it inside where asked. Resizing is not part of it: that of the
data (Pillow's, with antialiasing) has no equal in ONNX, StableHLO or LiteRT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.nn import build
from proxyless_jax.space import Network


class Normalisation(NamedTuple):
  """The normalisation of pixels.

  Attributes:
    mean: mean of each channel, for pixels scaled to 0..1.
    std: standard deviation of each channel, for pixels scaled to 0..1.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]

  @property
  def scale(self) -> np.ndarray:
    """f64[c], the factor of pixels in 0..255."""
    return 1 / (255 * np.asarray(self.std, np.float64))

  @property
  def bias(self) -> np.ndarray:
    """f64[c], what is added after the factor."""
    std = np.asarray(self.std, np.float64)
    return -np.asarray(self.mean, np.float64) / std

  def normalise(self, pixels: np.ndarray) -> np.ndarray:
    """Images f32[b, h, w, c] of pixels uint8[b, h, w, c]."""
    return (pixels * self.scale + self.bias).astype(np.float32)

  def pixels(self, images: np.ndarray) -> np.ndarray:
    """The pixels uint8[b, h, w, c] of images f32[b, h, w, c]."""
    return np.rint((images - self.bias) / self.scale).astype(np.uint8)


def as_function(
  network: Network,
  variables: Mapping[str, Any],
  normalisation: Normalisation | None = None,
) -> Callable[[jax.Array], jax.Array]:
  """A network with its weights as a function from images to logits.

  Args:
    network: an architecture.
    variables: {'params', 'batch_stats'} of its module.
    normalisation: normalisation to begin with; None for normalised images.

  Returns:
    Function from uint8[b, h, w, c] with `normalisation`, else from
    f32[b, h, w, c], to f32[b, classes].
  """
  module = build(network)

  def apply(images: jax.Array) -> jax.Array:
    if normalisation is not None:
      images = images.astype(jnp.float32) * np.float32(normalisation.scale)
      images = images + np.float32(normalisation.bias)
    logits: Any = module.apply(variables, images, train=False)
    return logits

  return apply
