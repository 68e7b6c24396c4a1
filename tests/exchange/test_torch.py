"""State dicts in and out: golden logits, round trips, and every refusal.

The same against PyTorch itself is in `test_torch_logits.py`.
"""

import builtins
import io
import json
import pathlib
import zlib

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import proxyless_jax as pj
from proxyless_jax.exchange.layouts import entries
from proxyless_jax.nas import gates
from proxyless_jax.nn import banks
from tests.spaces import small_space

HERE = pathlib.Path(__file__).parent
GOLDEN_CIFAR = HERE / "golden_cifar.json"
RELEASED = ["cpu", "gpu", "mobile", "mobile_14", "cifar"]


def chain(classes, channels=3):
  space = small_space(
    image_size=8,
    stem_stride=2,
    first_width=8,
    depths=(3,),
    candidates=("mbconv3_k5", "mbconv6_k3", "zero"),
    classes=classes,
    channels=channels,
  )
  return space.choose(["mbconv3_k5", "zero", "mbconv6_k3"])


def tree(**task):
  space = pj.tree_space(
    image_size=4, stem_width=4, alpha=4, depths=(1, 1), **task
  )
  rest = ["max_pool_3", "identity"] * 11
  return space.choose(["sep_conv_3", "dil_conv_3", *rest])


CHAIN, TREE = chain(classes=3), tree(classes=3)

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


def golden_weights(network, convs=1.0):
  """The rule of the golden files; `convs` is 0.4 in `golden_cifar.json`."""
  state_dict = {}
  for name, shape, _ in entries(network):
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rpartition(".")[2]
    if last == "running_mean":
      n = 0.1 * n
    elif last == "running_var":
      n = 1 + 0.1 * np.abs(n)
    elif len(shape) == 1:
      n = 1 + 0.1 * n if last == "weight" else 0.1 * n
    elif len(shape) == 4:
      n = convs * n * np.sqrt(2 / np.prod(shape[1:]))
    elif len(shape) == 2:
      n = 0.03 * n
    dtype = np.float32 if last != "num_batches_tracked" else np.int64
    state_dict[name] = np.asarray(n, dtype)
  return state_dict


def golden_images(size, seed):
  draw = np.random.default_rng(seed).standard_normal((2, 3, size, size))
  return draw.astype(np.float32).transpose(0, 2, 3, 1)


def logits_of(network, variables, images, gates=None):
  module = pj.build(network)

  @jax.jit
  def run(variables, images):
    return module.apply(variables, images, train=False, gates=gates)

  return run(variables, images)


def check_golden(logits, expected):
  """To 1e-5 of the largest."""
  atol = 1e-5 * np.abs(expected).max()
  assert_allclose(logits, expected, rtol=0, atol=atol)


def test_golden_logits_of_proxyless_mobile():
  golden = json.loads((HERE / "golden_mobile.json").read_text())
  network = pj.zoo("proxyless_mobile")
  variables = pj.from_torch(network, golden_weights(network))
  logits = logits_of(network, variables, golden_images(224, seed=0))
  # Relative to the typical logit: some are near zero.
  atol = 1e-3 * np.mean(golden["abs_mean"])
  assert_allclose(logits[:, :8], golden["logits_first8"], rtol=0, atol=atol)
  assert_allclose(np.abs(logits).mean(1), golden["abs_mean"], rtol=1e-3)
  assert_array_equal(logits.argmax(1), golden["argmax"])


def test_golden_logits_of_the_first_cifar_blocks():
  """Of the first 6, in stages of 2: all 54 compile for a minute."""
  golden = json.loads(GOLDEN_CIFAR.read_text())["two_blocks_a_stage"]
  released = pj.zoo("proxyless_cifar")
  space = pj.tree_space(depths=(2, 2, 2))
  network = space.choose([edge.op.name for edge in released.edges[:72]])
  variables = pj.from_torch(network, golden_weights(network, convs=0.4))
  logits = logits_of(network, variables, golden_images(32, seed=1))
  check_golden(logits, golden["logits"])


def test_golden_logits_of_the_cifar_network_as_a_path_of_its_space():
  """A supernet runs its 54 blocks as 14 programs."""
  golden = json.loads(GOLDEN_CIFAR.read_text())["proxyless_cifar"]
  space, network = pj.tree_space(), pj.zoo("proxyless_cifar")
  variables = pj.from_torch(network, golden_weights(network, convs=0.4))
  variables = in_space(space, network, jax.device_get(variables))
  index = [e.index(n.op.name) for e, n in zip(space.edges, network.edges)]
  path = gates.path(np.array(index), gates.valid_candidates(space))
  logits = logits_of(space, variables, golden_images(32, seed=1), path)
  check_golden(logits, golden["logits"])


def in_space(space, network, variables):
  """An architecture's variables on its path; all others are zeros."""
  ops = {edge.name: edge.op for edge in network.layers}
  placed = {}
  for collection, tree in variables.items():
    placed[collection] = named = dict(tree)
    for own in banks(space):
      rows = np.zeros(
        (len(own.edges), len(own.form.ops), own.length(collection)), np.float32
      )
      for row, edge in zip(rows, own.edges):
        op, mine = ops[edge.name], named.pop(edge.name, None)
        if mine:
          row[edge.index(op.name)] = own.pack(op, collection, mine[op.name])
      named[own.name] = rows
  return placed


@pytest.mark.parametrize("name", RELEASED)
def test_round_trips_keep_every_bit(name):
  network = pj.zoo(f"proxyless_{name}")
  state_dict = golden_weights(network)
  variables = pj.from_torch(network, state_dict)
  again = pj.to_torch(network, variables)
  assert list(again) == list(state_dict)
  for entry, array in again.items():
    if entry.endswith("num_batches_tracked"):
      assert array == 0 and array.dtype == np.int64
    else:
      assert array.dtype == np.float32
      assert array.tobytes() == state_dict[entry].tobytes(), entry
  jax.tree.map(assert_array_equal, pj.from_torch(network, again), variables)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert count == pj.parameters(network)


@pytest.mark.parametrize("network", [CHAIN, TREE], ids=["chain", "tree"])
def test_variables_are_those_of_the_module(network):
  variables = pj.init(pj.build(network), jax.random.key(0))
  again = pj.from_torch(network, pj.to_torch(network, variables))
  jax.tree.map(assert_array_equal, again, variables)


def test_names_and_shapes_are_the_released_ones():
  shapes = {entry.name: entry.shape for entry in entries(CHAIN)}
  block = "blocks.1.mobile_inverted_conv"
  assert shapes[f"{block}.inverted_bottleneck.conv.weight"] == (24, 8, 1, 1)
  assert shapes[f"{block}.depth_conv.conv.weight"] == (24, 1, 5, 5)
  assert shapes[f"{block}.point_linear.conv.weight"] == (8, 24, 1, 1)
  assert shapes[f"{block}.point_linear.bn.running_var"] == (8,)
  # The first block expands by 1; the third is dropped, and counted.
  assert "blocks.0.mobile_inverted_conv.depth_conv.bn.bias" in shapes
  assert not [n for n in shapes if n.startswith("blocks.2.")]
  first = "blocks.0.mobile_inverted_conv.inverted_bottleneck"
  assert not [n for n in shapes if n.startswith(first)]
  assert "blocks.3.mobile_inverted_conv.depth_conv.conv.weight" in shapes
  assert shapes["feature_mix_layer.conv.weight"] == (8, 8, 1, 1)
  assert shapes["classifier.linear.weight"] == (3, 8)
  shapes = {entry.name: entry.shape for entry in entries(TREE)}
  assert shapes["blocks.0.layers.0.conv.weight"] == (4, 3, 3, 3)
  assert shapes["blocks.1.cell.edges.0.conv.weight"] == (12, 3, 3, 3)
  root = "blocks.1.cell.child_nodes.0"
  assert shapes[f"{root}.branch_bns.1.weight"] == (6,)
  edges = f"{root}.child_nodes.0.edges"
  assert shapes[f"{edges}.0.depth_conv.weight"] == (6, 1, 3, 3)
  assert shapes[f"{edges}.1.point_conv.weight"] == (6, 6, 1, 1)
  assert "blocks.3.layers.0.bn.num_batches_tracked" in shapes


def test_every_edge_of_a_tree_has_the_released_place():
  space = pj.tree_space(image_size=4, stem_width=4, alpha=2, depths=(1,))
  names = []
  for i in range(12):
    choices = ["identity"] * 12
    choices[i] = "sep_conv_3"
    found = [
      entry.name.removesuffix(".depth_conv.weight")
      for entry in entries(space.choose(choices))
      if entry.name.endswith("depth_conv.weight")
    ]
    names.extend(n.removeprefix("blocks.1.cell.child_nodes.0.") for n in found)
  upper = [(h, e) for h in range(2) for e in range(2)]
  assert names[:4] == [f"child_nodes.{h}.edges.{e}" for h, e in upper]
  assert names[4:] == [
    f"child_nodes.{h}.child_nodes.{e}.edges.{f}"
    for h, e in upper
    for f in range(2)
  ]


def test_the_layout_is_the_same_without_the_shuffle():
  sizes = dict(image_size=4, stem_width=4, alpha=2, depths=(1,))
  with_, without = (
    [
      (entry.name, entry.shape)
      for entry in entries(
        pj.tree_space(**sizes, shuffle=shuffle).choose([0] * 12)
      )
    ]
    for shuffle in (True, False)
  )
  assert with_ == without


def test_counters_may_be_missing():
  state_dict = {
    name: array
    for name, array in golden_weights(CHAIN).items()
    if not name.endswith("num_batches_tracked")
  }
  pj.from_torch(CHAIN, state_dict)


def test_what_does_not_fit_is_listed_at_once():
  state_dict = golden_weights(CHAIN)
  del state_dict["first_conv.bn.bias"]
  state_dict["blocks.9.weight"] = np.zeros((3, 2), np.float32)
  state_dict["classifier.linear.bias"] = np.zeros(4, np.float32)
  with pytest.raises(ValueError) as refused:
    pj.from_torch(CHAIN, state_dict)
  assert str(refused.value).endswith(
    ", or damaged: missing: first_conv.bn.bias [8]; extra: blocks.9.weight "
    "[3, 2]; misshapen: classifier.linear.bias [4], expected [3]"
  )


def test_long_lists_are_cut():
  with pytest.raises(ValueError, match=r"; and \d+ more$"):
    pj.from_torch(CHAIN, {})


def test_transposed_kernels_are_misshapen():
  """Square ones could not be told apart: these are not square."""
  variables = pj.from_torch(CHAIN, golden_weights(CHAIN))
  kernel = variables["params"]["classifier"]["classifier"]["kernel"]
  variables["params"]["classifier"]["classifier"]["kernel"] = kernel.T
  expected = (
    r"misshapen: params/classifier/classifier/kernel \[3, 8\], "
    r"expected \[8, 3\]"
  )
  with pytest.raises(ValueError, match=expected):
    pj.to_torch(CHAIN, variables)


def test_variables_of_another_network_are_refused():
  variables = pj.from_torch(CHAIN, golden_weights(CHAIN))
  with pytest.raises(
    ValueError, match=r"(?s)missing: params/stem.*extra: batch_"
  ):
    pj.to_torch(TREE, variables)


def test_integers_are_refused():
  state_dict = golden_weights(CHAIN)
  state_dict["classifier.linear.bias"] = np.zeros(3, np.int8)
  with pytest.raises(ValueError, match=r"classifier\.linear\.bias is int8"):
    pj.from_torch(CHAIN, state_dict)


def test_numbers_that_are_not_finite_are_refused_by_name():
  state_dict = golden_weights(CHAIN)
  state_dict["first_conv.bn.running_var"][3] = np.nan
  state_dict["classifier.linear.bias"] = np.array([1, 2, 1e39])
  expected = (
    r"in first_conv\.bn\.running_var; classifier\.linear\.bias: damaged"
  )
  with pytest.raises(ValueError, match=expected):
    pj.from_torch(CHAIN, state_dict)


def test_a_path_is_no_state_dict():
  with pytest.raises(ValueError, match=r"is a str: .* by `read_torch`"):
    pj.from_torch(CHAIN, "weights.pth")


def test_networks_without_a_released_layout_are_refused():
  space = pj.mobile_space(candidates=("mbconv3_k3", "mbconv3_k3_se4"))
  with pytest.raises(ValueError, match="2 candidates: choose one first"):
    entries(space)
  with pytest.raises(ValueError, match=r"'block01': .* 'mbconv3_k3_se4'"):
    entries(space.choose([1] * 21))
  space = pj.tree_space(depths=(1,), candidates=("mbconv3_k3",))
  with pytest.raises(ValueError, match=r"'block01_edge0_0': .* 'mbconv3_k3'"):
    entries(space.choose([0] * 12))


@pytest.fixture
def no_pytorch(monkeypatch):
  real = builtins.__import__

  def blocked(name, *args, **kwargs):
    if name == "torch":
      raise ImportError("blocked")
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", blocked)


def test_files_need_pytorch(no_pytorch, tmp_path):
  path = tmp_path / "weights.pth"
  path.write_bytes(b"PK")
  with pytest.raises(ImportError, match=r"proxyless-jax\[torch\]"):
    pj.read_torch(path)
  with pytest.raises(ImportError, match=r"proxyless-jax\[torch\]"):
    pj.write_torch(path, {})


def test_paths_are_checked_before_pytorch(no_pytorch, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  with pytest.raises(ValueError, match=f"^{tmp_path}/w.pth: .*found none: cor"):
    pj.read_torch("~/w.pth")
  path = tmp_path / "none" / "weights.pth"
  with pytest.raises(ValueError, match=f"^{path}: .*found none: correct"):
    pj.read_torch(path)
  with pytest.raises(ValueError, match=f"^{tmp_path}: .*found a folder"):
    pj.read_torch(tmp_path)
  with pytest.raises(ValueError, match=f"^{path}: expected a folder"):
    pj.write_torch(path, {})
  for function in (pj.read_torch, lambda file: pj.write_torch(file, {})):
    with pytest.raises(
      ValueError, match=r"^path is a BytesIO: expected the pa"
    ):
      function(io.BytesIO(b"PK"))


def as_saved(form, state_dict):
  """A checkpoint as programs save it, with other weights beside the average."""
  wrapped = {f"module._orig_mod.{n}": a for n, a in state_dict.items()}
  raw = {n: np.zeros_like(a) for n, a in state_dict.items()}
  ops = {"total_ops": 0.0, "blocks.1.total_params": 0.0}
  return {
    "thop": {"net": state_dict | ops},
    "lightning": {"state_dict": {f"model.{n}": a for n, a in wrapped.items()}},
    "averaged": {"n_averaged": np.int64(7), **wrapped},
    "timm": {"state_dict": raw, "state_dict_ema": wrapped},
    "half": {n: a.astype(np.float16) for n, a in state_dict.items()},
  }[form]


@pytest.mark.parametrize(
  "form", ["thop", "lightning", "averaged", "timm", "half"]
)
def test_checkpoints_are_taken_as_they_are(form):
  weights = golden_weights(CHAIN)
  if form == "half":  # So that nothing is rounded.
    weights = {
      n: a.astype(np.float16).astype(a.dtype) for n, a in weights.items()
    }
  found = pj.from_torch(CHAIN, as_saved(form, weights))
  jax.tree.map(assert_array_equal, found, pj.from_torch(CHAIN, weights))


def for_task(network, classes, channels):
  """The same network for other data."""
  if network is CHAIN:
    return chain(classes=classes, channels=channels)
  return tree(classes=classes, channels=channels)


@pytest.mark.parametrize("network", [CHAIN, TREE], ids=["chain", "tree"])
@pytest.mark.parametrize(
  "classes, channels, fresh",
  [
    (5, 3, ["classifier"]),
    (3, 1, ["stem", "stem_norm"]),
    (5, 4, ["classifier", "stem", "stem_norm"]),
  ],
)
def test_fine_tuning_starts_from_what_fits(
  network, classes, channels, fresh, caplog
):
  other, key = for_task(network, classes, channels), jax.random.key(3)
  weights = golden_weights(network)
  theirs = pj.from_torch(network, weights)
  own = pj.init(pj.build(other), key)
  found = pj.from_torch(other, weights, key=key)
  assert jax.tree.structure(found) == jax.tree.structure(own)
  counts = [0, 0]
  for collection, edges in found.items():
    for edge in edges:
      expected = own if edge in fresh else theirs
      expected = expected[collection][edge]
      jax.tree.map(assert_array_equal, edges[edge], expected)
      tensors = len(jax.tree.leaves(expected))
      counts[0] += tensors * (edge not in fresh)
      counts[1] += tensors
  (line,) = [m for m in caplog.messages if "fine-tuning" in m]
  assert f"{counts[0]} of {counts[1]} tensors are taken" in line
  if classes == 5:
    assert "classifier (3 classes there, 5 here)" in line
  if channels != 3:
    assert f"stem (3 channels there, {channels} here)" in line


def test_fine_tuning_needs_a_key_and_says_so(caplog):
  other = for_task(CHAIN, 5, 1)
  with pytest.raises(ValueError) as refused:
    pj.from_torch(other, golden_weights(CHAIN))
  assert str(refused.value) == (
    "state_dict is for another task: stem (3 channels there, 1 here), "
    "classifier (3 classes there, 5 here): to fine-tune, with those fresh, "
    "pass `key`, or use job 'train'"
  )
  # With a key, what fits is taken whole, and nothing is said.
  weights, key = golden_weights(CHAIN), jax.random.key(0)
  found = pj.from_torch(CHAIN, weights, key=key)
  jax.tree.map(assert_array_equal, found, pj.from_torch(CHAIN, weights))
  assert not caplog.messages


def test_a_body_without_a_classifier_is_fine_tuned():
  weights = golden_weights(CHAIN)
  body = {n: a for n, a in weights.items() if not n.startswith("classifier")}
  with pytest.raises(ValueError, match=r"classifier \(none there\)"):
    pj.from_torch(CHAIN, body)
  key = jax.random.key(0)
  found = pj.from_torch(CHAIN, body, key=key)["params"]["classifier"]
  own = pj.init(pj.build(CHAIN), key)["params"]["classifier"]
  jax.tree.map(assert_array_equal, found, own)


def test_fine_tuning_refuses_other_networks():
  """A body that differs is another network, whatever its classifier."""
  key, weights = jax.random.key(0), golden_weights(for_task(CHAIN, 5, 3))
  name = "blocks.3.mobile_inverted_conv.depth_conv.conv.weight"
  weights[name] = weights[name][..., 1:, 1:]
  expected = rf"another network .*: misshapen: {name} \[48, 1, 2, 2\], exp"
  with pytest.raises(ValueError, match=expected):
    pj.from_torch(CHAIN, weights, key=key)
  with pytest.raises(ValueError, match=r"(?s)missing: .*extra: first_conv"):
    pj.from_torch(TREE, weights, key=key)
  # A classifier that contradicts itself is damaged.
  weights = golden_weights(CHAIN)
  weights["classifier.linear.bias"] = np.zeros(4, np.float32)
  with pytest.raises(ValueError, match=r"misshapen: classifier\.linear\.bias"):
    pj.from_torch(CHAIN, weights, key=key)
