"""ONNX: an architecture as a graph that other runtimes run.

The graph is that of deployment: channels first inside, batch norm folded into
the convolution before it. Tracing the Linen module would not give it: there a
depthwise convolution is a sum of products on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxyless_jax.exchange import onnx_blocks, onnx_cells  # noqa: F401
from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.onnx_graph import Graph
from proxyless_jax.exchange.onnx_networks import wire
from proxyless_jax.exchange.onnx_ops import convert
from proxyless_jax.space import Classifier, Edge, Network, Op, Zero
from proxyless_jax.space.checks import check_positive
from proxyless_jax.space.networks.network import check_network

OPSET = 17
INPUT, OUTPUT = "images", "logits"
ANY_BATCH = "batch"  # Name of a dimension of any size.


def to_onnx(
  network: Network,
  variables: Mapping[str, Any],
  *,
  batch: int | None = 1,
  normalisation: Normalisation | None = None,
) -> Any:
  """An architecture with its weights as an `onnx.ModelProto`.

  The model reads 'images' f32[batch, h, w, c], as the Linen module does, or
  uint8[batch, h, w, c] where it normalises them itself; and gives 'logits'
  f32[batch, classes]; without a classifier, f32[batch, h', w', c'].

  Args:
    network: an architecture of this package, or of another family that
      `exchange.onnx_networks.wire` knows.
    variables: {'params', 'batch_stats'} of the network's module.
    batch: number of images at once; None for any number.
    normalisation: normalisation to begin with; None for normalised images.

  Raises:
    ImportError: the extra `onnx` is not installed.
    ValueError: a network or an operation that has no graph, or variables of
      another network.
  """
  try:
    from onnx import checker, helper
  except ImportError as error:
    raise ImportError(
      "ONNX models need the package onnx: install proxyless-jax[onnx]"
    ) from error
  check_network("network", network)
  if batch is not None:
    check_positive(batch=batch)
  graph = Graph()
  shape = _add_network(graph, network, variables, normalisation)
  count = ANY_BATCH if batch is None else batch
  body = helper.make_graph(
    graph.nodes,
    "network",
    [
      _value(
        INPUT, [count, *network.image_shape], uint8=normalisation is not None
      )
    ],
    [_value(OUTPUT, [count, *shape])],
    graph.weights,
  )
  opsets = [helper.make_opsetid("", OPSET)]
  # The oldest format that has the opset: runtimes read those before their own.
  model = helper.make_model(body, opset_imports=opsets, ir_version=8)
  checker.check_model(model)
  return model


def _add_network(
  graph: Graph,
  network: Network,
  variables: Mapping[str, Any],
  normalisation: Normalisation | None,
) -> list[int]:
  """Adds nodes from 'images' to 'logits'; gives the shape for one example."""
  from onnx import TensorProto, helper

  x = INPUT
  if normalisation is not None:
    x = graph.add("Cast", x, to=TensorProto.FLOAT)
    x = graph.add("Mul", x, graph.weight(normalisation.scale))
    x = graph.add("Add", x, graph.weight(normalisation.bias))
  x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
  x = wire(network, graph, x, functools.partial(_edge, graph, variables))
  last = network.layers[-1]
  shape = [last.features_out]
  if not isinstance(last.op, Classifier):
    shape = [*last.shape_out]
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
  graph.nodes.append(helper.make_node("Identity", [x], [OUTPUT], name=OUTPUT))
  return shape


def _value(name: str, shape: list[int | str], *, uint8: bool = False) -> Any:
  from onnx import TensorProto, helper

  dtype = TensorProto.UINT8 if uint8 else TensorProto.FLOAT
  return helper.make_tensor_value_info(name, dtype, shape)


def _edge(
  graph: Graph, variables: Mapping[str, Any], x: str, edge: Edge
) -> str:
  if isinstance(edge.op, Zero):
    return x if edge.shortcut else graph.add("Sub", x, x)
  params, stats = (
    _subtree(variables, collection, edge.name, edge.op.name)
    for collection in ("params", "batch_stats")
  )
  has_graph = convert.dispatch(type(edge.op)) != convert.dispatch(Op)
  if has_graph and not params and edge.op.parameters(edge):
    raise ValueError(
      f"variables have no parameters of {edge.op.name!r} on edge "
      f"{edge.name!r}: expected {{'params', 'batch_stats'}} of build(network); "
      "those of a space go through pj.inherit first"
    )
  y = convert(edge.op, edge, graph, x, _joined(params, stats))
  return graph.add("Add", x, y) if edge.shortcut else y


def _subtree(tree: Any, *names: str) -> Any:
  """The part of nested dicts under some names; empty where there is none."""
  for name in names:
    tree = tree.get(name, {}) if isinstance(tree, Mapping) else {}
  return tree


def _joined(params: Any, stats: Any) -> Any:
  """Parameters as f64, with the statistics of each batch norm beside them."""
  if not isinstance(params, Mapping):
    return np.asarray(params, np.float64)
  stats = stats if isinstance(stats, Mapping) else {}
  return {
    name: _joined(params[name], stats.get(name, {}))
    if name in params
    else _joined(stats[name], {})
    for name in {**params, **stats}
  }
