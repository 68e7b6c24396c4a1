"""State dicts as training programs save them, as plain dicts of arrays."""

import logging

import numpy as np
import pytest

from proxyless_jax.exchange.containers import find_state_dict

RAW = {"a.weight": np.zeros(2), "b.bias": np.ones(1)}
AVERAGED = {name: array + 0.5 for name, array in RAW.items()}


def prefixed(prefix, state_dict=RAW):
  return {f"{prefix}{name}": array for name, array in state_dict.items()}


@pytest.fixture
def log(caplog):
  caplog.set_level(logging.WARNING, "absl")
  return caplog


def same(found, expected):
  assert {n: a.tolist() for n, a in found.items()} == {
    n: a.tolist() for n, a in expected.items()
  }


@pytest.mark.parametrize(
  "prefix",
  [
    "",
    "module.",
    "_orig_mod.",
    "module.module.",
    "module._orig_mod.",
    "_orig_mod.module._orig_mod.",
    "model.",
    "net.",
    "model._orig_mod.module.",
    "_orig_mod.model.net.",
  ],
)
@pytest.mark.parametrize(
  "names",
  [
    *([], ["state_dict"], ["model"], ["model_state_dict"], ["net"]),
    *(["state_dict_ema"], ["ema"], ["model_ema"], ["ema", "state_dict"]),
  ],
)
def test_containers_and_prefixes(log, names, prefix):
  data = prefixed(prefix)
  for name in reversed(names):
    data = {name: data, "epoch": 3, "optimizer": {"state": {0: np.ones(3)}}}
  same(find_state_dict("file", data), RAW)
  assert not log.messages


def test_modules_that_are_compiled_by_themselves():
  data = {"a._orig_mod.weight": RAW["a.weight"], "b.bias": RAW["b.bias"]}
  same(find_state_dict("file", data), RAW)


def test_counters_are_ignored():
  counters = ["n_averaged", "total_ops", "module.a.total_params", "a.total_ops"]
  data = prefixed("module.") | dict.fromkeys(counters, np.zeros(1))
  same(find_state_dict("file", data), RAW)


@pytest.mark.parametrize(
  "data, averaged, raw",
  [
    # timm
    (
      {"state_dict": RAW, "state_dict_ema": AVERAGED, "arch": "net"},
      *("state_dict_ema", "state_dict"),
    ),
    # torchvision's references: an AveragedModel
    (
      {
        "model": RAW,
        "model_ema": {"n_averaged": 7, **prefixed("module.", AVERAGED)},
      },
      *("model_ema", "model"),
    ),
    # Lightning with the average as a module, and with WeightAveraging
    (
      {"state_dict": prefixed("model.") | prefixed("ema.module.", AVERAGED)},
      *("state_dict.ema", "state_dict.model"),
    ),
    (
      {
        "state_dict": prefixed("net.", AVERAGED),
        "current_model_state": prefixed("net."),
        "averaging_state": {"n_averaged": 7},
      },
      *("state_dict.net", "current_model_state.net"),
    ),
    ({"ema": {"state_dict": AVERAGED}, "net": RAW}, "ema.state_dict", "net"),
    (
      {"model": RAW, "model_ema": {"shadow": AVERAGED, "decay": 0.9}},
      *("model_ema.shadow", "model"),
    ),
    # RT-DETR
    (
      {"model": RAW, "ema": {"module": AVERAGED, "updates": 3}},
      *("ema.module", "model"),
    ),
  ],
)
def test_averaged_weights_come_first_and_the_log_says_so(
  log, data, averaged, raw
):
  same(find_state_dict("file.pth", data), AVERAGED)
  assert log.messages == [
    f"file.pth: took the averaged weights ({averaged}), not the raw ones "
    f"({raw}); for those pass part={raw!r}, or write #{raw} after the file in "
    "config.weights"
  ]
  log.clear()
  same(find_state_dict("file.pth", data, raw), RAW)
  same(find_state_dict("file.pth", data, averaged), AVERAGED)
  assert not log.messages


def test_a_wrapper_as_a_container():
  same(find_state_dict("file", {"module": RAW, "dp_world_size": 2}), RAW)


def test_an_entry_with_and_without_a_prefix_is_refused():
  with pytest.raises(
    ValueError, match=r"^file: expected one .* found 'a\.weight' twice, with"
  ):
    find_state_dict("file", RAW | prefixed("module.", AVERAGED))


def test_a_part_is_text():
  with pytest.raises(ValueError, match=r"^part = 3: expected names joined"):
    find_state_dict("file", RAW, 3)


def test_without_a_part_to_name_the_log_says_what_to_do(log):
  data = RAW | prefixed("ema.", AVERAGED)
  same(find_state_dict("file", data), AVERAGED)
  assert "pass their names alone to `from_torch`" in log.text


def test_what_is_beside_an_average_is_no_average(log):
  ema = {"decay": 0.9, "shadow_params": [np.ones(2)]}
  same(find_state_dict("file", {"model": RAW, "ema": ema}), RAW)
  assert not log.messages


def test_names_of_several_modules_stay_together():
  data = {"state_dict": prefixed("model.") | {"loss.weight": np.ones(3)}}
  expected = RAW | {"loss.weight": np.ones(3)}
  same(find_state_dict("file", data), expected)
  same(find_state_dict("file", data, "state_dict.model"), RAW)


def test_any_part_can_be_named():
  data = {"student": prefixed("model."), "teacher": AVERAGED}
  same(find_state_dict("file", data, "student"), RAW)
  flat = prefixed("teacher.", AVERAGED) | prefixed("student.")
  same(find_state_dict("file", {"state_dict": flat}, "state_dict.student"), RAW)
  with pytest.raises(
    ValueError, match=r"^file: part = 'pupil': .* \['student', 'teacher'\]$"
  ):
    find_state_dict("file", data, "pupil")


def test_two_sets_of_weights_are_refused():
  data = {"state_dict": prefixed("model.") | prefixed("net.", AVERAGED)}
  with pytest.raises(
    ValueError,
    match=r"one set of weights, found \['state_dict\.model', 'state_dict\.net'",
  ):
    find_state_dict("file", data)


@pytest.mark.parametrize("data", [{}, {"state_dict": {}}, {"n_averaged": 1}])
def test_nothing_is_found_in_nothing(data):
  assert find_state_dict("file", data) == {}
