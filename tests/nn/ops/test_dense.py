"""The modules of DenseNet-BC, by definition in NumPy."""

import numpy as np
import pytest

from proxyless_jax.space import DenseLayer, DenseTransition, Edge


@pytest.mark.parametrize("train", [True, False])
def test_a_layer_concatenates_what_it_computes(plain, train):
  op = DenseLayer(expand=4)
  edge = Edge("any", (op,), 5, 5 + 3, 1, 6)

  def definition(x, p, s, train):
    y = plain.relu(plain.norm(x, p["reduce_bn"], s["reduce_bn"], train))
    y = plain.conv(y, p["reduce"]["kernel"])
    assert y.shape[-1] == 12
    y = plain.relu(plain.norm(y, p["grow_bn"], s["grow_bn"], train))
    return np.concatenate([x, plain.conv(y, p["grow"]["kernel"])], -1)

  plain.check(op, edge, definition, train)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size", [6, (7, 4)])
def test_a_transition_projects_and_pools(plain, size, train):
  op = DenseTransition()
  edge = Edge("any", (op,), 6, 3, 2, size)

  def definition(x, p, s, train):
    y = plain.relu(plain.norm(x, p["bn"], s["bn"], train))
    return plain.average(plain.conv(y, p["conv"]["kernel"]), 2)

  plain.check(op, edge, definition, train)


def test_a_layer_must_widen_and_keep_the_size():
  with pytest.raises(ValueError, match="expected features_out > features_in"):
    Edge("any", (DenseLayer(4),), 5, 5, 1, 6)
  with pytest.raises(ValueError, match="keeps the size: expected stride 1"):
    Edge("any", (DenseLayer(4),), 5, 8, 2, 6)
  with pytest.raises(ValueError, match="expand = 0: expected"):
    DenseLayer(0)
