"""Blocks of different widths that are stored alike."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

import proxyless_jax as pj
from proxyless_jax.nas import gates
from proxyless_jax.nn import banks
from proxyless_jax.nn.supernet.tree_banks import block_runs
from tests.spaces import widening_tree_space

SPACE = widening_tree_space()


def test_neighbours_are_stored_alike():
  runs = block_runs(SPACE)
  assert [len(run.blocks) for run in runs] == [2, 1]
  widths = [run.form.branch_norms[0].features_in for run in runs]
  assert widths == [8, 16]
  names = [own.name for own in banks(SPACE)]
  assert names[6] == "block01_edge0_0" and names[13] == "block03_edge0_0"
  assert [len(own.edges) for own in banks(SPACE)][5:8] == [2, 8, 1]
  assert banks(SPACE.choose([0] * 12)) == ()


def test_the_published_space_is_a_few_programs():
  runs = block_runs(pj.tree_space())
  assert len(runs) == 14
  assert sum(len(run.blocks) for run in runs) == 54


def test_other_operations_keep_their_widths():
  """A 3x3 convolution of groups would mix zeros into them."""
  space = pj.tree_space(
    image_size=4,
    stem_width=4,
    alpha=4,
    depths=(2,),
    candidates=("identity", "norm_relu_conv_k3_g2"),
  )
  widths = [r.form.branch_norms[0].features_in for r in block_runs(space)]
  assert widths == [6, 8]


@pytest.mark.usefixtures("quick_compilation")
def test_the_convolution_may_be_any_operation():
  """One without groups, and without batch norm: a bank of length zero."""
  space = pj.tree_space(
    image_size=4,
    stem_width=4,
    alpha=4,
    depths=(1,),
    branches=1,
    candidates=("identity", "max_pool_3"),
  )
  (block,) = space.blocks
  conv = dataclasses.replace(block.conv, ops=(pj.space.PlainConv(3),))
  block = dataclasses.replace(block, conv=conv)
  space = dataclasses.replace(space, blocks=(block,))
  module = pj.build(space)
  variables = pj.init(module, jax.random.key(0))
  index = [i % 2 for i in range(len(space.edges))]
  path = gates.path(jnp.array(index), gates.valid_candidates(space))
  images = jax.random.normal(jax.random.key(1), (2, *space.image_shape))
  network = space.choose(index)
  inherited = pj.inherit(space, variables, network)
  logits = jax.jit(module.apply, static_argnums=2)
  alone = jax.jit(pj.build(network).apply, static_argnums=2)
  assert_allclose(
    logits(variables, images, False, path),
    alone(inherited, images, False),
    rtol=1e-5,
    atol=1e-6,
  )


def test_edges_of_a_block_share_their_candidates():
  first = SPACE.edges[0]
  space = SPACE.with_edges((first, *SPACE.choose([0] * 12).edges[1:]))
  assert not space.is_architecture
  with pytest.raises(ValueError, match=r"'block01_edge1_0': candidates .*sep"):
    pj.init(pj.build(space), jax.random.key(0))
