import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import search_state
from proxyless_jax.nn import build, init
from proxyless_jax.parallel.mesh import jit_step, make_mesh, place, to_devices
from proxyless_jax.space import tree_space
from proxyless_jax.training.optimizers import weight_optimizer
from tests.spaces import small_space

DEVICES, BATCH, SIZE = 8, 16, 6


@pytest.fixture(autouse=True, scope="session")
def eight_devices():
  if jax.device_count() < DEVICES:
    pytest.skip(
      "needs 8 devices: tests/test_eight_devices.py runs it with them"
    )
  # Most of the time here is XLA's; what is computed stays the same.
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def mesh():
  return make_mesh()


MOBILE = small_space(
  image_size=SIZE,
  classes=6,
  depths=(3,),
  head_width=16,
  candidates=("mbconv4_k3", "mbconv1_k5", "mbconv2_k3", "zero"),
)


class Search:
  """A search of a tiny space, with dropout so that random numbers count."""

  def __init__(self, space):
    self.space = space
    self.module = build(space, dropout=0.3)
    self.valid = gates_lib.valid_candidates(space)
    self.tx = weight_optimizer(
      0.05, momentum=0.9, nesterov=True, weight_decay=0.01, kernels_only=False
    )
    self.arch_tx = arch_optimizer(0.05, b1=0.0, b2=0.999, weight_decay=0.0)
    table = cost_table("macs", space)
    # Its gradient has the loss in it, which is one for all devices.
    form = objective.Log(0.2, 0.6, table.max_cost / 2)
    of_both = dict(module=self.module, valid=self.valid, label_smoothing=0.1)
    self.weight = dict(of_both, tx=self.tx)
    self.arch = dict(of_both, tx=self.arch_tx)
    self.arch["costs"] = (objective.Cost("macs", table, form),)

  def state(self):
    variables = init(self.module, jax.random.key(0))
    return search_state(
      *(jax.random.key(1), variables, self.valid, self.tx, self.arch_tx),
      arch_scale=0.5,
      costs=1,
    )

  def batch(self, seed):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((BATCH, SIZE, SIZE, 2))
    mask = np.ones(BATCH, np.float32)
    mask[-5:] = 0.0  # More than a device's share.
    return {
      "image": image.astype(np.float32),
      "label": rng.integers(6, size=BATCH, dtype=np.int32),
      "mask": mask,
    }

  def run(self, step, mesh, sharded=False, rounds=2, state=None, **settings):
    """The state and metrics after some rounds of a step, as NumPy's."""
    step = functools.partial(step, **settings, mesh=mesh)
    step = jit_step(step, mesh, sharded)
    # A copy: the step is donated it.
    state = jax.tree.map(jnp.copy, state or self.state())
    state, seen = place(state, mesh, sharded), []
    for i in range(rounds):
      state, metrics = step(state, to_devices(self.batch(i), mesh))
      state = state.replace(step=jnp.add(state.step, 1))
      seen.append(metrics)
    return numbers(state), numbers(seen)


@pytest.fixture(scope="session")
def search():
  return Search(MOBILE)


@pytest.fixture(scope="session")
def tree_search():
  space = tree_space(
    image_size=SIZE,
    channels=2,
    classes=6,
    stem_width=4,
    alpha=4,
    depths=(2,),
    candidates=("identity", "sep_conv_3", "max_pool_3"),
  )
  return Search(space)


def numbers(tree):
  """Every leaf as NumPy's, keys as their data; the same on all devices."""

  def number(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    if leaf.sharding.is_fully_replicated:
      copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
      for copy in copies[1:]:
        np.testing.assert_array_equal(copy, copies[0])
    return np.asarray(leaf)

  return jax.tree.map(number, tree)
