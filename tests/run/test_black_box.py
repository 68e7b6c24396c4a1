"""Costs that are Python functions, and the file of their results."""

import math

import numpy as np
import pytest

from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.space import macs


def board(function):
  """The options of a search with one cost."""
  options = CostOptions(
    kind=function, form="absolute", reference="9 mJ", weight=0.05, exponent=0.1
  )
  return {"board": options}


def test_what_a_function_may_return(make_config, tmp_path):
  space = parse(make_config()).make_space(10)
  network = space.choose([0, 1])
  wrong = (None, "x", "9", True, np.ones(2), np.ones(1), [], {})
  for value in (0.0, -1.0, math.nan, math.inf, *wrong):
    options = board(lambda _, v=value: v)
    calls = Calls(space, options, tmp_path)
    with pytest.raises(ValueError, match=r"search\.costs\.board\.kind gave"):
      calls.of("board", network)
  assert not (tmp_path / "calls.jsonl").exists()
  options = board(macs)
  calls = Calls(space, options, tmp_path)
  values = calls(np.array([[0, 1], [2, 2], [0, 1]]))["board"]
  assert values.dtype == np.float32
  assert values.tolist() == [macs(network), 7360.0, macs(network)]
  assert len((tmp_path / "calls.jsonl").read_text().splitlines()) == 2


def test_lines_of_the_file_that_are_no_calls(make_config, tmp_path):
  network = parse(make_config()).make_space(10).choose([0, 1])
  options = board(macs)
  path = tmp_path / "calls.jsonl"
  line = b'{"cost": "board", "network": ["a"], "value": 2.0}\n'

  def ask():
    return Calls(None, options, tmp_path).of("board", network)

  for torn in (b"", b"{", b'{"cost": "bo'):
    path.write_bytes(line + torn)
    assert ask() == macs(network)
    assert path.read_bytes().startswith(line + b'{"cost": "board", "network"')
  for text, number in [
    (b"my notes", 1),
    (line + b"more notes", 2),
    (line + b'{"cost"\n' + line, 2),
    (line + b'{"cost": "board", "network": ["a"], "value": "x"}\n', 2),
    (line + b"[1]\n", 2),
    (line + b"\n", 2),
  ]:
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"calls\.jsonl line {number}: "):
      ask()
    assert path.read_bytes() == text
