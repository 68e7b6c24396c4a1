"""Tables through files: back as they were, or refused with what is wrong."""

import dataclasses
import json
import operator

import numpy as np
import pytest

from proxyless_jax.hardware import cost_table, load_table, make_table
from proxyless_jax.space import mobile_space


def space_of(**settings):
  return mobile_space(
    **dict(
      image_size=8,
      classes=3,
      stem_width=8,
      widths=(8, 16),
      depths=(2, 1),
      strides=(1, 2),
      candidates=("mbconv2_k3", "mbconv3_k5", "zero"),
      head_width=16,
    )
    | settings
  )


SPACE = space_of()


def make():
  random = np.random.default_rng(0)
  return make_table(
    SPACE,
    lambda op, edge: random.uniform(0.1, 3.0),
    fixed=0.3,
    unit="ms",
    source="here",
    details={"device": "a board", "batch": 1},
  )


@pytest.mark.parametrize("table", [make(), cost_table("memory", SPACE)])
def test_json_both_ways(tmp_path, table):
  path = tmp_path / "table.json"
  text = table.to_json(path)
  assert path.read_text() == text + "\n"
  for again in (load_table(path, SPACE), cost_table(str(path), SPACE)):
    for field in dataclasses.fields(table):
      one, other = (getattr(t, field.name) for t in (table, again))
      same = np.array_equal if field.name == "costs" else operator.eq
      assert same(one, other)


def test_home_folders(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  make().to_json("~/table.json")
  assert (tmp_path / "table.json").exists()
  for read in (cost_table, load_table):
    assert read("~/table.json", SPACE).digest == make().digest


def test_a_table_of_a_wider_choice_serves_a_narrower_one(tmp_path):
  path = tmp_path / "table.json"
  table = make()
  table.to_json(path)
  narrow = space_of(candidates=("mbconv3_k5", "mbconv2_k3"))
  again = load_table(path, narrow)
  assert again.ops[0] == ("mbconv3_k5", "mbconv2_k3")
  np.testing.assert_array_equal(again.costs, table.costs[:, [1, 0]])


def test_what_a_table_lacks_is_listed(tmp_path):
  path = tmp_path / "table.json"
  make().to_json(path)
  wider = space_of(candidates=("mbconv2_k3", "mbconv6_k7", "mbconv6_k3"))
  with pytest.raises(ValueError) as error:
    load_table(path, wider)
  assert str(error.value).startswith(f"{path}: the table (here) lacks [")
  for name in ("block01", "block02", "block03"):
    assert f"'{name}/mbconv6_k7', '{name}/mbconv6_k3'" in str(error.value)
  assert "mbconv2_k3" not in str(error.value)


@pytest.mark.parametrize(
  "settings, message",
  [
    (dict(classes=4), r"classifier 2x2x16 -> 2x2x4 classifier"),
    (dict(depths=(2, 2)), r"lacks \['block04/mbconv2_k3'.*'block04 2x2x16"),
    (dict(image_size=9), r"'block01 5x5x16 -> 5x5x8'"),
    (dict(widths=(8, 24)), r"'block03 4x4x8 -> 2x2x24'"),
  ],
)
def test_a_table_of_another_space_is_refused(tmp_path, settings, message):
  path = tmp_path / "table.json"
  make().to_json(path)
  with pytest.raises(ValueError, match=message):
    load_table(path, space_of(**settings))


@pytest.mark.parametrize(
  "change, message",
  [
    ({"version": 9}, "version = 9: expected 1"),
    ({"unit": 3}, "unit = 3: expected"),
    ({"fixed": "much"}, "fixed = 'much': expected"),
    ({"combine": "mean"}, "combine = 'mean': expected"),
    ({"fixed": True}, "fixed = True: expected"),
    ({"fixed": -99}, "cheapest architecture costs -9"),
    ({"costs": {"block01": 5}}, r"costs\.block01 = 5: expected"),
    ({"costs": {"block01": {"zero": "x"}}}, r"costs\.block01\.zero = 'x': ex"),
    ({"layers": [["x"]]}, r"layers\[0\] = \['x'\]: expected"),
    ({"layers": 3}, "layers = 3: expected list; restore the file"),
    ({"costs": []}, r"costs = \[\]: expected dict; restore the file"),
    ({"fixed": []}, r"fixed = \[\]: expected int or float; restore the file"),
    ({"more": 1}, "expected a table with the fields"),
  ],
)
def test_broken_files(tmp_path, change, message):
  path = tmp_path / "table.json"
  path.write_text(json.dumps(json.loads(make().to_json()) | change))
  with pytest.raises(ValueError, match=message):
    load_table(path, SPACE)
  path.write_text("[1]")
  with pytest.raises(ValueError, match=r"expected a table with the fields"):
    load_table(path, SPACE)
  for text in ("", make().to_json()[:99]):
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}: no JSON .* may be cut"):
      load_table(path, SPACE)
  path.write_bytes(b"\xff\xfe{")
  with pytest.raises(ValueError, match=f"{path}: .*as UTF-8"):
    load_table(path, SPACE)


CSV = """edge,op,cost,unit
fixed,,7.5,ms
block01,mbconv2_k3,1,ms
block01,mbconv3_k5,2.5,ms
block02,mbconv2_k3,1,ms
block02,mbconv3_k5,2,ms
block02,zero,0,ms
block03,mbconv2_k3,4,ms
block03,mbconv3_k5,5,ms
"""


def test_a_csv_of_your_own(tmp_path):
  path = tmp_path / "board.csv"
  path.write_text(CSV, encoding="utf-8-sig")
  table = cost_table(str(path), SPACE)
  assert (table.unit, table.source, table.fixed) == ("ms", "board.csv", 7.5)
  network = SPACE.choose(["mbconv3_k5", "zero", "mbconv2_k3"])
  assert table.exact(network) == 7.5 + 2.5 + 0.0 + 4.0


@pytest.mark.parametrize(
  "old, new, message",
  [
    ("edge,op,cost", "edge,op,price", "expected edge,op,cost,unit"),
    ("fixed,,7.5,ms\n", "", "no row 'fixed,,COST,UNIT'"),
    ("block03,mbconv2_k3,4,ms\n", "", r"lacks \['block03/mbconv2_k3'\]"),
    ("block02,zero,0,ms", "block02,zero,0,s", "'ms' in line 2.*'s' in line 7"),
    ("block02,zero,0", "block02,zero,none", "block02/zero = 'none': expected"),
    ("block02,zero,0", "block02,zero,nan", "line 7, block02.*nan.*finite"),
    ("fixed,,7.5", "fixed,,", "line 2, fixed = '': expected a number"),
    ("fixed,,7.5", "fixed,,-99", "fixed = '-99': expected a number of 0 or m"),
    ("block03,mbconv3_k5,5,ms\n", "block03,mb", "line 9: .* has 2 columns"),
    ("zero,0,ms", "zero,0,ms,7", r"line 7: .*'7'\] has 5 columns: expected 4"),
    ("fixed,,7.5,ms", "fixed,,7.5,ms\nb9,zero,1,ms", r"\['b9'\] are none of"),
    ("fixed,,7.5,ms", "fixed,zero,7.5,ms", "line 2: edge = 'fixed', op ="),
    (CSV, "", "line 1 has the columns None: expected edge,op,cost,unit"),
    (CSV, CSV[:18], r"units \[\]: expected one"),
    ("block02,zero", "block02,mbconv2_k3", "two rows for block02/mbconv2_k3"),
  ],
)
def test_a_csv_with_mistakes(tmp_path, old, new, message):
  path = tmp_path / "board.csv"
  assert old in CSV
  path.write_text(CSV.replace(old, new))
  with pytest.raises(ValueError, match=message):
    load_table(path, SPACE)


def test_no_such_file(tmp_path):
  with pytest.raises(ValueError, match=r"'no/table\.json': there is no such f"):
    cost_table("no/table.json", SPACE)
