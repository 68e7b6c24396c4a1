import pytest

from experiments.output import Parts


def test_parts_are_computed_once(tmp_path):
  path, calls = tmp_path / "result.json", []

  def compute():
    calls.append(1)
    return {"a": [1.5]}

  first = Parts(path, {"seeds": (0, 1)})
  assert first.get("part", compute) == {"a": [1.5]}
  again = Parts(path, {"seeds": (0, 1)})
  assert again.get("part", compute) == {"a": [1.5]}
  assert len(calls) == 1
  assert again.values == {"settings": {"seeds": [0, 1]}, "part": {"a": [1.5]}}


def test_parts_of_other_settings_are_refused(tmp_path):
  path = tmp_path / "result.json"
  Parts(path, {"batch": 2}).get("part", lambda: 1)
  with pytest.raises(ValueError, match="has results of the settings"):
    Parts(path, {"batch": 3})
