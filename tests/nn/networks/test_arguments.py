"""Wrong arguments of `build`, `init`, `apply`, `inherit` and `make`."""

import jax
import jax.numpy as jnp
import pytest

import proxyless_jax as pj

SPACE = pj.mobile_space(
  image_size=8,
  channels=1,
  classes=3,
  stem_width=8,
  first_width=0,
  widths=(8,),
  depths=(1,),
  strides=(1,),
  candidates=("mbconv1_k3", "mbconv2_k3"),
  head_width=8,
)
NETWORK = SPACE.choose([0])
IMAGES = jnp.zeros((2, 8, 8, 1))


@pytest.fixture(scope="module")
def variables():
  return pj.init(pj.build(NETWORK), jax.random.key(0))


@pytest.fixture(scope="module")
def of_space():
  return pj.init(pj.build(SPACE), jax.random.key(0))


@pytest.mark.parametrize(
  ("network", "options", "message"),
  [
    ("proxyless_gpu", {}, "network is 'proxyless_gpu': expected a network"),
    (None, {}, "network is NoneType: expected a network"),
    (NETWORK, {"dtype": "flaot32"}, "dtype = 'flaot32': expected a floating"),
    (NETWORK, {"dtype": None}, "dtype = None: expected a floating"),
    (NETWORK, {"dtype": jnp.int32}, r"dtype = .*int32.*: expected a floating"),
    (NETWORK, {"dropout": 2}, "dropout = 2: expected a number of at least 0"),
    (NETWORK, {"bn_momentum": "a"}, "bn_momentum = 'a': expected a number"),
  ],
)
def test_build(network, options, message):
  with pytest.raises(ValueError, match=message):
    pj.build(network, **options)


def test_init():
  module = pj.build(NETWORK)
  for wrong in (NETWORK, "mobile", None):
    with pytest.raises(ValueError, match="expected the module of a network"):
      pj.init(wrong, jax.random.key(0))
  for wrong in (0, None, "seed"):
    with pytest.raises(ValueError, match=r"key = .*: expected a PRNG key, su"):
      pj.init(module, wrong)


@pytest.mark.parametrize("mutable", [False, ["params"]])
def test_training_updates_statistics(variables, mutable):
  module = pj.build(NETWORK)
  match = r"expected apply\(.*, train=True, mutable=\['batch_stats'\]\)"
  with pytest.raises(ValueError, match=match):
    module.apply(variables, IMAGES, train=True, mutable=mutable)
  logits, new = module.apply(
    variables, IMAGES, train=True, mutable=["batch_stats"]
  )
  assert logits.shape == (2, 3) and set(new) == {"batch_stats"}


def test_what_is_dropped_needs_a_key(variables):
  training = dict(train=True, mutable=["batch_stats"])
  match = r"expected apply\(\.\.\., rngs=\{'dropout': key\}\)"
  with pytest.raises(ValueError, match=match):
    pj.build(NETWORK, dropout=0.5).apply(variables, IMAGES, **training)
  with pytest.raises(ValueError, match=match):
    pj.build(NETWORK).apply(variables, IMAGES, drop_rate=0.5, **training)


@pytest.mark.parametrize("images", [None, [1], "a.png"])
def test_images_are_an_array(variables, images):
  with pytest.raises(ValueError, match=r"images are of type .*: expected an"):
    pj.build(NETWORK).apply(variables, images, train=False)


@pytest.mark.parametrize("gates", [3, pj.nas.gates.draw])
def test_gates_are_a_draw(of_space, gates):
  with pytest.raises(ValueError, match=r"gates are of type .*: expected a dr"):
    pj.build(SPACE).apply(of_space, IMAGES, train=False, gates=gates)


def test_inherit(variables, of_space):
  other = pj.zoo("mobilenet_v2")
  for space, network in (
    *((NETWORK, SPACE), (SPACE, SPACE), (SPACE, other)),
    (NETWORK, SPACE.choose([1])),
  ):
    with pytest.raises(ValueError, match=r"no (architecture|candidate) .*"):
      pj.inherit(space, of_space, network)
  with pytest.raises(ValueError, match="space is dict: expected a network"):
    pj.inherit(of_space, SPACE, NETWORK)
  for wrong in (variables, None, {}):
    with pytest.raises(ValueError, match="variables have no bank 'block01'"):
      pj.inherit(SPACE, wrong, NETWORK)


def test_make_wants_an_operation():
  with pytest.raises(TypeError, match="'zero' is a name: expected an oper"):
    pj.make("zero", SPACE.edges[0], name="a", bn_momentum=0.9, dropout=0.0)


def test_activations_of_batch_norm():
  with pytest.raises(ValueError, match="activation = 'rleu': expected linear"):
    pj.BatchNorm("rleu").init(jax.random.key(0), IMAGES, False)


def test_variables_of_others(variables, of_space):
  module = pj.build(NETWORK)
  for wrong in ({}, variables["params"]):
    with pytest.raises(ValueError, match="variables have no 'params': expect"):
      module.apply(wrong, IMAGES, train=False)
  with pytest.raises(ValueError, match="'block01' are a bank, as of a search"):
    module.apply(of_space, IMAGES, train=False)
  own = pj.inherit(SPACE, of_space, NETWORK)
  assert module.apply(own, IMAGES, train=False).shape == (2, 3)
