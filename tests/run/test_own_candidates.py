"""A user's own operation goes through a whole run: search, train, evaluate."""

import dataclasses

import flax.linen as nn
import pytest

import proxyless_jax as pj
from proxyless_jax.run.storage.json_files import read_json

pytest.importorskip("mlxtend")


@dataclasses.dataclass(frozen=True)
class Pointwise(pj.Op):
  """1x1 convolution with bias."""

  name = "own_pointwise"

  def parameters(self, edge):
    return (edge.features_in + 1) * edge.features_out

  def macs(self, edge):
    return edge.features_in * edge.features_out * edge.pixels_out


@pj.make.register
def _(op: Pointwise, edge, *, name, bn_momentum, dropout):
  del op, bn_momentum, dropout
  return _Module(edge.features_out, edge.stride, name=name)


class _Module(nn.Module):
  features: int
  stride: int

  @nn.compact
  def __call__(self, x, train):
    del train
    return nn.Conv(self.features, (1, 1), (self.stride, self.stride))(x)


def test_own_operation_in_a_config(make_config, tmp_path):
  config = make_config(
    space__candidates=(Pointwise(), "zero"), search__costs={}
  )
  result = pj.search(config, tmp_path)
  saved = read_json(tmp_path / "config.json")
  assert saved["space"]["candidates"] == ["own_pointwise", "zero"]
  path = tmp_path / "architecture.json"
  network = pj.load_network(path, ops=[Pointwise()])
  assert pj.macs(network) == result["macs"]
  again = pj.evaluate({**config, "job": "evaluate"}, tmp_path)
  assert again["top1"] == result["top1"]
  assert again["edges_off_argmax"] == result["edges_off_argmax"]
  run = pj.load_run(tmp_path, ops=[Pointwise()])
  assert run.network == network and run.predict([]).shape == (0, 10)
