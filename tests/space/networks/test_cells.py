"""Networks of cells: what fits, JSON, and what is refused."""

import dataclasses
import json

import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.space import (
  Cell,
  CellConv,
  CellNetwork,
  Classifier,
  Edge,
  MaxPool,
  Path,
  macs,
  network_from_json,
  parameters,
)


def edge(name, features_in, features_out, size=8, op=None, stride=1):
  ops = (op or CellConv(1),)
  return Edge(name, ops, features_in, features_out, stride, size)


STEM = edge("stem", 3, 4)
INPUTS = (Path(0, ()), Path(1, (edge("last", 4, 4),)))
NODE = (Path(0, ()), Path(1, (edge("pool", 4, 4, op=MaxPool(3)),)))
CELL = Cell(INPUTS, (NODE,), (Path(2, ()), Path(0, ())))
HEAD = edge("classifier", 8, 5, op=Classifier())
NETWORK = CellNetwork((STEM,), (CELL,), (HEAD,))


def with_cell(**fields):
  cell = dataclasses.replace(CELL, **fields)
  return dataclasses.replace(NETWORK, cells=(cell,))


def test_layers_are_all_edges_in_order():
  names = ["stem", "last", "pool", "classifier"]
  assert [e.name for e in NETWORK.layers] == names
  assert NETWORK.image_size == 8 and NETWORK.channels == 3
  assert NETWORK.classes == 5 and NETWORK.is_architecture
  assert parameters(NETWORK) == (3 + 2) * 4 + (4 + 2) * 4 + 9 * 5
  assert macs(NETWORK) == (12 + 16) * 64 + 40


def test_nothing_is_searched():
  assert NETWORK.edges == () and NETWORK.log10_size == 0.0
  assert NETWORK.choose([]) == NETWORK
  with pytest.raises(ValueError, match=r"edges = .*: expected none"):
    NETWORK.with_edges((STEM,))
  assert cost_table("macs", NETWORK).exact(NETWORK) == macs(NETWORK)


def test_json_gives_the_same_network():
  assert network_from_json(NETWORK.to_json()) == NETWORK
  assert hash(NETWORK) == hash(network_from_json(NETWORK.to_json()))
  data = json.loads(NETWORK.to_json())
  data["cells"][0]["nodes"][0][1]["source"] = "1"
  where = r"cells\[0\].nodes\[0\]\[1\]: source = '1': expected an integer"
  with pytest.raises(ValueError, match=where):
    network_from_json(json.dumps(data))
  del data["cells"][0]["outputs"]
  with pytest.raises(ValueError, match=r"missing fields \['outputs'\]"):
    network_from_json(json.dumps(data))


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"cells\[0\] node 0: source = 3"):
    with_cell(nodes=((Path(3, ()),),))
  wide = Path(1, (edge("wide", 4, 6),))
  with pytest.raises(ValueError, match=r"node 0 = .* expected equal shapes"):
    with_cell(nodes=((Path(0, ()), wide),))
  small = Path(0, (edge("small", 4, 4, op=MaxPool(3), stride=2),))
  with pytest.raises(ValueError, match=r"outputs = .* expected equal sizes"):
    with_cell(outputs=(Path(2, ()), small))
  five = Path(1, (edge("five", 5, 4),))
  with pytest.raises(ValueError, match="'five': features_in = 5: expected 4"):
    with_cell(nodes=((five,),))
  with pytest.raises(ValueError, match="'classifier': features_in = 8: expect"):
    with_cell(outputs=(Path(2, ()),))
  with pytest.raises(ValueError, match="one or more different names"):
    with_cell(nodes=((*NODE, NODE[1]),))
  with pytest.raises(ValueError, match=r"cells = \(\): expected one or more"):
    dataclasses.replace(NETWORK, cells=())
  with pytest.raises(ValueError, match="two paths, of sources 0 and 1"):
    with_cell(inputs=INPUTS[:1])
  with pytest.raises(ValueError, match="source = -1: expected an integer"):
    Path(-1, ())
  with pytest.raises(ValueError, match=r"paths = \(\): expected one or more"):
    with_cell(outputs=())
  with pytest.raises(ValueError, match="'after': features_in = 5: expected 4"):
    Path(0, (STEM, edge("after", 5, 4)))
  two = dataclasses.replace(STEM, ops=(CellConv(1), CellConv(3)))
  with pytest.raises(ValueError, match="has 2 candidates: choose one first"):
    dataclasses.replace(NETWORK, before=(two,))
