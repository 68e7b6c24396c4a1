"""Which gradients are sums over devices from the start, by what modules do.

That devices then hold what one would is tested on eight: `tests/parallel`.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from proxyless_jax.nn import build
from proxyless_jax.nn.layers.batch_norm import MUTATED, norm_paths
from proxyless_jax.nn.networks.train_pass import norm_paths_outside_banks
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import MBConv, tree_space
from proxyless_jax.space.zoo import zoo

# Of most kinds of modules, those that are traced in seconds.
NAMES = ("mnasnet_a1", "shufflenet_v2", "resnet_18", "shake_shake", "darts")


def tree():
  space = tree_space(depths=(1,), stem_width=4, alpha=4)
  return space.choose(["sep_conv_3"] * len(space.edges))


@pytest.mark.parametrize("name", [*NAMES, "tree"])
def test_batch_norms_are_found_where_modules_have_them(name):
  network = tree() if name == "tree" else zoo(name)
  module = build(network)
  size, channels = network.image_size, network.channels
  images = jnp.zeros((2, size, size, channels))
  init = functools.partial(module.init, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), images)
  keys = {"dropout": jax.random.key(0)}
  _, mutated = jax.eval_shape(
    lambda v: module.apply(v, images, True, mutable=MUTATED, rngs=keys),
    nn.meta.unbox(variables),
  )
  norms = norm_paths_outside_banks(network)
  assert norms == norm_paths(mutated)
  assert 2 * len(norms) == len(jax.tree.leaves(mutated["batch_stats"]))


def test_rows_are_added_up_but_for_their_norms():
  space = tree_space(depths=(1,), stem_width=4, alpha=4)
  position = bank.nameless(space.edges[0])
  for op in space.edges[0].ops:
    length = bank.layout(op, position, "params").length
    norms = bank.layout(op, position, "batch_stats").length
    own = sum(end - start for start, end in bank.unsummed_spans(op, position))
    assert own == length - norms
  kernel = MBConv(3, 3)
  parts = bank.unsummed_spans(kernel, bank.nameless(space.edges[0]))
  assert all(a < b for a, b in parts)
  assert all(one[1] < two[0] for one, two in itertools.pairwise(parts))
