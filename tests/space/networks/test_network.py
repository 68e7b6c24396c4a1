"""Networks: counts, choosing, JSON both ways, and every refusal."""

import dataclasses
import io
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.space import (
  Chain,
  Classifier,
  ConvBN,
  Edge,
  MBConv,
  Op,
  Zero,
  load_network,
  macs,
  mobile_space,
  network_from_json,
  parameters,
)


@dataclasses.dataclass(frozen=True)
class Pool(Op):
  """An operation of a user's own."""

  window: int

  @property
  def name(self):
    return f"pool_{self.window}"

  def parameters(self, edge):
    return 0

  def macs(self, edge):
    return self.window**2 * edge.features_out * edge.pixels_out

  def check(self, edge):
    if not edge.keeps_shape:
      raise ValueError(f"edge {edge.name!r}: {self.name} keeps the shape")


def _space():
  blocks = (MBConv(3, 3), MBConv(6, 5), Zero())
  return Chain(
    (Edge("stem", (ConvBN(3),), 3, 8, 2, 32),),
    (
      Edge("down", blocks[:2], 8, 16, 2, 16),
      Edge("keep", blocks, 16, 16, 1, 8, True),
    ),
    (Edge("classifier", (Classifier(),), 16, 10, 1, 8),),
  )


def _changed(part, index, **fields):
  """The JSON text of `_space()` with fields of one edge replaced."""
  data = json.loads(_space().to_json())
  data[part][index].update(fields)
  return json.dumps(data)


def test_an_untouched_network_counts_the_sum_of_its_edges():
  network = _space().choose([0, 2])
  assert parameters(network) == (9 * 3 * 8 + 16) + (
    (8 * 24 + 48) + (9 * 24 + 48) + (24 * 16 + 32)
  ) + (17 * 10)
  assert (
    macs(network)
    == 16**2 * 9 * 3 * 8 + (16**2 * 8 * 24 + 8**2 * (9 * 24 + 24 * 16)) + 160
  )


def test_properties():
  space = _space()
  assert [edge.name for edge in space.layers] == [
    "stem",
    "down",
    "keep",
    "classifier",
  ]
  assert (space.image_size, space.channels, space.classes) == (32, 3, 10)
  assert space.log10_size == pytest.approx(np.log10(2 * 3))
  assert not space.is_architecture
  assert space.choose([0, 0]).is_architecture


@pytest.mark.parametrize(
  "choices",
  [
    [1, 2],
    ["mbconv6_k5", "zero"],
    (np.str_("mbconv6_k5"), 2),
    np.array([1, 2]),
    np.array([1, 2], np.uint8),
    jnp.array([1, 2]),
  ],
)
def test_choices_are_names_or_indices(choices):
  network = _space().choose(choices)
  assert [edge.op for edge in network.edges] == [MBConv(6, 5), Zero()]
  assert network.before == _space().before
  assert network.after == _space().after


@pytest.mark.parametrize(
  "choice",
  [
    *(2, -1, np.int64(2), "zero", "MBCONV3_K3", None, 0.0, True, np.True_),
    *(np.array([1]), jnp.array(1.0)),
  ],
)
def test_a_choice_that_the_edge_lacks_is_refused(choice):
  message = r"edge 'down': no candidate .*\['mbconv3_k3', 'mbconv6_k5'\].* to 1"
  with pytest.raises(ValueError, match=message):
    _space().choose([choice, 0])


@pytest.mark.parametrize("choices", [[], [0], [0, 0, 0]])
def test_choices_are_one_per_edge(choices):
  message = f"choices has {len(choices)} entries: expected 2"
  with pytest.raises(ValueError, match=message):
    _space().choose(choices)


def test_counting_a_space_asks_for_a_choice():
  for count in (parameters, macs):
    with pytest.raises(ValueError, match="'down' has 2 candidates: choose one"):
      count(_space())


def test_an_architecture_can_be_chosen_again():
  network = _space().choose([1, 1])
  assert network.choose([0, 0]) == network


def test_networks_are_keys():
  assert {_space(): 1}[_space()] == 1
  assert _space().choose([0, 0]) != _space().choose([0, 1])
  assert len({_space().choose([i, j]) for i in (0, 1) for j in (0, 1, 2)}) == 6


def test_json_round_trip(tmp_path):
  for network in (_space(), _space().choose([1, 2])):
    path = tmp_path / "network.json"
    text = network.to_json(path)
    assert network_from_json(text) == load_network(path) == network
    assert load_network(str(path)).to_json() == text
    assert json.loads(text)["version"] == 1


def test_home_folders(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  _space().to_json("~/net.json")
  assert (tmp_path / "net.json").exists()
  assert load_network("~/net.json") == _space()


def test_an_operation_of_your_own():
  edges = (Edge("keep", (Pool(2), MBConv(3, 3)), 8, 8, 1, 4, True),)
  space = Chain((), edges, ())
  assert macs(space.choose(["pool_2"])) == 4 * 8 * 16
  assert network_from_json(space.to_json(), ops=[Pool(2)]) == space
  with pytest.raises(ValueError, match=r"edges\[0\].*operation 'pool_2'"):
    network_from_json(space.to_json(), ops=[Pool(3)])
  with pytest.raises(ValueError, match="'halve': pool_2 keeps the shape"):
    Edge("halve", (Pool(2),), 8, 8, 2, 4)


def test_an_operation_of_your_own_comes_before_a_built_in_one():
  @dataclasses.dataclass(frozen=True)
  class Free(Zero):
    def check(self, edge):
      pass

  network = Chain((Edge("only", (Free(),), 8, 4, 1, 4),), (), ())
  assert network_from_json(network.to_json(), ops=(Free(),)) == network


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "not the JSON text of a network: Expecting value"),
    ("{'version': 1}", "not the JSON text of a network"),
    ("[]", "network = []: expected the fields ['version'"),
    ("null", "network = None: expected the fields"),
    ("{}", "the fields are []: expected ['version', 'family'] and"),
    ('{"job": "train", "seed": 0}', "the fields are ['job', 'seed']: expected"),
    ('{"family": "chain"}', "version = None: expected 1"),
    ('{"version": 2}', "version = 2: expected 1"),
    ('{"version": "1"}', "version = '1': expected 1"),
    ('{"version": 1, "family": "loop"}', "family = 'loop': expected one of"),
    (
      '{"version": 1, "family": "chain", "edges": [], "extra": 0}',
      "network: missing fields ['before', 'after'], unknown ['extra']",
    ),
    (
      '{"version": 1, "family": "chain", "before": [], "edges": null, '
      '"after": []}',
      "edges = None: expected a list of edges",
    ),
    (
      '{"version": 1, "family": "chain", "before": {"a": 1}, "edges": [], '
      '"after": []}',
      "before = {'a': 1}: expected a list of edges",
    ),
    (
      '{"version": 1, "family": "chain", "before": ["stem"], "edges": [], '
      '"after": []}',
      "before[0] = 'stem': expected the fields ['name'",
    ),
    (
      '{"version": 1, "family": "chain", "before": [], "edges": [], '
      '"after": []}',
      "edge names = []: expected one or more",
    ),
  ],
)
def test_text_that_is_no_network_is_refused(text, message, tmp_path):
  with pytest.raises(ValueError, match=re.escape(message)):
    network_from_json(text)
  path = tmp_path / "broken.json"
  path.write_text(text)
  with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
    load_network(path)


@pytest.mark.parametrize(
  ("part", "index", "fields", "message"),
  [
    ("before", 0, {"features_in": "3"}, "features_in = '3': expected a pos"),
    ("before", 0, {"features_in": 3.0}, "features_in = 3.0: expected a pos"),
    ("before", 0, {"features_in": True}, "features_in = True: expected a pos"),
    ("before", 0, {"features_out": 0}, "features_out = 0: expected a pos"),
    ("before", 0, {"features_out": None}, "features_out = None: expected"),
    ("before", 0, {"size": [32]}, r"size = \[32\]: expected a positive"),
    ("before", 0, {"size": [32, 0]}, r"size = \[32, 0\]: expected a positive"),
    ("before", 0, {"size": [32, 48.0]}, r"or two, such as \(96, 160\): height"),
    ("before", 0, {"size": [32, 48, 3]}, r"size = \[32, 48, 3\]: expected a"),
    ("before", 0, {"size": "32x48"}, "size = '32x48': expected a positive"),
    ("before", 0, {"stride": 8, "size": [4, 48]}, "does not fit .* of 4x48"),
    ("before", 0, {"stride": -2}, "stride = -2: expected a positive"),
    ("before", 0, {"stride": 64}, "stride 64 does not fit .* 32x32"),
    ("before", 0, {"name": 7}, "edge name = 7: expected a text"),
    ("before", 0, {"name": ""}, "edge name = '': expected a text"),
    ("before", 0, {"shortcut": True}, "shortcut needs stride 1"),
    ("before", 0, {"shortcut": "no"}, "shortcut = 'no': expected true or"),
    ("before", 0, {"ops": "conv_k3"}, r"\.ops = 'conv_k3': expected a list"),
    ("before", 0, {"ops": None}, r"\.ops = None: expected a list of names"),
    ("before", 0, {"ops": [3]}, "operation 3: expected its name, as text"),
    ("before", 0, {"ops": [None]}, "operation None: expected its name"),
    ("before", 0, {"ops": ["conv_k4"]}, "kernel = 4: expected an odd"),
    ("before", 0, {"padding": 1}, r"unknown \['padding'\]"),
    ("edges", 1, {"ops": []}, r"ops = \[\]: expected one or more"),
    ("edges", 1, {"ops": ["zero", "zero"]}, "ops = .*: expected one or more"),
    ("edges", 1, {"ops": ["zeros"]}, "unknown operation 'zeros'"),
    ("edges", 1, {"shortcut": False}, "'zero' would cut the network"),
    ("edges", 0, {"ops": ["zero"]}, "'zero' would cut the network"),
  ],
)
def test_an_edge_that_cannot_be_is_refused(part, index, fields, message):
  where = rf"{part}\[{index}\].*"
  with pytest.raises(ValueError, match=where + message):
    network_from_json(_changed(part, index, **fields))


@pytest.mark.parametrize(
  ("part", "index", "fields", "message"),
  [
    (
      "edges",
      0,
      {"features_in": 9},
      "'down': features_in = 9: expected 8, as the output of edge 'stem'",
    ),
    (
      "edges",
      0,
      {"size": 17},
      "'down': size = 17: expected 16, as the output of edge 'stem'",
    ),
    (
      "after",
      0,
      {"size": 4},
      "'classifier': size = 4: expected 8, as the output of edge 'keep'",
    ),
    ("edges", 0, {"name": "stem"}, "edge names = .*: expected one or more"),
    (
      "before",
      0,
      {"ops": ["conv_k1", "conv_k3"]},
      "'stem' has 2 candidates",
    ),
  ],
)
def test_edges_that_do_not_fit_each_other_are_refused(
  part, index, fields, message
):
  with pytest.raises(ValueError, match=message):
    network_from_json(_changed(part, index, **fields))


@pytest.mark.parametrize(
  "field", ["name", "ops", "features_in", "features_out", "stride", "size"]
)
def test_a_missing_field_is_named(field):
  data = json.loads(_space().to_json())
  del data["edges"][1][field]
  message = rf"edges\[1\]: missing fields \['{field}'\]"
  with pytest.raises(ValueError, match=message):
    network_from_json(json.dumps(data))


def test_lists_are_refused_since_they_have_no_hash():
  space = _space()
  with pytest.raises(ValueError, match=r"edges = .*expected a tuple of Edge"):
    Chain(space.before, list(space.edges), space.after)
  with pytest.raises(ValueError, match=r"'keep': ops = .*a tuple of Op"):
    dataclasses.replace(space.edges[1], ops=list(space.edges[1].ops))
  with pytest.raises(ValueError, match=r"'keep': ops = .*a tuple of Op"):
    dataclasses.replace(space.edges[1], ops=("zero",))
  with pytest.raises(ValueError, match=r"features_in = np\.int64"):
    dataclasses.replace(space.edges[1], features_in=np.int64(16))


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_size_out_is_that_of_windows(size, stride):
  if stride > size:
    return
  edge = Edge("edge", (ConvBN(3),), 1, 1, stride, size)
  assert edge.size_out == len(range(0, size + 2 - 3 + 1, stride))


@pytest.mark.parametrize(
  ("make", "error", "message"),
  [
    (lambda folder: folder, IsADirectoryError, "expected a file, .* got a fol"),
    (lambda folder: folder / "no.json", FileNotFoundError, "is no such file"),
    (
      lambda folder: folder / "a.png",
      ValueError,
      "a.png: expected the JSON .*",
    ),
    (lambda folder: None, ValueError, "path is of type NoneType: expected the"),
    (lambda folder: 3, ValueError, "path is of type int: expected the path of"),
    (
      lambda folder: io.BytesIO(),
      ValueError,
      "path is of type BytesIO: expect",
    ),
  ],
)
def test_what_is_no_file_of_a_network(tmp_path, make, error, message):
  (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
  with pytest.raises(error, match=message):
    load_network(make(tmp_path))


@pytest.mark.parametrize("ops", [None, "mbconv3_k3", 3])
def test_operations_of_ones_own_are_a_list(tmp_path, ops):
  path = tmp_path / "network.json"
  _space().to_json(path)
  with pytest.raises(ValueError, match=r"ops = .*: expected a list of operat"):
    load_network(path, ops=ops)


@pytest.mark.parametrize("choices", [None, 3, "zero"])
def test_choices_are_a_list(choices):
  with pytest.raises(
    ValueError, match=r"choices = .*: expected a tuple of nam"
  ):
    _space().choose(choices)


def test_the_nearest_candidate_is_suggested():
  with pytest.raises(ValueError, match="; did you mean 'mbconv6_k5'"):
    _space().choose(["mbconv6k5", "mbconv3_k3"])


def test_json_goes_to_a_path_and_not_into_an_open_file():
  with pytest.raises(ValueError, match="path is of type int: expected the pat"):
    _space().to_json(3)


@pytest.mark.parametrize("count", [macs, parameters])
def test_what_is_counted_is_a_network(count):
  with pytest.raises(ValueError, match="network is 'proxyless_gpu': expected"):
    count("proxyless_gpu")
  with pytest.raises(ValueError, match="network is NoneType: expected a netw"):
    count(None)


def _with_epsilon(epsilon):
  """`_space()`, with an epsilon for all its batch norms."""

  def edge(own):
    ops = (
      dataclasses.replace(op, epsilon=epsilon) if op != Zero() else op
      for op in own.ops
    )
    return dataclasses.replace(own, ops=tuple(ops))

  space = _space()
  return dataclasses.replace(
    space,
    before=tuple(map(edge, space.before)),
    edges=tuple(map(edge, space.edges)),
    bn_momentum=0.99,
  )


def test_epsilon_and_momentum_are_of_the_description():
  space = _with_epsilon(1e-5)
  assert space != _space()
  read = network_from_json(space.to_json())
  assert read == space and hash(read) == hash(space)
  chosen = network_from_json(space.choose(["mbconv6_k5", "zero"]).to_json())
  assert chosen.edges[0].op == MBConv(6, 5, epsilon=1e-5)
  assert chosen.bn_momentum == 0.99
  data = json.loads(space.to_json())
  assert data["edges"][1]["ops"] == [
    {"name": "mbconv3_k3", "epsilon": 1e-5},
    {"name": "mbconv6_k5", "epsilon": 1e-5},
    "zero",
  ]


def test_defaults_are_not_written():
  """So files of older releases are read, and older releases read these."""
  text = _space().to_json()
  assert "epsilon" not in text and "bn_momentum" not in text
  assert network_from_json(text).before[0].op.epsilon == 1e-3


def test_a_name_alone_has_the_default_epsilon():
  own = (MBConv(6, 5, epsilon=1e-5),)
  assert network_from_json(_space().to_json(), own) == _space()


@pytest.mark.parametrize(
  "op, message",
  [
    ({"name": "mbconv3_k3", "epsilon": 1}, "epsilon = 1: expected a float"),
    ({"name": "mbconv3_k3", "epsilon": 2.0}, "epsilon = 2.0: expected a float"),
    ({"name": "mbconv3_k3", "eps": 1e-5}, "missing fields [], unknown ['eps']"),
    ({"name": "zero", "epsilon": 1e-5}, "unknown ['epsilon']"),
    ({"epsilon": 1e-5}, "operation None: expected its name"),
  ],
)
def test_an_operation_with_wrong_fields_is_refused(op, message):
  text = _changed("edges", 1, ops=[op, "mbconv6_k5"])
  with pytest.raises(ValueError, match=re.escape(message)) as caught:
    network_from_json(text)
  assert str(caught.value).startswith("edges[1].ops[0]: ")


@pytest.mark.parametrize("momentum", [1.0, -0.1, 0, None, "0.9"])
def test_an_invalid_momentum_is_refused(momentum):
  with pytest.raises(
    ValueError, match=r"bn_momentum = .*expected a float of 0"
  ):
    dataclasses.replace(_space(), bn_momentum=momentum)


def test_a_square_is_one_number_however_it_is_given():
  """What was written before there were rectangles stays the same."""
  stem = _space().before[0]
  for size in ((32, 32), [32, 32]):
    same = dataclasses.replace(stem, size=size)
    assert same == stem and hash(same) == hash(stem)
    assert type(same.size) is int and repr(same) == repr(stem)
  text = _space().to_json()
  assert '"size": 32' in text
  assert network_from_json(text.replace('"size": 32', '"size": [32, 32]')) == (
    _space()
  )


def test_a_rectangle_has_height_and_width():
  edge = Edge("edge", (ConvBN(3),), 3, 8, 2, (9, 16))
  assert edge.size_out == (5, 8) and hash(edge)
  assert (edge.shape_in, edge.shape_out) == ((9, 16, 3), (5, 8, 8))
  assert (edge.pixels_in, edge.pixels_out) == (9 * 16, 5 * 8)
  # Windows may lead to a square, which is one number again.
  assert Edge("edge", (ConvBN(3),), 3, 8, 2, (7, 8)).size_out == 4
  square = Edge("edge", (ConvBN(3),), 3, 8, 2, 9)
  assert (square.shape_in, square.shape_out) == ((9, 9, 3), (5, 5, 8))
  assert (square.pixels_in, square.pixels_out) == (81, 25)


def test_json_of_rectangles():
  network = mobile_space(image_size=(64, 96)).choose([0] * 21)
  assert (network.image_size, network.image_shape) == ((64, 96), (64, 96, 3))
  assert network_from_json(network.to_json()) == network
  assert network.layers[0].size == (64, 96)
  assert network.layers[-1].size == (2, 3)
  assert network != mobile_space(image_size=(96, 64)).choose([0] * 21)


def test_edges_of_other_rectangles_do_not_fit():
  stem, classifier = _space().before[0], _space().after[0]
  stem = dataclasses.replace(stem, size=(32, 48))
  classifier = dataclasses.replace(classifier, features_in=8, size=(24, 16))
  message = r"size = \(24, 16\): expected \(16, 24\), as the output of"
  with pytest.raises(ValueError, match=message):
    Chain((stem,), (), (classifier,))
