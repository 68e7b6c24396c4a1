"""A switch whose backward pass recomputes, and saves its operands alone.

Autodiff of `lax.switch` saves the residuals of every branch, with zeros for the
branches that are not taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def switch(
  branches: tuple[Callable, ...], index: jax.Array, *operands: jax.Array
) -> jax.Array:
  """`lax.switch(index, branches, *operands)`, differentiable in `operands`.

  Args:
    branches: functions of the operands, hashable, with outputs of one shape.
    index: i32[].
    operands: arrays, or pytrees of them.
  """
  return lax.switch(index, branches, *operands)


def _forward(branches, index, *operands):
  return switch(branches, index, *operands), (index, operands)


def _backward(branches, saved, cotangent):
  index, operands = saved

  def pull_back(
    branch: Callable, cotangent: jax.Array, *operands: jax.Array
  ) -> tuple[jax.Array, ...]:
    return jax.vjp(branch, *operands)[1](cotangent)

  pulls = [functools.partial(pull_back, branch) for branch in branches]
  return None, *lax.switch(index, pulls, cotangent, *operands)


switch.defvjp(_forward, _backward)
