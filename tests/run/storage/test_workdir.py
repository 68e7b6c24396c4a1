import json
import os
import tempfile

import pytest

from proxyless_jax.run.config.options import as_json, parse
from proxyless_jax.run.storage.json_files import read_json
from proxyless_jax.run.storage.workdir import (
  checked,
  claim,
  locked,
  reached,
)

CONFIG = {
  "job": "search",
  "log_every": 10,
  "data": {"mean": (0.1, 0.2), "path": None, "workers": 0},
  "search": {"arch": {"lr": 0.01, "clip": False}, "epochs": 3},
}


def changed(**fields):
  """CONFIG with fields replaced; `a__b` is `a.b`."""
  config = json.loads(json.dumps(CONFIG))
  for name, value in fields.items():
    *groups, last = name.split("__")
    group = config
    for part in groups:
      group = group[part]
    group[last] = value
  return config


def test_first_claim_writes_and_the_same_config_goes_on(tmp_path):
  claim(tmp_path / "a" / "b", CONFIG)
  assert read_json(tmp_path / "a" / "b" / "config.json") == changed()
  claim(tmp_path / "a" / "b", CONFIG)
  claim(tmp_path / "a" / "b", changed(search__epochs=3.0))
  assert os.listdir(tmp_path / "a" / "b") == ["config.json"]


def test_other_defaults_of_a_space_are_noticed(make_config, tmp_path):
  config = make_config()
  config["space"] = {"family": "tree", "alpha": 8}
  kept = as_json(parse(config))
  assert kept["space"]["shuffle"] is True
  claim(tmp_path, kept)
  config["space"]["shuffle"] = True
  claim(tmp_path, as_json(parse(config)))
  config["space"]["shuffle"] = False
  with pytest.raises(ValueError, match=r"shuffle: True in the workdir, False"):
    claim(tmp_path, as_json(parse(config)))


@pytest.mark.parametrize(
  "fields, line",
  [
    (
      {"search__arch__lr": 0.02},
      "search.arch.lr: 0.01 in the workdir, 0.02 now",
    ),
    ({"data__path": "x"}, "data.path: None in the workdir, 'x' now"),
    ({"search__arch__clip": 0}, "search.arch.clip: False in the workdir, 0"),
    ({"data__mean": [0.1]}, "data.mean: [0.1, 0.2] in the workdir, [0.1] now"),
    ({"seed": 1}, "seed: absent in the workdir, 1 now"),
    ({"seed": None}, "seed: absent in the workdir, None now"),
    ({"data": {}}, "data.path: None in the workdir, absent now"),
  ],
)
def test_another_config_is_refused(tmp_path, fields, line):
  claim(tmp_path, CONFIG)
  with pytest.raises(ValueError) as error:
    claim(tmp_path, changed(**fields))
  assert line in str(error.value)
  assert "Use another workdir, or restore the values" in str(error.value)
  assert read_json(tmp_path / "config.json") == changed()


@pytest.mark.parametrize(
  "workdir, message",
  [
    ("", r"workdir = '': expected a folder for the run's files, such as"),
    (None, "workdir is of type NoneType: expected a folder for the run"),
    ("gs://bucket/run", "gs://bucket/run: expected a folder of this machine"),
    ("~nobody-here/a", "expected ~, or .*: for a .* write ./~nobody-here/a"),
    ("runs/a\\b", r"without \\, .* take for a separator of folders: name an"),
    ("gs:", "without gs:/, .* an address of Google Cloud Storage"),
    ("runs/logs:/a", "without gs:/, .* an address of Google Cloud Storage"),
    ("/s3/run", "without /s3/, .* take for a bucket"),
  ],
)
def test_paths_that_no_checkpoint_can_be_restored_from(workdir, message):
  with pytest.raises(ValueError, match=message):
    checked(workdir)


def test_any_other_path_is_a_workdir(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  assert checked("~/runs/[1]") == "/home/me/runs/[1]"
  for path in ("a*b", "[a]", "x ?", "ü", "s3:/b", "..", "/", "a~b"):
    assert checked(path) == path


def test_every_difference_is_named(tmp_path):
  claim(tmp_path, CONFIG)
  with pytest.raises(ValueError, match=r"job: .*; search\.epochs: 3 in"):
    claim(tmp_path, changed(job="train", search__epochs=4))


def test_fields_that_may_differ(tmp_path):
  claim(tmp_path, CONFIG)
  config = changed(log_every=1, data__workers=4)
  with pytest.raises(ValueError) as error:
    claim(tmp_path, config, may_differ=("log", "data.workers"))
  assert "log_every: 10 in the workdir, 1 now" in str(error.value)
  assert "workers" not in str(error.value)
  assert os.listdir(tmp_path) == ["config.json"]


def test_what_has_changed_is_said_and_kept(tmp_path):
  assert claim(tmp_path, CONFIG) == []
  config = changed(log_every=1, data={"path": "b", "seed": 3})
  (tmp_path / "checkpoints" / "search" / "20").mkdir(parents=True)
  assert claim(tmp_path, changed(log_every=2), ("log_every",), keeps=False) == [
    "log_every: 10 -> 2"
  ]
  assert os.listdir(tmp_path / "checkpoints") == ["search"]
  assert read_json(tmp_path / "config.json") == changed()
  assert claim(tmp_path, config, may_differ=("log_every", "data")) == [
    "log_every: 10 -> 1",
    "data.path: None -> 'b'",
    "data.seed: absent -> 3",
    "data.mean: [0.1, 0.2] -> absent",
    "data.workers: 0 -> absent",
  ]
  assert read_json(tmp_path / "config.json") == config
  assert claim(tmp_path, config) == []
  (line,) = (tmp_path / "config_changes.jsonl").read_text().splitlines()
  assert json.loads(line) == {
    "reached": {"search": 20},
    "changed": {
      "log_every": {"old": 10, "new": 1},
      "data.path": {"old": None, "new": "b"},
      "data.seed": {"new": 3},
      "data.mean": {"old": [0.1, 0.2]},
      "data.workers": {"old": 0},
    },
  }


def test_how_far_stages_are(tmp_path):
  assert reached(tmp_path) == {}
  for name in ("search/7", "search/12", "search/30.damaged", "train/x"):
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
  (tmp_path / "checkpoints" / "notes.txt").touch()
  assert reached(tmp_path) == {"search": 12}


def test_workdir_that_is_no_folder(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(NotADirectoryError, match=r"workdir = .*file: expected"):
    claim(tmp_path / "file", CONFIG)
  with pytest.raises(NotADirectoryError, match=r"workdir = .*below: expected"):
    claim(tmp_path / "file" / "below", CONFIG)


def test_workdir_that_cannot_be_written(tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise PermissionError("no")

  # Nobody has to be without rights for this, as root never is.
  with monkeypatch.context() as patch:
    patch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"workdir = .*change its perm"):
      claim(tmp_path, CONFIG)
  monkeypatch.setattr(os, "makedirs", refuse)
  with pytest.raises(PermissionError, match=r"workdir = .*made \(no\); name"):
    claim(tmp_path / "new", CONFIG)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
@pytest.mark.parametrize(
  "workdir, message",
  [
    ("/proc", "expected a folder that can be written to"),
    ("/proc/run", "cannot be made"),
    ("/proc/self/run", "cannot be made"),
  ],
)
def test_workdir_where_nothing_can_be_made(workdir, message):
  with pytest.raises(
    OSError, match=f"workdir = {workdir}: {message} .* name an"
  ):
    claim(workdir, CONFIG)


def test_a_workdir_whose_name_is_too_long(tmp_path):
  with pytest.raises(OSError, match=r"cannot be made \(File name too long\)"):
    claim(tmp_path / ("x" * 300), CONFIG)


@pytest.mark.parametrize(
  "value, message",
  [
    (float("nan"), r"config\.search\.lr = nan: expected a finite number"),
    ([1.0, float("inf")], r"config\.search\.lr\[1\] = inf: expected"),
    ({1: 2}, r"config\.search\.lr: expected keys that are str, got 1"),
    ({1}, r"config\.search\.lr = \{1\}: expected bool, .* got set"),
  ],
)
def test_what_json_cannot_hold(tmp_path, value, message):
  with pytest.raises(ValueError, match=message):
    claim(tmp_path / "new", {"search": {"lr": value}})
  assert not (tmp_path / "new").exists()


def test_file_that_is_not_json(tmp_path):
  (tmp_path / "config.json").write_text('{"a": ')
  with pytest.raises(ValueError, match=r"config\.json: expected JSON"):
    claim(tmp_path, CONFIG)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"'])
def test_json_that_is_no_object(tmp_path, text):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match=r"config\.json: expected a JSON object"):
    claim(tmp_path, CONFIG)


def test_two_processes_do_not_run_in_one_workdir(tmp_path):
  with (
    locked(tmp_path),
    pytest.raises(ValueError, match="another process is running in it"),
    locked(tmp_path),
  ):
    pass
  with locked(tmp_path):
    pass
