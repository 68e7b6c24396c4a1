"""A draw, terms and optimizers of your own, checked before any compute.

They run on shapes alone (`jax.eval_shape`): a mistake has an error that names
it, instead of one from within a step that runs after the warm-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from proxyless_jax.nas.gates import Gates
from proxyless_jax.nas.transforms import drawn_only

_DRAW = "expected a function (key, arch, valid, mode) -> nas.gates.Gates"
_TERM = "expected a function from the probabilities f[e, k] to a number f[]"
_TX = "expected an Optax transform, such as optax.adamw(1e-3)"


def check_draw(draw: Any, valid: jax.Array | np.ndarray, mode: str) -> None:
  """Checks a function that draws gates.

  Args:
    draw: value of the argument `draw`.
    valid: bool[e, k], the candidates that exist.
    mode: `full` or `two`.

  Raises:
    ValueError: it is not a function, fails, or gives no gates of these edges.
  """
  edges = valid.shape[:1]
  key, arch = jax.random.key(0), jnp.zeros(valid.shape, jnp.float32)
  _check_callable("draw", draw, _DRAW)
  gates = _shapes(
    "draw", _DRAW, lambda key, arch: draw(key, arch, valid, mode), key, arch
  )
  if not isinstance(gates, Gates):
    raise ValueError(f"draw gives {_described(gates)}: {_DRAW}")
  expected = {
    "index": (jnp.integer, "int32", edges),
    "gate": (jnp.floating, "float32", valid.shape),
    "involved": (jnp.bool_, "bool", valid.shape),
    "probs": (jnp.floating, "float32", valid.shape),
  }
  for field, (kind, name, shape) in expected.items():
    if not _is(value := getattr(gates, field), kind, shape):
      raise ValueError(
        f"draw gives {field} = {_described(value)}: expected "
        f"{name}{list(shape)}, see nas.gates.Gates"
      )


def check_terms(terms: Any, valid: jax.Array | np.ndarray) -> None:
  """Checks further terms of the objective.

  Args:
    terms: value of the argument `terms`.
    valid: bool[e, k], the candidates that exist.

  Raises:
    ValueError: not a list of functions, or one that fails or gives no number.
  """
  if not isinstance(terms, list | tuple):
    raise ValueError(
      f"terms = {terms!r}: expected a list or tuple of functions, such as "
      "terms=[my_term]"
    )
  for i, term in enumerate(terms):
    _check_callable(f"terms[{i}]", term, _TERM)
    probs = jnp.zeros(valid.shape, jnp.float32)
    value = _shapes(f"terms[{i}]", _TERM, term, probs)
    if not _is(value, jnp.number, ()):
      raise ValueError(f"terms[{i}] gives {_described(value)}: {_TERM}")


def check_optimizer(name: str, tx: Any, params: Any) -> None:
  """Checks an optimizer.

  Args:
    name: name of the argument, `tx` or `arch_tx`.
    tx: its value.
    params: what it is to train; arrays, or their shapes.

  Raises:
    ValueError: not an Optax transform, or not one that `transforms.drawn_only`
      can apply to a path.
  """
  if not all(callable(getattr(tx, part, None)) for part in ("init", "update")):
    raise ValueError(f"{name} = {tx!r}: {_TX}; names are for configs")

  def first_update(params):
    only = drawn_only(tx)
    updates, _ = only.update(params, only.init(params), params, drawn=True)
    return optax.apply_updates(params, updates)

  _shapes(name, _TX, first_update, params)


def _check_callable(name: str, value: Any, expected: str) -> None:
  if not callable(value):
    raise ValueError(f"{name} = {value!r}: {expected}")


def _shapes(
  name: str, expected: str, function: Callable[..., Any], *arrays: Any
) -> Any:
  """The result of a function of arrays, as shapes."""
  try:
    return jax.eval_shape(function, *arrays)
  # It is the user's code: anything may come out of it.
  except Exception as error:
    problem, *_ = f"{type(error).__name__}: {error}".splitlines()
    raise ValueError(f"{name}: {problem}: {expected}") from error


def _is(value: Any, kind: Any, shape: tuple[int, ...]) -> bool:
  """Whether a value is an array of a shape and kind of numbers."""
  return (
    isinstance(value, jax.ShapeDtypeStruct)
    and value.shape == shape
    and jnp.issubdtype(value.dtype, kind)
  )


def _described(value: Any) -> str:
  if isinstance(value, jax.ShapeDtypeStruct):
    return f"{value.dtype}{list(value.shape)}"
  return f"a {type(value).__name__}"
