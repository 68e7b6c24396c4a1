import jax
import jax.numpy as jnp
import pytest

from experiments import costs, workloads
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import mobile_space


@pytest.fixture(scope="module")
def space():
  # No two edges alike, and expansions of which none is a multiple of the other:
  # XLA counts one turn of a loop. Of a conditional it counts the most expensive
  # branch, here mbconv6.
  return mobile_space(
    image_size=16,
    classes=10,
    stem_width=16,
    stem_stride=1,
    first_width=16,
    widths=(32, 48),
    depths=(1, 1),
    strides=(1, 2),
    candidates=("mbconv4_k5", "mbconv6_k5"),
    head_width=64,
  )


@pytest.fixture(scope="module")
def largest(space):
  return space.choose(["mbconv6_k5"] * len(space.edges))


def flops_of_supernet(space, name):
  search, jitted = workloads.search_steps(space)
  return costs.flops_of(jitted[name], search, costs.batch_of(space))


def flops_of_candidates(edges):
  return sum(
    costs.flops_of(*costs.candidates(bank.nameless(edge))) for edge in edges
  )


def flops_of_projections(edges):
  return sum(
    costs.flops_of(*costs.projections(bank.nameless(edge))) for edge in edges
  )


def test_a_weight_step_is_a_training_step_and_a_forward_pass(space, largest):
  expected = costs.flops_of(*costs.training(largest))
  expected += flops_of_candidates(largest.edges)
  expected -= flops_of_projections(largest.edges)
  assert flops_of_supernet(space, "weight") == pytest.approx(expected, rel=0.02)


def test_an_arch_step_runs_every_candidate_and_no_weight_gradients(
  space, largest
):
  expected = costs.flops_of(*costs.without_weight_gradients(largest))
  expected += flops_of_candidates(space.edges)
  # As XLA counts, the drawn candidate is run among the others too. That of the
  # first edge is not run again: nobody asks for the gradient of its input.
  expected += flops_of_candidates(largest.edges[1:])
  expected -= flops_of_projections(largest.edges[1:])
  assert flops_of_supernet(space, "arch full") == pytest.approx(
    expected, rel=0.02
  )


def test_a_matmul_reads_its_operands_and_writes_its_result():
  x, w = jnp.ones((costs.BATCH, 8)), jnp.ones((8, 4))
  one = costs.costs_of(jax.jit(lambda x, w: x @ w), x, w)
  moved = 4 * (costs.BATCH * 8 + 8 * 4 + costs.BATCH * 4)
  assert one.flops == 2 * 8 * 4
  assert one.least == one.traffic == moved / costs.BATCH
