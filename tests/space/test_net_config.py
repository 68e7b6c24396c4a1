"""Files of the authors: they give our networks, or are refused by name."""

import copy
import json
import re
import types
from fractions import Fraction

import pytest

import proxyless_jax as pj
from proxyless_jax.run.architecture import find_network
from proxyless_jax.space import MBConv, NormSepConv, network_from_json

RELEASED = [f"proxyless_{n}" for n in ("cpu", "gpu", "mobile", "mobile_14")]

TREE = pj.tree_space(
  image_size=8, classes=3, stem_width=4, alpha=4, depths=(1, 1)
).choose(
  [
    *("dil_conv_3", "identity", "max_pool_3", "avg_pool_3"),
    *("sep_conv_3", "sep_conv_5", "sep_conv_7", "identity"),
    *("dil_conv_3", "max_pool_3", "identity", "sep_conv_3"),
  ]
  * 2
)
CHAIN = pj.mobile_space(
  image_size=32,
  classes=5,
  stem_width=8,
  first_width=8,
  widths=(8, 16),
  depths=(2, 1),
  strides=(2, 1),
  head_width=24,
).choose(["mbconv3_k5", "zero", "mbconv6_k3"])


@pytest.fixture
def chain(net_config):
  """The file of CHAIN, to be changed; its blocks are 4, of which 2 is zero."""
  return net_config.of_chain(CHAIN, bn={"momentum": 0.1, "eps": 1e-3})


@pytest.fixture
def tree(net_config):
  """The file of TREE, to be changed."""
  return net_config.of_tree(TREE)


def read(data, **shape):
  return network_from_json(json.dumps(data), **shape)


@pytest.mark.parametrize("name", RELEASED)
def test_files_of_chains_give_the_zoos_networks(net_config, name, tmp_path):
  network = pj.zoo(name)
  data = net_config.of_chain(network, bn={"momentum": 0.1, "eps": 1e-3})
  path = tmp_path / "net.config"
  path.write_text(json.dumps(data))
  assert pj.load_network(path) == network
  # The default of their code.
  del data["bn"]
  path.write_text(json.dumps(data))
  assert pj.load_network(path) == network


def test_the_file_of_the_tree_gives_the_zoos_network(net_config, tmp_path):
  network = pj.zoo("proxyless_cifar")
  path = tmp_path / "net.config"
  path.write_text(json.dumps(net_config.of_tree(network)))
  assert pj.load_network(path) == network


def test_small_files(chain, tree):
  assert read(chain, image_size=32) == CHAIN
  assert read(tree, image_size=8) == TREE


def test_batch_norms_are_those_of_the_file(chain, tree):
  for data, size, epsilon in ((chain, 32, 1e-3), (tree, 8, 1e-5)):
    plain = read(data, image_size=size)
    data["bn"] = {"momentum": 0.03, "eps": 0.02}
    network = read(data, image_size=size)
    assert network.bn_momentum == pj.build(network).bn_momentum == 0.97
    pairs = list(zip(network.layers, plain.layers, strict=True))
    assert [a.op.name for a, _ in pairs] == [b.op.name for _, b in pairs]
    changed = 0
    for a, b in pairs:
      if hasattr(a.op, "epsilon"):
        assert (a.op.epsilon, b.op.epsilon) == (0.02, epsilon)
        changed += 1
    assert changed > 4
    assert network_from_json(network.to_json()) == network


def test_a_file_is_read_for_other_data(chain, tree):
  for data in (chain, tree):
    network = read(data, image_size=16, channels=1, classes=7)
    shape = network.image_size, network.channels, network.classes
    assert shape == (16, 1, 7)
    assert read(data, image_size=(16, 16)).image_size == 16
    assert read(data, image_size=(16, 24)).image_size == (16, 24)
  assert read(chain).image_size == 224
  message = "kernel_size = 4: expected 16, the last map of images of 32 pixels"
  with pytest.raises(ValueError, match=message):
    read(tree)
  for field in ("image_size", "channels", "classes"):
    with pytest.raises(ValueError, match="= 0: expected a positive integer"):
      read(chain, **{field: 0})


def test_files_of_our_own_have_one_shape():
  text = CHAIN.to_json()
  shape = dict(image_size=32, channels=3, classes=5)
  assert network_from_json(text, **shape) == CHAIN
  message = "got image_size = 32 where the data have 64: use another"
  with pytest.raises(ValueError, match=message):
    network_from_json(text, image_size=64)


def test_a_byte_order_mark_before_the_text(chain, tmp_path):
  path = tmp_path / "net.config"
  path.write_text(json.dumps(chain), encoding="utf-8-sig")
  assert pj.load_network(path) == network_from_json(json.dumps(chain))


def test_a_config_may_name_a_file(chain, tmp_path):
  path = tmp_path / "net.config"
  path.write_text(json.dumps(chain))

  data = types.SimpleNamespace(image_size=64, channels=1)
  network = find_network(str(path), tmp_path, data, classes=10)
  assert (network.image_size, network.channels, network.classes) == (64, 1, 10)


def mcunet(data):
  """MCUNet's form: more fields, lists of channels, no head, a resolution."""
  data["bn"] = {"momentum": 0.1, "eps": 1e-05, "ws_eps": None}
  data["feature_mix_layer"] = None
  data["resolution"] = 48
  data["classifier"]["in_features"] = 16
  for block in data["blocks"]:
    inner, shortcut = block["mobile_inverted_conv"], block["shortcut"]
    if inner["name"] == "ZeroLayer":
      block["mobile_inverted_conv"] = None
      continue
    if shortcut:
      for field in ("in_channels", "out_channels"):
        shortcut[field] = [shortcut[field]]
    inner.update(mid_channels=None, act_func="relu6", use_se=False)
    if inner["expand_ratio"] > 1:
      inner["mid_channels"] = int(inner["expand_ratio"] * inner["in_channels"])
  return data


def test_mcunets_form(chain):
  data = mcunet(chain)
  data["blocks"][1]["mobile_inverted_conv"]["mid_channels"] = 20
  data["blocks"][3]["mobile_inverted_conv"].update(
    act_func="relu", mid_channels=4
  )
  network = read(data)
  assert network.image_size == 48 and read(data, image_size=32).image_size == 32
  assert [edge.name for edge in network.layers] == [
    *("stem", "block00", "block01", "block02", "block03", "classifier")
  ]
  assert [edge.op.name for edge in network.layers[1:]] == [
    *("mbconv1_k3", "mbconv5over2_k5", "zero"),
    *("mbconv1over2_k3_relu", "classifier"),
  ]
  assert network.edges[0].op == MBConv(Fraction(5, 2), 5, epsilon=1e-5)
  # Their code rounds where the file has a ratio alone.
  inner = data["blocks"][1]["mobile_inverted_conv"]
  inner.update(mid_channels=None, expand_ratio=2.6)
  assert read(data).edges[0].op.hidden(network.edges[0]) == 21


def test_what_changes_nothing_is_taken(chain, tree):
  chain["first_conv"]["has_shuffle"] = True
  chain["blocks"][1]["shortcut"] = {"name": "ZeroLayer", "stride": 1}
  chain["blocks"][2]["shortcut"] = None  # Their code gives the input.
  assert read(chain, image_size=32) == CHAIN
  tree.update(cell_drop_rate=0, cell_drop_scheme="linear", tree_node_config={})
  assert read(tree, image_size=8) == TREE


def test_a_field_that_is_absent_has_their_default(chain, tree):
  for field in ("dilation", "groups", "bias", "has_shuffle", "dropout_rate"):
    del chain["first_conv"][field]
  del chain["blocks"][1]["mobile_inverted_conv"]["stride"]
  chain["blocks"][1]["mobile_inverted_conv"]["kernel_size"] = 3
  network = read(chain, image_size=32)
  assert network.edges[0].stride == 1 and network.edges[0].op.kernel == 3
  del tree["blocks"][1]["cell"]["child_nodes"][0]["merge_type"]
  assert read(tree, image_size=8) == TREE


def test_nodes_have_what_the_file_says_for_all(tree):
  def nodes(node):
    yield node
    for child in node["child_nodes"]:
      if child:
        yield from nodes(child)

  for block in tree["blocks"][1:-1]:
    for node in nodes(block["cell"]["child_nodes"][0]):
      node["has_branch_bn"], node["path_drop_rate"] = False, 0.5
  tree["tree_node_config"] = {"has_branch_bn": True, "path_drop_rate": 0}
  assert read(tree, image_size=8) == TREE


def test_dropout_is_left_to_the_training(chain):
  chain["classifier"]["dropout_rate"] = 0.2
  message = r"classifier\.dropout_rate = 0\.2 is left to the training"
  with pytest.warns(UserWarning, match=message):
    assert read(chain, image_size=32) == CHAIN


def change(data, path, value):
  """Sets a field by its path in the file, as errors have it."""
  *way, last = re.findall(r"\w+", path)
  for step in way:
    data = data[int(step) if step.isdigit() else step]
  data[int(last) if last.isdigit() else last] = value


CONV, BLOCK = "first_conv", "blocks[1].mobile_inverted_conv"


@pytest.mark.parametrize(
  "path, value, message",
  [
    ("name", "MobileNetV3", '= "MobileNetV3": expected "ProxylessNASNets" or'),
    ("name", None, 'name = null: expected "ProxylessNASNets" or "PyramidTree'),
    ("bn", {"momentum": 0.1}, "bn.eps is missing: expected a number between 0"),
    ("bn.momentum", None, "= null: expected a number above 0, at most 1"),
    ("bn.eps", 0, "= 0: expected a number between 0 and 1"),
    ("bn.ws_eps", 1e-5, "= 1e-05: expected null"),
    ("bn", [1], "bn = [1]: expected an object with fields"),
    ("resolution", "160", '= "160": expected a positive integer'),
    ("input_quant", 8, "= 8: no such field is supported: expected name, bn"),
    (f"{CONV}.dilation", 2, "= 2: expected 1"),
    (f"{CONV}.groups", 3, "= 3: expected 1"),
    (f"{CONV}.bias", True, "= true: expected false"),
    (f"{CONV}.use_bn", False, "= false: expected true"),
    (f"{CONV}.dropout_rate", 0.1, "= 0.1: expected 0"),
    (f"{CONV}.act_func", "h_swish", '"h_swish": expected "relu6" or "relu" or'),
    (f"{CONV}.ops_order", "bn_act_weight", 'expected "weight_bn_act"'),
    (f"{CONV}.kernel_size", [3, 5], "= [3, 5]: expected an odd positive integ"),
    (f"{CONV}.kernel_size", 4, "= 4: expected an odd positive integer"),
    (f"{CONV}.padding", 1, "= 1: no such field is supported"),
    (f"{CONV}.name", "DepthConvLayer", 'expected "ConvLayer"'),
    (
      "feature_mix_layer.in_channels",
      9,
      "= 9: expected 16, the width of the layer",
    ),
    ("classifier.bias", False, "= false: expected true"),
    ("classifier.in_features", 9, "= 9: expected 24, the width of"),
    ("classifier.use_bn", True, "= true: expected false"),
    ("classifier.dropout_rate", 1, "= 1: expected a number of 0 or more"),
    ("blocks", {}, "= {}: expected a list of objects"),
    ("blocks[1]", None, "= null: expected an object with fields"),
    ("blocks[1].name", "DenseBlock", 'expected "MobileInvertedResidualBlock"'),
    (
      "blocks[0].shortcut",
      {"name": "ConvLayer"},
      'shortcut.name = "ConvLayer": expected "IdentityLayer" or "ZeroLayer"',
    ),
    ("blocks[2].shortcut.use_bn", True, "= true: expected false"),
    ("blocks[2].shortcut.in_channels", [4, 4], "= [4, 4]: expected a positive"),
    ("blocks[2].mobile_inverted_conv.stride", 2, "= 2: expected 1"),
    (f"{BLOCK}.name", "PoolingLayer", 'expected "MBInvertedConvLayer" or "Zer'),
    (
      f"{BLOCK}.in_channels",
      24,
      "= 24: expected 8, the width of the layer before it",
    ),
    (f"{BLOCK}.use_se", True, "= true: expected false"),
    (f"{BLOCK}.groups", 2, "= 2: expected null or 1"),
    (f"{BLOCK}.act_func", "h_swish", 'expected "relu6" or "relu"'),
    (f"{BLOCK}.expand_ratio", 0.5, "= 0.5: expected a number of 1 or more"),
    (
      f"{BLOCK}.mid_channels",
      2.5,
      "= 2.5: expected null or a positive integer",
    ),
    (f"{BLOCK}.mid_channels", 8, "expand_ratio = 3.0 with 8 hidden channels"),
    (
      "blocks[0].mobile_inverted_conv.mid_channels",
      16,
      "expand_ratio = 1.0 with 16 hi",
    ),
  ],
)
def test_what_a_chain_can_not_be_is_refused_by_name(
  chain, path, value, message, tmp_path
):
  change(chain, path, value)
  file = tmp_path / "net.config"
  file.write_text(json.dumps(chain))
  with pytest.raises(ValueError, match=re.escape(message)) as refused:
    pj.load_network(file, image_size=32)
  text = str(refused.value)
  assert text.startswith(f"{file}: {path.split('.')[0]}") and "\n" not in text
  if message.startswith("="):
    assert f"{path} {message}" in text


CELL = "blocks[1].cell"
ROOT = f"{CELL}.child_nodes[0]"
HALF = f"{ROOT}.child_nodes[1]"


@pytest.mark.parametrize(
  "path, value, message",
  [
    ("cell_drop_rate", 0.1, "= 0.1: expected 0"),
    ("tree_node_config", [], "= []: expected an object"),
    ("tree_node_config", {"path_drop_rate": 0.1}, "rate = 0.1: expected 0"),
    ("blocks", [], "= []: expected a TransitionBlock, ResidualTreeBlocks, a"),
    ("blocks[0].layers", [], "= []: expected 2 of them: ConvLayer, IdentityL"),
    ("blocks[0].layers[0].use_bn", True, "= true: expected false"),
    ("blocks[0].layers[1].act_func", "tanh", '= "tanh": expected null or "re'),
    ("blocks[1].name", "TransitionBlock", 'expected "ResidualTreeBlock"'),
    ("blocks[1].cell_drop_rate", 0.1, "= 0.1: expected 0"),
    ("blocks[1].final_bn", False, "= false: expected true"),
    ("blocks[1].in_bottle", None, "= null: expected an object with fields"),
    (
      "blocks[1].in_bottle.stride",
      2,
      "= 2: expected 1: the cell may have more",
    ),
    (
      "blocks[1].out_bottle.in_channels",
      7,
      "= 7: expected 6, the width of the layer",
    ),
    (
      "blocks[1].out_bottle.ops_order",
      "weight_bn_act",
      'expected "bn_act_weig',
    ),
    ("blocks[2].shortcut.pool_type", "max", '= "max": expected "avg"'),
    ("blocks[2].shortcut.kernel_size", 3, "= 3: expected 2"),
    (f"{CELL}.split_type", "copy", '= "copy": expected null'),
    (f"{CELL}.edges[0].dilation", 2, "= 2: expected 1"),
    (f"{ROOT}.merge_type", "concat", '= "concat": expected "add"'),
    (f"{ROOT}.has_branch_bn", False, "= false: expected true"),
    (f"{ROOT}.path_drop_rate", 0.2, "= 0.2: expected 0"),
    (f"{ROOT}.child_nodes", [None, None], "a node for each part of the chan"),
    (f"{HALF}.split_type", "split", '= "split": expected "copy"'),
    (f"{HALF}.edges[0].name", "ZeroLayer", 'expected "DepthConvLayer" or "Po'),
    (f"{HALF}.child_nodes[0]", None, "expected 2 nodes, or as many nulls"),
    (f"{HALF}.child_nodes", [None, None], "trees of one depth"),
    ("blocks[3].layers[0].pool_type", "max", '= "max": expected "avg"'),
    ("blocks[3].layers[0].stride", 2, "= 2: expected 4"),
  ],
)
def test_what_a_tree_can_not_be_is_refused_by_name(tree, path, value, message):
  change(tree, path, value)
  with pytest.raises(ValueError, match=re.escape(message)) as refused:
    read(tree, image_size=8)
  assert "\n" not in str(refused.value)
  if message.startswith("="):
    assert f"{path} {message}" in str(refused.value)


@pytest.mark.parametrize("field", ["first_conv", "blocks", "classifier"])
def test_a_part_that_is_missing_is_named(chain, field):
  del chain[field]
  with pytest.raises(ValueError, match=f"^{field} is missing: expected a"):
    read(chain)


def test_nodes_of_several_widths_are_refused(tree):
  node = tree["blocks"][1]["cell"]["child_nodes"][0]["child_nodes"][0]
  for field in ("edges", "child_nodes"):
    node[field].append(copy.deepcopy(node[field][0]))
  half = "blocks[1].cell.child_nodes[0].child_nodes[1].edges"
  message = re.escape(half) + ".*: expected 3, as at every node of the block"
  with pytest.raises(ValueError, match=message):
    read(tree, image_size=8)


def test_dilations_of_trees(tree):
  edge = tree["blocks"][1]["cell"]["child_nodes"][0]["child_nodes"][0]["edges"]
  assert edge[0]["dilation"] == 2
  assert TREE.blocks[0].edges[0].op == NormSepConv(3, dilated=True)
  edge[0]["dilation"] = 3
  with pytest.raises(ValueError, match="dilation = 3: expected 1 or 2"):
    read(tree, image_size=8)
