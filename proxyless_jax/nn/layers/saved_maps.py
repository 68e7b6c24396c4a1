"""Feature maps that a forward pass saves for its backward pass.

A supernet runs a drawn candidate again where it needs its gradients, so that
only the candidate's input stays in memory. What `save_map` gets can be saved
instead (`build(space, recompute=False)`): then the second run takes it from the
first one, and the layer that made it does not run again.
"""

from __future__ import annotations

import flax.linen as nn
import jax

# Collection in which a forward pass stores maps, where it is mutable.
MAPS = "maps"
# Collection in which a module that runs again for its backward pass finds them.
REUSED_MAPS = "reused_maps"


def save_map(module: nn.Module, name: str, y: jax.Array) -> jax.Array:
  """Saves what is expensive to compute again; for use in a module's call.

  Args:
    module: module that is being called.
    name: name of the map, each once in a call.
    y: output of a layer that is not cheap, such as a convolution. Not of batch
      norm, an activation or a sum, which are run again from their inputs.

  Returns:
    y; in a second run that is given the map, the map itself, and a gradient
    with respect to it is one with respect to y.

  Raises:
    ValueError: the call saves two maps of one name.
  """
  if module.has_variable(REUSED_MAPS, name):
    return _instead_of(y, module.get_variable(REUSED_MAPS, name))
  if module.has_variable(MAPS, name):
    raise ValueError(
      f"map {name!r} of {type(module).__name__} is saved twice in a call: "
      "expected another name for each"
    )
  if not module.is_initializing():
    module.sow(MAPS, name, y, reduce_fn=lambda _, new: new)
  return y


@jax.custom_vjp
def _instead_of(y: jax.Array, known: jax.Array) -> jax.Array:
  """`known`, with the gradient of y. XLA drops the code that makes y."""
  del y
  return known


def _forward(y, known):
  del y
  return known, None


def _backward(residuals, dy):
  del residuals
  return dy, None


_instead_of.defvjp(_forward, _backward)
