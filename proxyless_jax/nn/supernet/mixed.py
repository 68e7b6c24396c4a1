"""Mixed edges: all candidates have parameters, one drawn path is in memory.

    m(x) = sum_j gate_j * o_j(x),   gate one-hot at `index`

(Cai, Zhu, Han, ICLR 2019, section 3.2.) Forward runs the drawn candidate
alone, and saves its input and its batch-norm moments, nothing else. Backward
runs it again, and gives dx, the gradient of its weights (zeros for the others),
and, where the gate wants a gradient,

    dL/dgate_j = <o_j(x), dL/dm>

for each involved candidate j, one after the other, so that memory stays that
of one path. What wants a gradient is read off the call: a weight step compiles
no gate gradients, an architecture step no weight gradients.

Two things keep programs small, for a supernet compiles some hundred candidates.
Edges that are alike run under one `lax.scan`, so their candidates are compiled
once; how they are joined is said by a wiring
(`proxyless_jax.nn.supernet.wiring`). And their parameters are one array, a bank
f[n, k, length]: row [i, j] holds candidate j of edge i, so drawing a path, its
gradient and its optimizer step are array operations, not a program line per
kernel.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from proxyless_jax.nn.supernet.rows import get_rows, select_rows
from proxyless_jax.nn.supernet.wiring import Graph, Line


class Family(NamedTuple):
  """Candidates that are compiled together, since most of their code is one.

  Attributes:
    run: (member i32[], params f[length], stats f[length'], x, moments=None) ->
      (o_j(x), new stats f[length'], moments f[width] of the batch), where
      j = positions[member]. Where it is given the moments, it takes them for
      the batch's.
    positions: of the members among an edge's candidates.
  """

  run: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
  positions: tuple[int, ...]


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
  families: Sequence[Family],
  params: jax.Array,
  stats: jax.Array,
  x: jax.Array,
  gates: EdgeGates,
  wiring: Line | Graph,
) -> tuple[jax.Array, jax.Array]:
  """Runs the drawn candidates of n edges that are alike.

  Args:
    families: all k candidates, each in one family; all give the same shape.
    params: f[n, k, length], the bank of parameters; or f[n, 1, length], the
      drawn rows alone, where gates want no gradient.
    stats: f[n, k, length'], the bank of batch-norm statistics.
    x: what the wiring begins with: f[b, h, w, c], input of the first edge of a
      line; f[inputs, b, h, w, c] of a graph.
    gates: of these edges.
    wiring: how the edges are joined.

  Returns:
    What the wiring ends with: the output of a line's last edge, or those of a
    graph f[outputs, b, h, w, c]; and the bank of statistics, of which only
    the drawn rows have changed.
  """
  static = (tuple(families), wiring)
  y, new = _run(static, params, stats, x, *gates)
  return y, select_rows(gates.index, new[:, None], stats)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(static, params, stats, x, index, gate, involved):
  """The wiring's outputs, the drawn candidates' new statistics f[n, .]."""
  del gate, involved
  return _scan_forward(static, params, stats, x, index)[0]


def _scan_forward(static, params, stats, x, index):
  families, wiring = static

  def edge(carry, drawn):
    place, index, *variables = drawn
    family, member = _locate(families, index)
    runs = [family.run for family in families]
    x = wiring.read(carry, place)
    y, new, moments = lax.switch(family, runs, member, *variables, x)
    return wiring.write(carry, place, y), (x, new, moments)

  rows = (get_rows(index, bank)[:, 0] for bank in (params, stats))
  drawn = (index, *rows)
  carry, (inputs, new, moments) = scan(
    edge, wiring.begin(x), (wiring.places(), *drawn)
  )
  saved = wiring.save(carry, inputs)
  return (wiring.end(carry), new), (saved, *drawn, moments)


def _forward(static, params, stats, x, index, gate, involved):
  wanted = _Wanted(params=params.perturbed, gate=gate.perturbed)
  params, stats = params.value, stats.value
  out, saved = _scan_forward(static, params, stats, x.value, index.value)
  return out, (saved, params, stats, involved.value, wanted)


def _backward(static, residuals, cotangents):
  families, wiring = static
  (inputs, *drawn), params, stats, involved, wanted = residuals
  dy = cotangents[0]
  if not isinstance(dy, jax.Array):
    dy = jnp.zeros(dy.aval.shape, dy.aval.dtype)
  branches = [functools.partial(_pull_back, f.run, wanted) for f in families]

  def edge(carry, own):
    i, place, (index, *variables), candidates, involved = own
    x, dy = wiring.saved_of(inputs, i, place), wiring.read_back(carry, place)
    family, member = _locate(families, index)
    dx, dp, product = lax.switch(family, branches, member, x, *variables, dy)
    dgate = None
    if wanted.gate:
      is_drawn = jnp.arange(len(involved)) == index
      asked = involved & ~is_drawn
      others = _inner_products(families, *candidates, asked, x, dy)
      dgate = jnp.where(is_drawn, jnp.where(involved, product, 0.0), others)
    return wiring.write_back(carry, place, dx), (dp, dgate)

  candidates = (params, stats) if wanted.gate else None
  order = jnp.arange(len(involved), dtype=jnp.int32)
  own = (order, wiring.places(), tuple(drawn), candidates, involved)
  carry, (dp, dgate) = scan(edge, wiring.begin_back(dy), own, reverse=True)
  dparams = None
  if wanted.params:
    dparams = select_rows(drawn[0], dp[:, None], jnp.zeros_like(params))
  return dparams, None, wiring.end_back(carry), None, dgate, None


def _pull_back(run, wanted: _Wanted, member, x, p, s, moments, dy):
  """(dx, d params, <o_j(x), dy>) along the drawn candidate j."""

  def output(x, p):
    return run(member, p, s, x, moments)[0]

  if wanted.params:
    y, pull = jax.vjp(output, x, p)
    dx, dp = pull(dy)
  else:
    y, pull = jax.vjp(lambda x: output(x, p), x)
    (dx,), dp = pull(dy), None
  return dx, dp, _inner(y, dy) if wanted.gate else None


def _inner_products(families, params, stats, asked, x, dy) -> jax.Array:
  """<o_j(x), dy> of each candidate j that is asked for, else zero: f[k].

  One after the other, so that only one o_j is in memory at a time.
  """
  products, order = [], []
  for family in families:

    def one(_, inputs, run=family.run):
      member, p, s, asked = inputs
      product = lax.cond(
        asked,
        lambda: _inner(run(member, p, s, x)[0], dy),
        lambda: jnp.zeros_like(_inner(dy, dy)),
      )
      return None, product

    positions = np.array(family.positions)
    members = jnp.arange(len(positions), dtype=jnp.int32)
    rows = (members, params[positions], stats[positions], asked[positions])
    products.append(scan(one, None, rows)[1])
    order.extend(family.positions)
  return jnp.concatenate(products)[np.argsort(order)]


def _locate(families, index):
  """Which family a candidate is of, and which of its members: i32[], i32[]."""
  places = {
    position: (number, member)
    for number, family in enumerate(families)
    for member, position in enumerate(family.positions)
  }
  table = jnp.array([places[i] for i in range(len(places))], jnp.int32)
  return table[index, 0], table[index, 1]


_run.defvjp(_forward, _backward, symbolic_zeros=True)


def _inner(y: jax.Array, dy: jax.Array) -> jax.Array:
  """<y, dy> in float32 at least."""
  dtype = jnp.promote_types(y.dtype, jnp.float32)
  return jnp.sum(y.astype(dtype) * dy.astype(dtype))


def scan(body, carry, xs, reverse: bool = False):
  """`lax.scan`, without a loop where there is one element."""
  if len(jax.tree.leaves(xs)[0]) > 1:
    return lax.scan(body, carry, xs, reverse=reverse)
  carry, ys = body(carry, jax.tree.map(lambda leaf: leaf[0], xs))
  return carry, jax.tree.map(lambda leaf: leaf[None], ys)
