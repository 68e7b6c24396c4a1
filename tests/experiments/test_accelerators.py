import pytest
from numpy.testing import assert_allclose

from experiments.accelerators import (
  ACCELERATORS,
  COMPUTE_SHARE,
  H100,
  MEMORY_SHARE,
  NETWORK_SHARE,
  V5E,
)

MICRO = 1e-6


def test_computing_takes_as_long_as_the_slower_of_two():
  flops, traffic = 1e12, 1e9
  by_flops = flops / (H100.peak * COMPUTE_SHARE)
  by_traffic = traffic / (H100.memory * MEMORY_SHARE)
  assert H100.compute(flops, 0.0) == by_flops
  assert H100.compute(0.0, traffic) == by_traffic
  assert H100.compute(flops, traffic) == max(by_flops, by_traffic)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_one_accelerator_exchanges_nothing(accelerator):
  assert accelerator.latency(1) == 0.0
  assert accelerator.transfer(1e9, 1) == 0.0


def test_a_machine_of_gpus_is_a_ring_over_nvlink():
  seconds = 2 * 7 / 8 * 1e9 / (450e9 * NETWORK_SHARE)
  assert_allclose(H100.transfer(1e9, 8), seconds)
  assert_allclose(H100.latency(8), 6.8 * MICRO + 2 * 7 * 0.6 * MICRO)


def test_machines_exchange_an_eighth_for_each_of_their_gpus():
  inside = H100.transfer(1e9, 8)
  between = 2 * 63 / 64 * 1e9 / 8 / (50e9 * NETWORK_SHARE)
  assert_allclose(H100.transfer(1e9, 512), inside + between)
  # A tree of 64 machines: 6 hops to its root and 6 back.
  hops = 2 * 6 * 5.0 * MICRO
  assert_allclose(H100.latency(512), H100.latency(8) + hops)


@pytest.mark.parametrize("chips, hops", [(8, 1 + 3), (64, 7 + 7), (256, 8 + 8)])
def test_hops_of_a_grid_of_chips(chips, hops):
  assert_allclose(V5E.latency(chips), (2 + 2 * hops) * MICRO)


def test_two_pods_meet_in_the_data_centre():
  assert_allclose(V5E.latency(512), V5E.latency(256) + 2 * 50 * MICRO)
