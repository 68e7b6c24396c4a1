"""What Linen shows of an MBConv."""

import jax
import jax.numpy as jnp
import pytest

from proxyless_jax.nn import make
from proxyless_jax.space import Edge, MBConv, NormSepConv


@pytest.mark.parametrize(
  "op, norms",
  [
    (MBConv(3, 3), {"expand_bn", "depthwise_bn", "project_bn"}),
    (NormSepConv(3), {"bn"}),
  ],
  ids=lambda value: getattr(value, "name", None),
)
def test_intermediates_of_inference_have_every_norm(op, norms):
  edge = Edge("one", (op,), 4, 4, 1, 5)
  module = make(op, edge, name=None, bn_momentum=0.9, dropout=0.0)
  x = jnp.ones((1, 5, 5, 4))
  variables = module.init(jax.random.key(0), x, False)
  _, found = module.apply(
    variables,
    x,
    False,
    capture_intermediates=True,
    mutable=["intermediates"],
  )
  assert norms <= set(found["intermediates"])
