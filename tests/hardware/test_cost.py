"""Tables against counted networks, enumeration and finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.hardware import CostTable, cost_table, make_table
from proxyless_jax.space import Chain, macs, mobile_space, parameters

COUNTS = {
  "macs": macs,
  "parameters": parameters,
  "weight_bytes": lambda network: 4 * parameters(network),
}


def _tiny():
  return mobile_space(
    image_size=8,
    classes=3,
    stem_width=8,
    stem_stride=1,
    first_width=8,
    widths=(8, 16),
    depths=(2, 2),
    strides=(1, 2),
    candidates=("mbconv2_k3", "mbconv3_k5", "zero"),
    head_width=16,
  )


def _paths(network):
  return itertools.product(*(range(len(edge.ops)) for edge in network.edges))


def _one_hot(path, table):
  return jax.nn.one_hot(jnp.array(path), table.costs.shape[1])


def _random_probs(seed, mask):
  logits = np.random.default_rng(seed).normal(size=mask.shape)
  weights = np.where(mask, np.exp(logits), 0.0)
  return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", COUNTS)
def test_a_table_adds_up_to_the_count_of_any_network(kind):
  space = mobile_space()
  table = cost_table(kind, space)
  random = np.random.default_rng(0)
  for _ in range(50):
    path = [random.integers(len(edge.ops)) for edge in space.edges]
    network = space.choose(path)
    assert table.exact(network) == COUNTS[kind](network)
    np.testing.assert_allclose(
      table.of_path(jnp.array(path)), COUNTS[kind](network), rtol=1e-6
    )


@pytest.mark.parametrize("kind", COUNTS)
def test_one_hot_probabilities_cost_what_the_path_does(kind):
  space = mobile_space()
  table = cost_table(kind, space)
  random = np.random.default_rng(1)
  with jax.enable_x64(True):
    for _ in range(10):
      path = [random.integers(len(edge.ops)) for edge in space.edges]
      probs = _one_hot(path, table).astype(jnp.float64)
      assert table.expected(probs) == table.exact(space.choose(path))


@pytest.mark.parametrize("kind", COUNTS)
def test_the_expectation_is_that_over_all_architectures(kind):
  space = _tiny()
  table = cost_table(kind, space)
  probs = _random_probs(2, table.valid)
  total = weight = 0.0
  for path in _paths(space):
    p = np.prod([probs[e, j] for e, j in enumerate(path)])
    total += p * COUNTS[kind](space.choose(path))
    weight += p
  assert weight == pytest.approx(1.0, abs=1e-12)
  with jax.enable_x64(True):
    expected = table.expected(jnp.asarray(probs))
    assert expected.dtype == jnp.float64
    np.testing.assert_allclose(expected, total, rtol=1e-13)


def test_the_gradient_of_the_expectation():
  table = cost_table("macs", _tiny())
  with jax.enable_x64(True):
    logits = jnp.asarray(
      np.random.default_rng(3).normal(size=table.valid.shape)
    )

    def expected(logits):
      masked = jnp.where(table.valid, logits, -jnp.inf)
      return table.expected(jax.nn.softmax(masked, axis=-1))

    gradient = jax.grad(expected)(logits)
    for e, j in np.ndindex(table.valid.shape):
      step = jnp.zeros_like(logits).at[e, j].set(1e-5)
      slope = (expected(logits + step) - expected(logits - step)) / 2e-5
      np.testing.assert_allclose(gradient[e, j], slope, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(gradient[~table.valid], 0.0)
    probs = jnp.asarray(_random_probs(4, table.valid))
    gradient = jax.grad(table.expected)(probs)
    np.testing.assert_array_equal(gradient, table.costs)


def test_expectations_are_in_the_dtype_of_the_probabilities():
  table = cost_table("macs", _tiny())
  probs = jnp.asarray(_random_probs(5, table.valid), jnp.float32)
  assert table.expected(probs).dtype == jnp.float32
  assert jax.jit(table.of_path)(jnp.zeros(4, jnp.int32)).dtype == jnp.float32


@pytest.mark.parametrize("kind", COUNTS)
def test_least_and_largest_cost_are_those_of_enumeration(kind):
  space = _tiny()
  table = cost_table(kind, space)
  costs = [COUNTS[kind](space.choose(path)) for path in _paths(space)]
  assert (table.min_cost, table.max_cost) == (min(costs), max(costs))


def test_cheapest_where_padding_is_cheaper_than_any_candidate():
  table = CostTable(
    np.array([[5.0, 3.0], [2.0, 0.0]]),
    1.0,
    "ms",
    "here",
    ("a", "b"),
    ("jk", "j"),
    (),
  )
  np.testing.assert_array_equal(table.valid, [[True, True], [True, False]])
  assert (table.min_cost, table.max_cost) == (6.0, 8.0)


def test_the_parts_of_a_table():
  space = _tiny()
  table = cost_table("macs", space)
  assert (table.unit, table.source) == ("MACs", "counted")
  assert table.edges == tuple(edge.name for edge in space.edges)
  for edge, ops, row in zip(space.edges, table.ops, table.costs):
    assert ops == tuple(op.name for op in edge.ops)
    assert row[: len(ops)].tolist() == [op.macs(edge) for op in edge.ops]
    assert not row[len(ops) :].any()
  fixed = (*space.before, *space.after)
  assert table.fixed == sum(edge.op.macs(edge) for edge in fixed)


def test_a_network_without_searched_edges():
  space = _tiny()
  network = Chain(space.before, (), ())
  table = cost_table("parameters", network)
  count = parameters(network)
  assert table.exact(network) == table.min_cost == table.max_cost == count
  assert table.expected(jnp.zeros(table.costs.shape)) == count


def test_an_architecture_has_a_table_too():
  network = _tiny().choose([0, 2, 1, 0])
  table = cost_table("macs", network)
  assert table.costs.shape == (4, 1)
  assert table.min_cost == table.max_cost == table.exact(network)
  assert table.exact(network) == macs(network)


def test_other_networks_are_refused_with_all_differences():
  table = cost_table("macs", _tiny())
  other = mobile_space(
    image_size=8,
    stem_stride=1,
    widths=(8, 16),
    depths=(2, 3),
    strides=(1, 2),
    candidates=("mbconv2_k3", "mbconv6_k7"),
  )
  with pytest.raises(ValueError, match="use the table of the space") as error:
    table.exact(other.choose([1, 0, 1, 0, 0]))
  message = str(error.value)
  for difference in (
    "block05 4x4x16 -> 4x4x16 + shortcut",
    "stem 8x8x3 -> 8x8x32 conv_k3",
    "block01/mbconv6_k7",
    "block03/mbconv6_k7",
  ):
    assert difference in message
  assert "(counted)" in message
  shorter = Chain(_tiny().before, _tiny().edges[:2], ()).choose([0, 0])
  with pytest.raises(ValueError, match=r"'block03 8x8x8 -> 4x4x16', 'block04"):
    table.exact(shorter)


def test_a_table_is_of_images_of_one_shape():
  wide, tall = (mobile_space(image_size=size) for size in ((64, 96), (96, 64)))
  table = cost_table("macs", wide)
  assert "stem 64x96x3 -> 32x48x32 conv_k3" in table.layers
  network = tall.choose([0] * 21)
  with pytest.raises(ValueError, match="'stem 96x64x3 -> 48x32x32 conv_k3'"):
    table.exact(network)
  assert table.exact(wide.choose([0] * 21)) == macs(network)


def test_a_space_has_no_exact_cost():
  space = _tiny()
  with pytest.raises(ValueError, match="choose one first"):
    cost_table("macs", space).exact(space)


def test_an_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="'flops': expected one of macs, param"):
    cost_table("flops", _tiny())


def test_a_table_with_costs_that_are_no_numbers_is_refused():
  make = dict(unit="ms", source="here", edges=("a",), ops=(("j",),), layers=())
  with pytest.raises(ValueError, match=r"costs of \['a/j'\].*expected finite"):
    CostTable(costs=np.array([[np.nan]]), fixed=0.0, **make)
  with pytest.raises(ValueError, match="costs of the fixed part"):
    CostTable(costs=np.array([[1.0]]), fixed=np.inf, **make)
  with pytest.raises(ValueError, match="combine = 'mean': expected one of"):
    CostTable(costs=np.array([[1.0]]), fixed=0.0, combine="mean", **make)


@pytest.mark.parametrize(
  ("kind", "space", "message"),
  [
    (
      _tiny(),
      "macs",
      "space is 'macs': expected cost_table.kind, space.: swap",
    ),
    (None, _tiny(), "kind is of type NoneType: expected one of macs, "),
    ("macs", "proxyless_gpu", "space is 'proxyless_gpu': expected a network"),
    ("macs", None, "space is NoneType: expected a network"),
    ("mac", _tiny(), "kind = 'mac': expected one of .*; did you mean 'macs'"),
    ("no/tabel.json", _tiny(), r"no such file: job 'measure' writes a table"),
  ],
)
def test_wrong_arguments_are_named(kind, space, message):
  with pytest.raises(ValueError, match=message):
    cost_table(kind, space)


def test_a_path_is_a_kind_and_the_nearest_file_is_suggested(tmp_path):
  table = cost_table("macs", _tiny())
  table.to_json(tmp_path / "table.json")
  assert cost_table(tmp_path / "table.json", _tiny()).digest == table.digest
  with pytest.raises(ValueError, match=r"did you mean '.*/table\.json'"):
    cost_table(tmp_path / "tabel.json", _tiny())
  with pytest.raises(ValueError, match="path is of type int"):
    table.to_json(3)


def test_arrays_of_another_shape_are_refused():
  table = cost_table("macs", _tiny())
  edges = len(table.edges)
  # One index would be taken for all edges.
  with pytest.raises(ValueError, match=rf"shape \(1,\): expected .* {edges}"):
    table.of_path([0])
  with pytest.raises(ValueError, match=r"index has shape \(\)"):
    table.of_path(None)
  with pytest.raises(ValueError, match=r"probs have shape \(3, 3\)"):
    table.expected(jnp.zeros((3, 3)))
  with pytest.raises(ValueError, match="network is NoneType"):
    table.exact(None)
  make = dict(unit="ms", source="here", edges=("a",), ops=(("j",),), layers=())
  with pytest.raises(ValueError, match="costs of type list: expected an array"):
    CostTable(costs=[[1.0]], fixed=0.0, **make)
  with pytest.raises(ValueError, match="space is 'mobile'"):
    make_table("mobile", None, fixed=0.0, unit="ms", source="here")
