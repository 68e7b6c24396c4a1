"""Mixed edges: all candidates have parameters, one drawn path is in memory.

    m(x) = sum_j gate_j * o_j(x),   gate one-hot at `index`

(Cai, Zhu, Han, ICLR 2019, section 3.2.) Forward runs the drawn candidate
alone, and saves its input and nothing else. Backward runs it again, and gives
dx, the gradient of its weights (zeros for the others), and, where the gate
wants a gradient,

    dL/dgate_j = <o_j(x), dL/dm>

for each involved candidate j, one after the other, so that memory stays that
of one path. What wants a gradient is read off the call: a weight step compiles
no gate gradients, an architecture step no weight gradients.

Two things keep programs small, for a supernet compiles some hundred candidates.
Consecutive edges that are alike run under one `lax.scan`, so their candidates
are compiled once. And their parameters are one array, a bank f[n, k, length]:
row [i, j] holds candidate j of edge i, so drawing a path, its gradient and its
optimizer step are array operations, not a program line per kernel.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# (params f[length], stats f[length'], x) -> (o_j(x), new stats f[length'])
Candidate = Callable[
  [jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]
]


class EdgeGates(NamedTuple):
  """What n alike edges need to know of a draw.

  Attributes:
    index: i32[n], the drawn candidates.
    gate: f[n, k], one-hot at `index`; carries the straight-through gradient.
    involved: bool[n, k], the candidates whose gates get a gradient.
  """

  index: jax.Array
  gate: jax.Array
  involved: jax.Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
  """Which gradients the caller of the backward pass will use."""

  params: bool
  gate: bool


def mixed_edges(
  candidates: Sequence[Candidate],
  params: jax.Array,
  stats: jax.Array,
  x: jax.Array,
  gates: EdgeGates,
  *,
  shortcut: bool,
) -> tuple[jax.Array, jax.Array]:
  """Runs the drawn candidates of n consecutive edges that are alike.

  Args:
    candidates: k functions (params, stats, x) -> (y, new stats), all with the
      same shape of y; params and stats are rows of the banks.
    params: f[n, k, length], the bank of parameters.
    stats: f[n, k, length'], the bank of batch-norm statistics.
    x: f[b, h, w, c], input of the first edge.
    gates: of these edges.
    shortcut: whether each edge adds its input to its output.

  Returns:
    Output of the last edge, and the bank of statistics, of which only the
    drawn rows have changed.
  """
  static = (tuple(candidates), shortcut)
  y, new = _run(static, params, stats, x, *gates)
  return y, _put_drawn(gates.index, new, stats)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(static, params, stats, x, index, gate, involved):
  """The last edge's y, and the drawn candidates' new statistics f[n, .]."""
  del gate, involved
  return _scan_forward(static, params, stats, x, index)[0]


def _scan_forward(static, params, stats, x, index):
  candidates, shortcut = static

  def edge(x, drawn):
    y, new = lax.switch(drawn[0], candidates, *drawn[1:], x)
    return (x + y if shortcut else y), (x, new)

  drawn = (index, _get_drawn(index, params), _get_drawn(index, stats))
  y, (inputs, new) = _scan(edge, x, drawn)
  return (y, new), (inputs, *drawn)


def _forward(static, params, stats, x, index, gate, involved):
  wanted = _Wanted(params=params.perturbed, gate=gate.perturbed)
  params, stats = params.value, stats.value
  out, saved = _scan_forward(static, params, stats, x.value, index.value)
  return out, (saved, params, stats, involved.value, wanted)


def _backward(static, residuals, cotangents):
  candidates, shortcut = static
  saved, params, stats, involved, wanted = residuals
  dy = cotangents[0]
  if not isinstance(dy, jax.Array):
    dy = jnp.zeros(dy.aval.shape, dy.aval.dtype)

  def branch(candidate, x, p, s, dy):
    """(dx, d params, <o_j(x), dy>) along the drawn candidate."""
    if wanted.params:
      y, pull = jax.vjp(lambda x, p: candidate(p, s, x)[0], x, p)
      dx, dp = pull(dy)
    else:
      y, pull = jax.vjp(lambda x: candidate(p, s, x)[0], x)
      (dx,), dp = pull(dy), None
    return dx, dp, _inner(y, dy) if wanted.gate else None

  branches = [functools.partial(branch, c) for c in candidates]

  def edge(dy, inputs):
    (x, index, p, s), candidate_params, candidate_stats, involved = inputs
    dx, dp, own = lax.switch(index, branches, x, p, s, dy)
    dgate = None
    if wanted.gate:
      dgate = [
        _gate_gradient(c, involved[j], index == j, own, (p, s, x, dy))
        for j, (c, p, s) in enumerate(
          zip(candidates, candidate_params, candidate_stats)
        )
      ]
      dgate = jnp.stack(dgate)
    return (dx + dy if shortcut else dx), (dp, dgate)

  banks = (params, stats) if wanted.gate else (None, None)
  dx, (dp, dgate) = _scan(edge, dy, (saved, *banks, involved), reverse=True)
  dparams = None
  if wanted.params:
    dparams = _put_drawn(saved[1], dp, jnp.zeros_like(params))
  return dparams, None, dx, None, dgate, None


def _gate_gradient(candidate, involved, drawn, own, inputs) -> jax.Array:
  """<o_j(x), dy> of an involved candidate, else zero: f[].

  Each is a condition of its own, so only one o_j is in memory at a time; that
  of the drawn one, `own`, is known already.
  """

  def run(p, s, x, dy):
    return _inner(candidate(p, s, x)[0], dy)

  def skip(p, s, x, dy):
    del p, s, x, dy
    return jnp.where(involved & drawn, own, 0.0)

  return lax.cond(involved & ~drawn, run, skip, *inputs)


_run.defvjp(_forward, _backward, symbolic_zeros=True)


def _get_drawn(index, bank):
  """The drawn rows: f[n, length]."""
  return jnp.take_along_axis(bank, index[:, None, None], axis=1)[:, 0]


def _put_drawn(index, rows, bank):
  """The bank with its drawn rows replaced: f[n, k, length]."""
  drawn = jnp.arange(bank.shape[1]) == index[:, None]
  return jnp.where(drawn[:, :, None], rows[:, None], bank)


def _inner(y: jax.Array, dy: jax.Array) -> jax.Array:
  """<y, dy> in float32 at least."""
  dtype = jnp.promote_types(y.dtype, jnp.float32)
  return jnp.sum(y.astype(dtype) * dy.astype(dtype))


def _scan(body, carry, xs, reverse: bool = False):
  """`lax.scan`, without a loop where there is one element."""
  if len(jax.tree.leaves(xs)[0]) > 1:
    return lax.scan(body, carry, xs, reverse=reverse)
  carry, ys = body(carry, jax.tree.map(lambda leaf: leaf[0], xs))
  return carry, jax.tree.map(lambda leaf: leaf[None], ys)
