"""Wrong arguments of `build`, `init`, `apply`, `inherit` and `make`."""

import jax
import jax.numpy as jnp
import pytest

import proxyless_jax as pj
from tests.spaces import small_space

IMAGES = jnp.zeros((2, 8, 8, 1))


@pytest.fixture(scope="module")
def space():
  return small_space(
    image_size=8,
    channels=1,
    depths=(1,),
    candidates=("mbconv1_k3", "mbconv2_k3"),
  )


@pytest.fixture(scope="module")
def network(space):
  return space.choose([0])


@pytest.fixture(scope="module")
def variables(network):
  return pj.init(pj.build(network), jax.random.key(0))


@pytest.fixture(scope="module")
def of_space(space):
  return pj.init(pj.build(space), jax.random.key(0))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"dtype": "flaot32"}, "dtype = 'flaot32': expected a floating"),
    ({"dtype": None}, "dtype = None: expected a floating"),
    ({"dtype": jnp.int32}, r"dtype = .*int32.*: expected a floating"),
    ({"dropout": 2}, "dropout = 2: expected a number of at least 0"),
    ({"bn_momentum": "a"}, "bn_momentum = 'a': expected a number"),
  ],
)
def test_options_of_build(network, options, message):
  with pytest.raises(ValueError, match=message):
    pj.build(network, **options)


@pytest.mark.parametrize(
  ("wrong", "got"), [("proxyless_gpu", "'proxyless_gpu'"), (None, "NoneType")]
)
def test_build_wants_a_network(wrong, got):
  with pytest.raises(ValueError, match=f"network is {got}: expected a network"):
    pj.build(wrong)


def test_init(network):
  module = pj.build(network)
  for wrong in (network, "mobile", None):
    with pytest.raises(ValueError, match="expected the module of a network"):
      pj.init(wrong, jax.random.key(0))
  for wrong in (0, None, "seed"):
    with pytest.raises(ValueError, match=r"key = .*: expected a PRNG key, su"):
      pj.init(module, wrong)


@pytest.mark.parametrize("mutable", [False, ["params"]])
def test_training_updates_statistics(network, variables, mutable):
  module = pj.build(network)
  match = r"expected apply\(.*, train=True, mutable=\['batch_stats'\]\)"
  with pytest.raises(ValueError, match=match):
    module.apply(variables, IMAGES, train=True, mutable=mutable)
  logits, new = module.apply(
    variables, IMAGES, train=True, mutable=["batch_stats"]
  )
  assert logits.shape == (2, 3) and set(new) == {"batch_stats"}


def test_what_is_dropped_needs_a_key(network, variables):
  training = dict(train=True, mutable=["batch_stats"])
  match = r"expected apply\(\.\.\., rngs=\{'dropout': key\}\)"
  with pytest.raises(ValueError, match=match):
    pj.build(network, dropout=0.5).apply(variables, IMAGES, **training)
  with pytest.raises(ValueError, match=match):
    pj.build(network).apply(variables, IMAGES, drop_rate=0.5, **training)


@pytest.mark.parametrize("images", [None, [1], "a.png"])
def test_images_are_an_array(network, variables, images):
  with pytest.raises(ValueError, match=r"images are of type .*: expected an"):
    pj.build(network).apply(variables, images, train=False)


@pytest.mark.parametrize("gates", [3, pj.nas.gates.draw])
def test_gates_are_a_draw(space, of_space, gates):
  with pytest.raises(ValueError, match=r"gates are of type .*: expected a dr"):
    pj.build(space).apply(of_space, IMAGES, train=False, gates=gates)


def test_inherit(space, network, variables, of_space):
  other = pj.zoo("mobilenet_v2")
  for one, chosen in (
    *((network, space), (space, space), (space, other)),
    (network, space.choose([1])),
  ):
    with pytest.raises(ValueError, match=r"no (architecture|candidate) .*"):
      pj.inherit(one, of_space, chosen)
  with pytest.raises(ValueError, match="space is dict: expected a network"):
    pj.inherit(of_space, space, network)
  for wrong in (variables, None, {}):
    with pytest.raises(ValueError, match="variables have no bank 'block01'"):
      pj.inherit(space, wrong, network)


def test_make_wants_an_operation(space):
  with pytest.raises(TypeError, match="'zero' is a name: expected an oper"):
    pj.make("zero", space.edges[0], name="a", bn_momentum=0.9, dropout=0.0)


def test_activations_of_batch_norm():
  with pytest.raises(ValueError, match="activation = 'rleu': expected one of"):
    pj.BatchNorm("rleu").init(jax.random.key(0), IMAGES, False)


def test_variables_of_others(space, network, variables, of_space):
  module = pj.build(network)
  for wrong in ({}, variables["params"]):
    with pytest.raises(ValueError, match="variables have no 'params': expect"):
      module.apply(wrong, IMAGES, train=False)
  with pytest.raises(ValueError, match="'block01' are a bank, as of a search"):
    module.apply(of_space, IMAGES, train=False)
  own = pj.inherit(space, of_space, network)
  assert module.apply(own, IMAGES, train=False).shape == (2, 3)
