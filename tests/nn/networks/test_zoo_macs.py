"""What the zoo counts from shapes is what its modules compute, and hold.

Modules are lowered for a GPU, where the depthwise convolution is native. Shapes
are enough for that: nothing is compiled, run or drawn.
"""

import functools
import math
import re
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

import proxyless_jax as pj
from proxyless_jax.space.zoo import NETWORKS

LAYOUT = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"


# Of every operation in the zoo, in few layers; the last one is no chain.
RECTANGLES = {
  "mnasnet_a1": dict(image_size=(40, 72)),
  "shufflenet_v2": dict(image_size=(40, 72)),
  "resnet_18": dict(image_size=(40, 72)),
  "densenet_bc": dict(image_size=(12, 22), depth=22, growth=4),
  "pyramidnet_272": dict(image_size=(12, 22), depth=29),
  "shake_shake": dict(image_size=(12, 22)),
  "path_level_eas": dict(image_size=(12, 22), blocks=3),
  "darts": dict(image_size=(16, 24), cells=1),
}


@functools.cache
def lowered(name):
  """A published network, its variables' shapes, its module."""
  return lower(pj.zoo(name))


def lower(network):
  """A network; its variables' shapes; its module for one image, lowered.

  One trace gives both, of a program that makes its own variables: of zeros,
  since to trace the draws of a thousand kernels would take most of the time.
  """
  images = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32)
  init = functools.partial(pj.build(network).init_with_output, train=False)
  with mock.patch.object(jax.random, "normal", undrawn):
    traced = jax.jit(init).trace(jax.random.key(0), images)
  program = traced.lower(lowering_platforms=("cuda",))
  logits, variables = program.out_info
  assert logits.shape == (1, network.classes)
  return network, variables, program


def undrawn(key, shape, dtype):
  del key
  return jnp.zeros(shape, dtype)


def count(module):
  """Multiply-accumulates of a StableHLO module, from its shapes."""
  functions = {op.attributes["sym_name"].value: op for op in module.body}
  return count_function(functions["main"], functions)


def count_function(function, functions):
  return sum(count_op(op, functions) for op in operations(function))


def count_op(op, functions):
  if op.name == "func.call":
    return count_function(functions[op.attributes["callee"].value], functions)
  if op.name == "stablehlo.convolution":
    return count_convolution(op)
  if op.name == "stablehlo.dot_general":
    return count_dot(op)
  inside = [
    sum(count_op(inner, functions) for inner in block)
    for region in op.regions
    for block in region
  ]
  # What runs once in a branch, or many times in a loop, is for none to guess.
  assert not any(inside) or (op.name, len(inside)) == ("stablehlo.case", 1), op
  return sum(inside)


def operations(function):
  return [op for region in function.regions for block in region for op in block]


def count_convolution(op):
  """Output elements, times the weights that one of them sums over."""
  assert LAYOUT in str(op.attributes["dimension_numbers"])
  kernel = op.operands[1].type.shape
  return math.prod(op.results[0].type.shape) * math.prod(kernel[:-1])


def count_dot(op):
  """Output elements, times the length of the sums."""
  text = str(op.attributes["dot_dimension_numbers"])
  found = re.search(r"lhs_contracting_dimensions = \[([\d, ]+)\]", text)
  shape = op.operands[0].type.shape
  length = math.prod(shape[int(axis)] for axis in found[1].split(","))
  return math.prod(op.results[0].type.shape) * length


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_the_products_of_the_lowered_program(name):
  network, _, program = lowered(name)
  assert count(program.compiler_ir("stablehlo")) == pj.macs(network)


@pytest.mark.parametrize("name", RECTANGLES)
def test_macs_of_rectangular_images(name):
  network, _, program = lower(pj.zoo(name, **RECTANGLES[name]))
  assert count(program.compiler_ir("stablehlo")) == pj.macs(network)


def test_macs_of_rectangular_images_in_trees():
  space = pj.tree_space(image_size=(12, 20), depths=(1, 1))
  names = [op.name for op in space.edges[0].ops]
  network = space.choose([names[i % 7] for i in range(24)])
  program = lower(network)[-1]
  assert count(program.compiler_ir("stablehlo")) == pj.macs(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_about_half_the_flops_that_xla_counts(name):
  """XLA leaves out products with padding, and counts norms and activations.

  Padding takes up to 16 % from 3x3 kernels on maps of 8x8; norms and
  activations add up to 5 % in mobile networks.
  """
  network, _, program = lowered(name)
  flops = program.cost_analysis()["flops"]
  assert 0.84 < flops / (2 * pj.macs(network)) < 1.16


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_the_elements_of_the_modules_tree(name):
  network, variables, _ = lowered(name)
  leaves = jax.tree.leaves(variables["params"])
  assert pj.parameters(network) == sum(math.prod(x.shape) for x in leaves)


def test_the_count_sees_calls_and_refuses_loops():
  x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
  square = jax.ShapeDtypeStruct((4, 4), jnp.float32)

  @jax.jit
  def product(x, y):
    return x @ y

  def twice(x, y):
    return product(product(x, y), y)

  def loop(x, y):
    return jax.lax.fori_loop(0, 5, lambda _, x: x @ y, x)

  def program(f):
    return jax.jit(f).lower(x, square).compiler_ir("stablehlo")

  assert count(program(twice)) == 2 * 3 * 4 * 4
  with pytest.raises(AssertionError):
    count(program(loop))
