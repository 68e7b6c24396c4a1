"""Mixed edges: all candidates have parameters, one drawn path is in memory.

    m(x) = sum_j gate_j * o_j(x),   gate one-hot at `index`

(Cai, Zhu, Han, ICLR 2019, section 3.2.) Forward runs the drawn candidate
alone, and saves its input, its batch-norm moments and, of an inverted
bottleneck, the narrow map before its last norm. Backward runs it again, and
gives dx, the gradient of its weights (zeros for the others), and, where a
gate's gradient is used,

    dL/dgate_j = <o_j(x), dL/dm>

for each involved candidate j, one after the other, so that memory stays that
of one path. The rule sees which gradients its caller uses: a weight step
compiles no gate gradients, an architecture step no weight gradients.

Two things keep programs small, for a supernet compiles hundreds of candidates.
Edges that are alike run under one `lax.scan`, so their candidates are
compiled once; a wiring (`proxyless_jax.nn.supernet.wiring`) describes how they
are joined. And their parameters are one array, a bank f[n, k, length]: row
[i, j] holds candidate j of edge i, so drawing a path, its gradient and its
optimizer step are array operations, not an instruction per kernel.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from proxyless_jax.nn.supernet.rows import get_rows, select_rows
from proxyless_jax.nn.supernet.wiring import Wiring

# The function of a kernel group: see `KernelGroup.run`.
Run = Callable[..., tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]]


class KernelGroup(NamedTuple):
  """Candidates that are compiled together, since they share most of their code.

  Attributes:
    run: function (member i32[], params f[length], stats f[length'], x,
      moments=None, kept=None) -> (o_j(x), new stats f[length'], moments
      f[width], kept) of candidate j = candidates[member]. The moments are those
      of the batch, or the given ones, which it then uses instead of computing
      them; `kept` is a map that spares a second run part of the work, or None.
    candidates: indices of the members among an edge's candidates.
  """

  run: Run
  candidates: tuple[int, ...]


class EdgeGates(NamedTuple):
  """The part of a draw that n alike edges see.

  Attributes:
    index: i32[n], drawn candidates.
    gate: f[n, k], one-hot at `index`; carries the straight-through gradient.
    involved: bool[n, k], whether a candidate's gate gets a gradient.
  """

  # Nobody looks for an element by `tuple.index`, which it hides.
  index: jax.Array  # type: ignore[assignment]
  gate: jax.Array
  involved: jax.Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
  """Which gradients the caller of the backward pass uses.

  Static, so that the backward pass is traced without the others. It travels
  from the forward to the backward rule among the residuals, which have to be
  pytrees: hence the registration.

  Attributes:
    params: whether the gradient of the parameters is used.
    gate: whether the gradient of the gates is used.
  """

  params: bool
  gate: bool


def mixed_edges(
  groups: Sequence[KernelGroup],
  params: jax.Array,
  stats: jax.Array,
  x: jax.Array,
  gates: EdgeGates,
  wiring: Wiring,
) -> tuple[jax.Array, jax.Array]:
  """Runs the drawn candidates of n edges that are alike.

  Args:
    groups: kernel groups that hold each of the k candidates once; all
      candidates give the same shape.
    params: bank of parameters f[n, k, length]; or f[n, 1, length], the drawn
      rows alone, where gates need no gradient.
    stats: bank of batch-norm statistics f[n, k, length'].
    x: input f[b, h, w, c] of a line's first edge, or inputs
      f[inputs, b, h, w, c] of a graph.
    gates: index i32[n], gate f[n, k] and involved bool[n, k] of these edges.
    wiring: description of how the edges are joined.

  Returns:
    The output f[b, h, w, c] of a line's last edge, or the outputs
    f[outputs, b, h, w, c] of a graph; and the bank of statistics, of which only
    the drawn rows have changed.
  """
  static = (tuple(groups), wiring)
  # Of the statistics `_run` returns rows: for a bank that it returned, autodiff
  # would make a bank of cotangents.
  y, new = _run(static, params, stats, x, *gates)
  return y, select_rows(gates.index, new[:, None], stats)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(static, params, stats, x, index, gate, involved):
  """The wiring's outputs, the drawn candidates' new statistics f[n, .]."""
  # The drawn gate is 1: gates matter to the backward pass alone.
  del gate, involved
  return _scan_forward(static, params, stats, x, index)[0]


def _scan_forward(static, params, stats, x, index):
  groups, wiring = static

  def edge(carry: jax.Array, drawn: tuple) -> tuple[jax.Array, tuple]:
    ends, index, *variables = drawn
    number, member = _locate(groups, index)
    # A branch for each group: which member of it was drawn is data.
    runs = [group.run for group in groups]
    x = wiring.read(carry, ends)
    y, new, *more = lax.switch(number, runs, member, *variables, x)
    return wiring.write(carry, ends, y), (x, new, more)

  # Picked outside the loop, so that it reads rows and never a whole bank.
  rows = (get_rows(index, bank)[:, 0] for bank in (params, stats))
  drawn = (index, *rows)
  carry, (inputs, new, more) = scan(
    edge, wiring.begin(x), (wiring.ends(), *drawn)
  )
  saved = wiring.save(carry, inputs)
  return (wiring.end(carry), new), (saved, *drawn, *more)


def _forward(static, params, stats, x, index, gate, involved):
  # `symbolic_zeros` wraps every argument; `perturbed` is true
  # where somebody differentiates with respect to it.
  wanted = _Wanted(params=params.perturbed, gate=gate.perturbed)
  params, stats = params.value, stats.value
  out, saved = _scan_forward(static, params, stats, x.value, index.value)
  return out, (saved, params, stats, involved.value, wanted)


def _backward(static, residuals, cotangents):
  groups, wiring = static
  (inputs, *drawn), params, stats, involved, wanted = residuals
  # Running statistics carry no gradient; `cotangents[1]` is theirs.
  dy = cotangents[0]
  # Zero where the loss does not depend on the output.
  if not isinstance(dy, jax.Array):
    dy = jnp.zeros(dy.aval.shape, dy.aval.dtype)
  branches = [
    functools.partial(_pull_back, group.run, wanted) for group in groups
  ]

  def edge(carry: jax.Array, own: tuple) -> tuple[jax.Array, tuple]:
    i, ends, (index, *variables), candidates, involved = own
    x, dy = wiring.saved_of(inputs, i, ends), wiring.read_back(carry, ends)
    number, member = _locate(groups, index)
    dx, dp, product = lax.switch(number, branches, member, x, *variables, dy)
    dgate = None
    if wanted.gate:
      # The drawn candidate's product comes from the run that gives dx.
      is_drawn = jnp.arange(len(involved)) == index
      asked = involved & ~is_drawn
      others = _inner_products(groups, candidates, asked, x, dy)
      dgate = jnp.where(is_drawn, jnp.where(involved, product, 0.0), others)
    return wiring.write_back(carry, ends, dx), (dp, dgate)

  # Rows of all candidates: only gates' gradients run those that are not drawn.
  candidates = (params, stats) if wanted.gate else None
  order = jnp.arange(len(involved), dtype=jnp.int32)
  own = (order, wiring.ends(), tuple(drawn), candidates, involved)
  carry, (dp, dgate) = scan(edge, wiring.begin_back(dy), own, reverse=True)
  dparams = None
  if wanted.params:
    dparams = select_rows(drawn[0], dp[:, None], jnp.zeros_like(params))
  # In the order of `_run`'s arguments: statistics, indices and `involved` have
  # no gradient.
  return dparams, None, wiring.end_back(carry), None, dgate, None


def _pull_back(run: Run, wanted: _Wanted, member, x, p, s, moments, kept, dy):
  """(dx, d params, <o_j(x), dy>) along the drawn candidate j.

  The candidate is run again, with the saved batch moments: without them every
  recomputation would be a pass over the maps more, and an exchange between
  devices that share a batch.
  """

  def output(x: jax.Array, p: jax.Array) -> jax.Array:
    return run(member, p, s, x, moments, kept)[0]

  if wanted.params:
    y, pull = jax.vjp(output, x, p)
    dx, dp = pull(dy)
  else:
    y, pull = jax.vjp(lambda x: output(x, p), x)
    (dx,), dp = pull(dy), None
  return dx, dp, _inner(y, dy) if wanted.gate else None


def _inner_products(groups, candidates, asked, x, dy) -> jax.Array:
  """<o_j(x), dy> of each candidate j that is asked for, else zero: f[k].

  One after the other, so that only one o_j is in memory at a time.
  """
  params, stats = candidates
  products, order = [], []
  for group in groups:

    def one(
      _: None, inputs: tuple, run: Run = group.run
    ) -> tuple[None, jax.Array]:
      member, p, s, asked = inputs
      # `cond` runs one branch only: what is not asked for costs nothing.
      product = lax.cond(
        asked,
        lambda: _inner(run(member, p, s, x)[0], dy),
        lambda: jnp.zeros_like(_inner(dy, dy)),
      )
      return None, product

    own = np.array(group.candidates)
    members = jnp.arange(len(own), dtype=jnp.int32)
    rows = (members, params[own], stats[own], asked[own])
    products.append(scan(one, None, rows)[1])
    order.extend(group.candidates)
  # From the order of the groups back to that of the candidates.
  return jnp.concatenate(products)[np.argsort(order)]


def _locate(groups, index):
  """A candidate's group and its number among the members: i32[], i32[]."""
  found = {
    candidate: (number, member)
    for number, group in enumerate(groups)
    for member, candidate in enumerate(group.candidates)
  }
  table = jnp.array([found[i] for i in range(len(found))], jnp.int32)
  return table[index, 0], table[index, 1]


_run.defvjp(_forward, _backward, symbolic_zeros=True)


def _inner(y: jax.Array, dy: jax.Array) -> jax.Array:
  """<y, dy> in float32 at least."""
  dtype = jnp.promote_types(y.dtype, jnp.float32)
  return jnp.sum(y.astype(dtype) * dy.astype(dtype))


def scan(
  body: Callable, carry: Any, xs: Any, reverse: bool = False
) -> tuple[Any, Any]:
  """`lax.scan`, without a loop where there is one element.

  Args:
    body: function (carry, x) -> (carry, y).
    carry: first carry.
    xs: pytree of arrays with a leading axis of one or more elements.
    reverse: whether to begin with the last element.
  """
  if len(jax.tree.leaves(xs)[0]) > 1:
    return lax.scan(body, carry, xs, reverse=reverse)
  carry, ys = body(carry, jax.tree.map(lambda leaf: leaf[0], xs))
  return carry, jax.tree.map(lambda leaf: leaf[None], ys)
