"""Exchanges of eight devices, read from programs that they run."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from experiments.hlo import exchanged, largest, total_bytes
from proxyless_jax.parallel.mesh import make_mesh


def compiled_text(function, *inputs):
  """Of a function that each device runs on its part of the inputs' rows."""
  mesh = make_mesh()
  mapped = jax.shard_map(
    function,
    mesh=mesh,
    in_specs=P("data"),
    out_specs=P("data"),
    check_vma=False,
  )
  return jax.jit(mapped).lower(*inputs).compile().as_text()


def kinds_and_bytes(collectives):
  return {(one.kind, one.bytes): n for one, n in collectives.items()}


psum = functools.partial(lax.psum, axis_name="data")


def test_sums_are_counted_with_their_bytes():
  def function(x, y):
    return psum(x), psum(y.astype(jnp.bfloat16))

  text = compiled_text(function, jnp.ones((16, 3)), jnp.ones((8, 5)))
  # 2x3 float32 a device; XLA:CPU sums bfloat16 as float32.
  assert total_bytes(exchanged(text, {})) in (24 + 20, 24 + 10)


@pytest.mark.parametrize(
  "function, expected",
  [
    (lambda x: lax.all_gather(x, "data"), ("all-gather", 8 * 32 * 4)),
    (
      lambda x: lax.psum_scatter(x, "data", tiled=True),
      ("reduce-scatter", 32 * 4),
    ),
    (
      lambda x: lax.ppermute(x, "data", [(i, 7 - i) for i in range(8)]),
      ("collective-permute", 32 * 4),
    ),
    (
      lambda x: lax.all_to_all(x, "data", 0, 0, tiled=True),
      ("all-to-all", 32 * 4),
    ),
  ],
)
def test_every_kind_counts_whole_arrays(function, expected):
  text = compiled_text(function, jnp.ones(8 * 32))
  assert kinds_and_bytes(exchanged(text, {})) == {expected: 1}


def test_a_loop_counts_as_often_as_it_runs():
  def function(x):
    def outer(x, _):
      x, _ = lax.scan(lambda x, _: (psum(x) * 0.5, None), x, length=3)
      return x + psum(x[:1]), None

    return lax.scan(outer, x, length=5)[0]

  text = compiled_text(function, jnp.ones(8 * 4))
  expected = {("all-reduce", 16): 15, ("all-reduce", 4): 5}
  assert kinds_and_bytes(exchanged(text, {})) == expected


def test_a_loop_of_unknown_length_is_an_error_if_it_exchanges():
  def function(x):
    return lax.while_loop(lambda x: x[0] < 9.0, lambda x: psum(x) + 1.0, x)

  text = compiled_text(function, jnp.ones(8))
  with pytest.raises(ValueError, match=r"unknown length.*known_trip_count"):
    exchanged(text, {})
  assert total_bytes(exchanged(text, {}, turns=3)) == 3 * 4
  assert total_bytes(largest(text, turns=2)) == 2 * 4


def candidates(lengths):
  """Branch i sums lengths[i] numbers; the index is read from x."""

  def branch(length, x):
    if not length:
      return x * 2.0
    return jnp.pad(psum(x[:length]), (0, len(x) - length))

  branches = [functools.partial(branch, length) for length in lengths]
  return lambda x: lax.switch(x[0].astype(jnp.int32), branches, x)


@pytest.mark.parametrize("taken", range(3))
def test_of_a_conditional_the_branch_that_is_taken_counts(taken):
  lengths = (5, 0, 7)

  def function(x):
    return lax.scan(lambda x, _: (candidates(lengths)(x), None), x, length=4)[0]

  text = compiled_text(function, jnp.ones(8 * 16))
  assert total_bytes(exchanged(text, {3: taken})) == 4 * 4 * lengths[taken]
  assert total_bytes(largest(text)) == 4 * 4 * 7


@pytest.mark.parametrize("taken", range(2))
@pytest.mark.parametrize("predicate", [False, True])
def test_two_branches_keep_their_numbers(predicate, taken):
  def function(x):
    if predicate:
      return lax.cond(x[0] > 0, lambda: psum(x), lambda: x * psum(x[:3]).sum())
    return candidates((3, 5))(x)

  text = compiled_text(function, jnp.ones(8 * 5))
  assert total_bytes(exchanged(text, {2: taken})) == (12, 20)[taken]


def test_nested_conditionals_are_distinguished_by_their_number_of_branches():
  def function(x):
    first = candidates((1, 2, 3))
    second = candidates((5, 6))
    return lax.switch(x[1].astype(jnp.int32), [first, second], x)

  text = compiled_text(function, jnp.ones(8 * 8))
  assert total_bytes(exchanged(text, {2: 0, 3: 2})) == 12
  assert total_bytes(exchanged(text, {2: 1, 3: 2})) == 24
  assert total_bytes(largest(text)) == 24


def test_an_unnamed_conditional_is_an_error_only_if_its_branches_differ():
  text = compiled_text(candidates((5, 0, 7)), jnp.ones(8 * 16))
  with pytest.raises(ValueError, match="3 branches that exchange different"):
    exchanged(text, {2: 1})
  alike = compiled_text(candidates((5, 5, 5)), jnp.ones(8 * 16))
  assert total_bytes(exchanged(alike, {})) == 20
