"""Optax transforms for the drawn path.

Two transforms hold the method (Cai et al., ICLR 2019, sections 3.2.1 and
3.2.2), and either serves any other project that trains part of a tree:

- `drawn_only`: a weight step changes the drawn path and nothing else,
      θ, s ← T(θ, s, ∂L/∂θ) on the path;   θ, s ← θ, s off it.
- `keep_pair_probability`: a two-path step moves probability within the pair,
      α_i ← α_i + u_i + log(Σ_pair exp α / Σ_pair exp(α + u)),   i in the pair,
  so that softmax(α) outside the pair stays as it is.

Both take which entries take part as an extra argument of `update`, which
`optax.chain` hands on.

`update_drawn` is `drawn_only` for parameters in banks f[n, k, length] of n
edges and k candidates, at the cost of the drawn path instead of the supernet:

      rows = bank[i, index_i];  rows, s ← T(rows, s, ∂L/∂rows);  put them back.

The same bit for bit, but for the order of sums over all parameters, as in a
global norm.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from proxyless_jax.nn.supernet.rows import get_rows, put_rows


def drawn_only(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Applies `inner` on the drawn path and leaves all else as it was.

  `update(updates, state, params, *, drawn, **extra)`: `drawn` is a tree prefix
  of the parameters with bool leaves, scalars or arrays that broadcast to the
  parameters under them; plain `True` draws the whole tree. Off the path:

  - gradients are zeros before `inner` sees them, so a global norm is the
    path's, and a NaN there does no harm;
  - per-parameter state (momentum, second moments, accumulated gradients) keeps
    its bits and its dtype, whatever `inner` would have made of it;
  - updates are -0.0, because 0.0 would turn a parameter of -0.0 into 0.0. (XLA
    on CPU flushes subnormal numbers, in `optax.apply_updates` too.)

  Global state advances at every step: the count of a schedule, and Adam's
  count, which corrects every parameter's bias as if all had moved every time.
  `optax.MultiSteps` in here wants one path for all steps that it accumulates.

  State is recognised as by `optax.tree_map_params`: in `inner.init` it must
  have the parameters' structure, one leaf or `optax.MaskedNode` for each, and
  labels of `optax.partition` must be a tree, or made by a tree map. State in
  another form cannot be recognised: `optax.flatten` is an error, and arrays
  that a transform lays out in its own way count as global.

  Raises:
    ValueError: in `update`, where `drawn` is not such a prefix, or where the
      state of `inner` does not follow the parameters.

  Example:
    >>> params = {"a": jnp.array(1.0), "b": jnp.array(2.0)}
    >>> tx = drawn_only(optax.sgd(0.5, momentum=0.9))
    >>> state = tx.init(params)
    >>> grads = {"a": jnp.array(1.0), "b": jnp.array(jnp.nan)}
    >>> drawn = {"a": True, "b": False}
    >>> updates, state = tx.update(grads, state, params, drawn=drawn)
    >>> print(optax.apply_updates(params, updates))
    {'a': Array(0.5, dtype=float32), 'b': Array(2., dtype=float32)}
  """
  inner = optax.with_extra_args_support(inner)

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    drawn: Any,
    **extra: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    selected = _per_leaf(drawn, updates, "drawn")
    updates = jax.tree.map(_or_negative_zero, selected, updates)
    updates, new_state = inner.update(updates, state, params, **extra)
    updates = jax.tree.map(_or_negative_zero, selected, updates)
    in_state = spread_over_state(inner, state, selected)
    return updates, jax.tree.map(_select_state, in_state, new_state, state)

  return optax.GradientTransformationExtraArgs(inner.init, update)


def update_drawn(
  tx: optax.GradientTransformation,
  grads: dict,
  opt_state: optax.OptState,
  params: dict,
  drawn: dict[str, jax.Array],
) -> tuple[dict, optax.OptState]:
  """Applies an optimizer on the drawn rows of banks.

  Args:
    tx: any transform that keeps its state as `drawn_only` asks.
    grads: gradients of `rows.get_path(params, drawn)`.
    opt_state: state of `tx.init(params)`.
    params: parameters by names; banks are f[n, k, ...].
    drawn: i32[n] by the names of banks, the drawn row of each edge. What has
      another name is updated as a whole.

  Returns:
    The new parameters and optimizer state. Rows that were not drawn keep
    their bits.

  Raises:
    ValueError: the state of `tx` does not follow the parameters.

  Example:
    >>> params = {"bank": jnp.zeros((1, 2, 3))}
    >>> tx = optax.sgd(1.0)
    >>> drawn, grads = {"bank": jnp.array([1])}, {"bank": jnp.ones((1, 1, 3))}
    >>> new, _ = update_drawn(tx, grads, tx.init(params), params, drawn)
    >>> print(new["bank"])
    [[[ 0.  0.  0.]
      [-1. -1. -1.]]]
  """

  def get(index: jax.Array | Literal[True], leaf: jax.Array) -> jax.Array:
    return leaf if index is True else get_rows(index, leaf)

  def put(
    index: jax.Array | Literal[True], rows: jax.Array, leaf: jax.Array
  ) -> jax.Array:
    return rows if index is True else put_rows(index, rows, leaf)

  index = {name: drawn.get(name, True) for name in params}
  index = jax.tree.broadcast(index, params)
  state_index = spread_over_state(tx, opt_state, index)
  rows = jax.tree.map(get, index, params)
  state_rows = jax.tree.map(get, state_index, opt_state)
  updates, new_state = tx.update(grads, state_rows, rows)
  rows = optax.apply_updates(rows, updates)
  params = jax.tree.map(put, index, rows, params)
  return params, jax.tree.map(put, state_index, new_state, opt_state)


def keep_pair_probability() -> optax.GradientTransformationExtraArgs:
  """Shifts the updates of a pair's logits so that the others' softmax stays.

  `update(updates, state, params, *, involved)`: `params` are logits
  `f[..., candidates]`, `involved` a tree prefix of them with bool leaves, True
  at the pair, or at any subset: Σ exp over it is the same after the update as
  before. Place it last in a chain, for it needs the final update. Entries
  outside the subset get the update -0.0, and keep their bits. A row that
  involves every candidate has nothing to keep and is not shifted, which is the
  full-gradient step: `involved=True`. (Where only padding is left out, the
  shift moves the whole row, which softmax does not see.)

  Raises:
    ValueError: in `update`, where `params` is missing, or `involved` is not
      such a prefix.

  Example:
    >>> logits = jnp.array([1.0, 2.0, 3.0])
    >>> pair = jnp.array([True, False, True])
    >>> adam = drawn_only(optax.adam(0.1))  # momentum outside the pair stays
    >>> tx = optax.chain(adam, keep_pair_probability())
    >>> state = tx.init(logits)
    >>> updates, state = tx.update(
    ...   jnp.array([1.0, 0.0, -1.0]), state, logits, drawn=pair, involved=pair
    ... )
    >>> after = optax.apply_updates(logits, updates)
    >>> print(jax.nn.softmax(logits).round(3), jax.nn.softmax(after).round(3))
    [0.09  0.245 0.665] [0.075 0.245 0.68 ]
  """

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    involved: Any,
    **extra: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del extra
    if params is None:
      raise ValueError("params is None, expected logits: pass them to update.")
    selected = _per_leaf(involved, updates, "involved")
    return jax.tree.map(_shift_rows, selected, updates, params), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _per_leaf(prefix: Any, tree: Any, field: str) -> Any:
  """One bool per leaf of `tree`, scalar or broadcasting, from a prefix."""
  try:
    full = jax.tree.broadcast(prefix, tree)
  except ValueError as error:
    raise ValueError(
      f"{field} is {jax.tree.structure(prefix)}, expected a tree prefix of "
      f"{jax.tree.structure(tree)}: give one bool for each leaf or sub-tree."
    ) from error

  def check(path: tuple, selected: Any, leaf: jax.Array) -> None:
    name, dtype = field + jax.tree_util.keystr(path), jnp.result_type(selected)
    if dtype != jnp.bool_:
      raise ValueError(f"{name} is {dtype}, expected bool: cast.")
    _check_shape(name, selected, leaf)

  jax.tree_util.tree_map_with_path(check, full, tree)
  return full


def _check_shape(name: str, selected: Any, leaf: jax.Array) -> None:
  shape, full = jnp.shape(selected), jnp.shape(leaf)
  if len(shape) > len(full) or any(
    m not in (1, n) for m, n in zip(shape[::-1], full[::-1])
  ):
    raise ValueError(
      f"{name} has shape {shape}, expected one that broadcasts to "
      f"{full}: give a scalar, or axes of size 1 where all entries agree."
    )


def spread_over_state(
  inner: optax.GradientTransformation, state: optax.OptState, values: Any
) -> Any:
  """`values`, one leaf per parameter, as a tree like the optimizer's state.

  Global state, such as a count, gets True: it always advances.
  """

  def masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)

  try:
    return optax.tree_utils.tree_map_params(
      inner,
      lambda leaf, value: leaf if masked(leaf) else value,
      state,
      values,
      transform_non_params=lambda _: True,
      is_leaf=masked,
    )
  except Exception as error:
    raise ValueError(
      "inner keeps state unlike the parameters, expected one leaf for each: "
      "give optax.partition labels as a tree, and leave out optax.flatten."
    ) from error


def _select_state(selected: Any, new: Any, old: Any) -> Any:
  if selected is True:
    return new
  _check_shape("drawn, for the state of inner,", selected, old)
  # In the old dtype: the old bits survive, and a donated buffer still fits.
  old = jnp.asarray(old)
  return jnp.where(selected, jnp.asarray(new, old.dtype), old)


def _shift_rows(
  selected: jax.Array, update: jax.Array, logits: jax.Array
) -> jax.Array:
  selected = jnp.broadcast_to(selected, logits.shape)
  partial = selected.any(-1, keepdims=True) & ~selected.all(-1, keepdims=True)
  # log Σ w exp u, with w = exp α / Σ exp α, is log Σ exp(α+u) - log Σ exp α
  # without the rounding of two logarithms as large as the logits.
  log_weights = jax.nn.log_softmax(logits, where=selected)
  growth = jax.nn.logsumexp(
    log_weights + update, axis=-1, keepdims=True, where=selected
  )
  update = jnp.where(partial, update - growth, update)
  return _or_negative_zero(selected, update)


def _or_negative_zero(selected: jax.Array, update: jax.Array) -> jax.Array:
  return jnp.where(selected, update, -jnp.zeros_like(update))
