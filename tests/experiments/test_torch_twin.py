"""The twin computes what our supernet does, so that their times compare."""

import functools

import jax
import numpy as np
import pytest

from experiments.workloads import make_batch
from proxyless_jax.nas import gates
from proxyless_jax.nas.arch_step import arch_gradients
from proxyless_jax.nn import build, init
from tests.spaces import small_space

torch = pytest.importorskip("torch")
from experiments.torch_twin import Twin  # noqa: E402

SPACE = small_space(
  image_size=8,
  channels=3,
  classes=10,
  stem_stride=2,
  first_width=8,
  candidates=("mbconv3_k3", "mbconv3_k5", "zero"),
  head_width=16,
)
VALID = gates.valid_candidates(SPACE)


@pytest.fixture(scope="module")
def ours():
  module = build(SPACE)
  return module, init(module, jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
  return make_batch(SPACE, jax.random.key(1), 4)


def twin_of(variables, **options):
  twin = Twin(SPACE, **options)
  twin.copy_weights(SPACE, variables)
  return twin


@pytest.mark.parametrize("channels_last", (False, True))
def test_logits_of_a_drawn_path_are_ours(ours, batch, channels_last):
  module, variables = ours
  index = [1, 0]
  apply = functools.partial(
    module.apply,
    train=True,
    gates=gates.path(np.array(index), VALID),
    mutable=["batch_stats", "moments"],
  )
  want, _ = jax.jit(apply)(variables, batch["image"])
  twin = twin_of(variables, channels_last=channels_last)
  twin.draw(index)
  images, _ = twin.inputs(batch["image"], batch["label"])
  got = twin.logits(images).detach()
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", gates.MODES)
def test_gradients_of_alpha_are_ours(ours, batch, mode):
  module, variables = ours
  arch, key = np.zeros(VALID.shape, np.float32), jax.random.key(3)
  gradients = functools.partial(
    arch_gradients,
    module=module,
    valid=VALID,
    costs=(),
    mode=mode,
    label_smoothing=0.1,
    grad_accum=1,
  )
  multipliers = np.zeros(0, np.float32)
  want, _, _ = jax.jit(gradients)(arch, variables, multipliers, key, batch)
  drawn = gates.draw(key, arch, VALID, mode)
  twin = twin_of(variables, channels_last=True)
  involved = [np.flatnonzero(row).tolist() for row in drawn.involved]
  images, labels = twin.inputs(batch["image"], batch["label"])
  twin.arch_gradients(images, labels, drawn.index.tolist(), involved)
  got = [arch.grad for arch in twin.arch]
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)


def test_a_weight_step_moves_the_drawn_path_alone(ours, batch):
  twin = twin_of(ours[1], channels_last=True, amp=True)
  before = {k: v.clone() for k, v in twin.module.named_parameters()}
  twin.weight_step(*twin.inputs(batch["image"], batch["label"]), [0, 2])
  moved = {
    name.split(".")[0] + name.split(".")[2]
    for name, after in twin.module.named_parameters()
    if not torch.equal(after, before[name])
  }
  fixed = {f"{name}0" for name in ("stem", "block00", "head", "classifier")}
  assert moved == {*fixed, "block010"}
