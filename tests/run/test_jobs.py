import copy
import dataclasses
import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import eval_batches, load
from proxyless_jax.hardware import cost_table
from proxyless_jax.nn import build
from proxyless_jax.report import read_metrics
from proxyless_jax.run import jobs, search_stage, train_stage
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.loop import newest_state
from proxyless_jax.run.storage.compilation import keep_compiled
from proxyless_jax.space import (
  load_network,
  macs,
  parameters,
)
from proxyless_jax.training.steps import train_step

TARGET = 9000


@pytest.fixture
def no_compute(monkeypatch):
  """Fails where a run begins to compute."""

  def fail(*args):
    pytest.fail("the run began to compute")

  monkeypatch.setattr(jobs, "run_stage", fail)
  monkeypatch.setattr("proxyless_jax.run.search_stage.init", fail)
  monkeypatch.setattr("proxyless_jax.run.train_stage.init", fail)


def test_result_says_what_was_derived(make_config, unbroken):
  workdir, result = unbroken
  assert result == json.loads((workdir / "result.json").read_text())
  network = load_network(workdir / "architecture.json")
  assert network.is_architecture
  space = parse(make_config()).make_space(10)
  table = cost_table("macs", space)
  assert result["cost_hardware"] == table.exact(network) == macs(network)
  assert result["cost_hardware"] <= TARGET == result["target_hardware"]
  assert result["met_hardware"] is True
  assert result["unit_hardware"] == "MACs"
  assert result["source_hardware"] == table.source
  assert result["largest_hardware"] == table.max_cost
  assert result["parameters"] == parameters(network)
  assert result["macs"] == macs(network)
  assert result["job"] == "search"
  assert {"seconds_search", "seconds_train", "seconds_evaluate"} <= set(result)
  assert (workdir / "architecture.svg").exists()
  assert (workdir / "architecture.png").exists()


def test_metrics_of_both_stages(unbroken):
  lines = read_metrics(unbroken[0])
  assert [(line["stage"], line["step"]) for line in lines] == [
    *[("search", step) for step in (4, 8, 12, 16)],
    *[("train", step) for step in (4, 8, 10)],
  ]
  assert "arch_loss" not in lines[0]  # Warm-up trains weights alone.
  of_hardware = {"expected_hardware", "derived_hardware", "multiplier_hardware"}
  assert {"arch_loss", "entropy", *of_hardware} <= set(lines[1])
  assert "reward" not in lines[1]  # There is none without REINFORCE.


def test_every_test_image_counts_once(make_config, unbroken):
  workdir, result = unbroken
  options = parse(make_config())
  dataset = load(options.data)
  assert result["images"] == len(dataset.test) == 103
  network = load_network(workdir / "architecture.json")
  stage = train_stage.train_stage(options, dataset, network, None)
  step, state = newest_state(stage, workdir, options.run)
  assert step == stage.steps == 10
  (batch,) = eval_batches(dataset.test, options.data, batch=103)
  logits = build(network).apply(state.ema, batch["image"], train=False)
  logits, label = np.asarray(logits, np.float64), batch["label"]
  own = logits[np.arange(103), label]
  above = (logits > own[:, None]).sum(1)
  loss = np.log(np.exp(logits).sum(1)) - own
  np.testing.assert_allclose(result["top1"], np.mean(above < 1), rtol=1e-6)
  np.testing.assert_allclose(result["top5"], np.mean(above < 5), rtol=1e-6)
  np.testing.assert_allclose(result["loss"], np.mean(loss), rtol=1e-5)


def test_evaluate_after_a_search(make_config, unbroken, tmp_path):
  workdir = shutil.copytree(unbroken[0], tmp_path / "copy")
  config = make_config(evaluate__batch=33)  # Its job is still 'search'.
  result = jobs.evaluate(config, workdir)
  assert result["job"] == "evaluate" and result["step"] == 10
  changed = ("job", "step", "loss", "seconds_evaluate", "peak_memory_mb")
  for name in result.keys() - set(changed):
    assert result[name] == unbroken[1][name]
  assert result["loss"] == pytest.approx(unbroken[1]["loss"], rel=1e-5)


def test_train_a_network_by_its_path(make_config, unbroken, tmp_path):
  path = unbroken[0] / "architecture.json"
  traces = []

  def traced(*args, **kwargs):
    traces.append(args)
    return train_step(*args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train_stage, "train_step", traced)
    config = make_config(job="train", network=str(path))
    result = jobs.train(config, tmp_path)
  assert len(traces) == 1
  assert (tmp_path / "architecture.json").read_bytes() == path.read_bytes()
  assert result["top1"] == unbroken[1]["top1"]
  # The same seeds as in the search: the same training.
  lines = [r for r in read_metrics(unbroken[0]) if r["stage"] == "train"]
  assert read_metrics(tmp_path) == lines
  assert "cost_hardware" not in result


@pytest.mark.parametrize("form", ["none", "linear", "log"])
def test_the_other_forms_of_cost(make_config, tmp_path, form):
  traces = {"weight_step": 0, "arch_step": 0}
  config = make_config(train__enabled=False)
  cost = config["search"]["costs"]["hardware"]
  cost.update(form=form, kind="parameters", reference="1 k parameters")
  config["search"]["costs"] = {} if form == "none" else {"weights": cost}

  def traced(name, step):
    def count(*args, **kwargs):
      traces[name] += 1
      return step(*args, **kwargs)

    return count

  with pytest.MonkeyPatch.context() as patch:
    for name in traces:
      step = getattr(search_stage, name)
      patch.setattr(search_stage, name, traced(name, step))
    result = jobs.search(config, tmp_path)
  assert traces == {"weight_step": 1, "arch_step": 1}
  network = load_network(tmp_path / "architecture.json")
  assert result["parameters"] == parameters(network)
  if form != "none":
    assert result["cost_weights"] == result["parameters"]
    assert result["unit_weights"] == "parameters"
    assert "met_weights" not in result
  assert result["edges_off_argmax"] == 0
  assert "seconds_train" not in result
  if form != "none":
    return
  config["job"] = "evaluate"
  with pytest.raises(ValueError, match=r"expected trained weights .* 'train'"):
    jobs.evaluate(config, tmp_path)
  config["job"] = "train"
  result = jobs.train(config, tmp_path)
  assert result["parameters"] == parameters(network)
  assert [r["stage"] for r in read_metrics(tmp_path)][-1] == "train"


@pytest.mark.usefixtures("quick_compilation")
def test_rectangular_images(make_config, tmp_path):
  """Searched for, derived, trained and evaluated; of other sides refused."""
  photos = dict(source="generated", generated_classes=3, generated_images=120)
  photos |= dict(image_size=(12, 20), channels=3, mean=(0.5,) * 3)
  photos |= dict(std=(0.25,) * 3, crop="resized", crop_min_scale=0.3)
  photos |= dict(flip=True, saturation=0.5, cutout=4, test_fraction=0.2)
  config = make_config(search__warmup_epochs=0.3, search__epochs=0.8)
  config["data"].update(photos)
  config["train"]["epochs"] = 0.6
  config["search"]["costs"]["hardware"]["reference"] = "25 k MACs"
  result = jobs.search(config, tmp_path)
  network = load_network(tmp_path / "architecture.json")
  assert network.image_shape == (12, 20, 3) and network.is_architecture
  assert result["macs"] == result["cost_hardware"] == macs(network) <= 25_000
  # 9 x 3 x 8 weights on each of 6 x 10 pixels, 8 x 16 in the head.
  fixed = 60 * (216 + 128) + 16 * 3
  assert result["macs"] >= fixed and result["images"] == 24
  svg = (tmp_path / "architecture.svg").read_text()
  assert "12×20" in svg and "6×10" in svg
  saved = json.loads((tmp_path / "config.json").read_text())
  assert saved["data"]["image_size"] == [12, 20]
  again = jobs.evaluate(saved | {"job": "evaluate"}, tmp_path)
  assert again["loss"] == pytest.approx(result["loss"], rel=1e-5)
  other = copy.deepcopy(config)
  other["job"], other["network"] = "train", f"{tmp_path}/architecture.json"
  other["data"]["image_size"] = (20, 12)
  with pytest.raises(ValueError, match=r"\(12, 20\) where .* \(20, 12\)"):
    jobs.train(other, tmp_path / "other")


@pytest.mark.usefixtures("no_compute")
class TestBadInput:
  """Each is refused before any compute, by name."""

  @pytest.mark.parametrize(
    "fields, message",
    [
      ({"search__speed": 1}, "config.search: unknown fields"),
      (
        {"search__costs__hardware__reference": "1 k MACs"},
        r"'1 k MACs': expected .*7,360 MACs, the cheapest .*36,160 MACs, the",
      ),
      (
        {"search__costs__hardware__reference": "1 M MACs"},
        r"'1 M MACs': expected .*7,360 MACs, the cheapest .*36,160 MACs, the",
      ),
      (
        {"search__costs__hardware__reference": "9 ms"},
        r"search\.costs\.hardware\.reference = '9 ms': .* 'ms' is none of",
      ),
      (
        {"search__costs__hardware__reference": "9"},
        r"hardware\.reference = '9': expected .*; did you mean '9 k MACs'\?",
      ),
      (
        {"search__costs__hardware__kind": "joules"},
        r"search\.costs\.hardware\.kind = 'joules': expected one of",
      ),
      (
        {"search__costs__hardware__kind": "pixel1"},
        r"search\.costs\.hardware\.kind: .* pixel1 lacks \['stem/conv_k3",
      ),
      (
        {"search__costs__hardware__kind": "no/table.json"},
        r"search\.costs\.hardware\.kind = 'no/.*there is no such file",
      ),
      ({"space__strides": (8,)}, "data.image_size = 12.*expected at least"),
      ({"space__candidates": ("zero",)}, "candidates = .*expected"),
      (
        {"space__candidates": None},
        r"space\.candidates = None: expected a tuple of names",
      ),
      (
        {"space__candidates": ("mbconv1_k3",)},
        r"space\.candidates = \('mbconv1_k3',\): expected two or more",
      ),
      (
        {"data__test_fraction": 1e-6},
        r"data\.test_fraction=1e-06: expected at",
      ),
      ({"data__arch_fraction": 0.99999}, "arch_fraction=0.99999: expected at"),
      ({"search__arch__after_epochs": 1.0}, "search.arch.after_epochs = 1.0"),
    ],
  )
  def test_config(self, make_config, unbroken, tmp_path, fields, message):
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
      jobs.search(make_config(**fields), workdir)
    assert not workdir.exists()

  def test_another_config_on_an_old_workdir(self, make_config, unbroken):
    before = sorted(unbroken[0].rglob("*"))
    config = make_config(search__lr=0.01, seed=1)
    with pytest.raises(ValueError) as error:
      jobs.search(config, unbroken[0])
    assert "seed: 0 in the workdir, 1 now" in str(error.value)
    assert "search.lr: 0.05 in the workdir, 0.01 now" in str(error.value)
    assert sorted(unbroken[0].rglob("*")) == before

  def test_workdir(self, make_config, unbroken, tmp_path):
    with pytest.raises(
      ValueError, match="workdir = '': expected a folder for the run's"
    ):
      jobs.search(make_config(), "")
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder, got a"):
      jobs.search(make_config(), path)
    if os.geteuid():  # Everything can be written to by root.
      (tmp_path / "locked").mkdir(mode=0o500)
      with pytest.raises(PermissionError, match="can be written"):
        jobs.search(make_config(), tmp_path / "locked")

  @pytest.mark.parametrize("job", ["train", "evaluate"])
  def test_no_network(self, make_config, unbroken, tmp_path, job):
    run = {"train": jobs.train, "evaluate": jobs.evaluate}[job]
    with pytest.raises(ValueError, match="network = '': there is no file"):
      run(make_config(job=job), tmp_path)
    with pytest.raises(ValueError, match=r"network = 'net\.json': there is no"):
      run(make_config(job=job, network="net.json"), tmp_path)
    assert os.listdir(tmp_path) == []

  def test_a_network_of_other_data(self, make_config, unbroken, tmp_path):
    path = str(unbroken[0] / "architecture.json")
    config = make_config(job="train", network=path, data__image_size=14)
    with pytest.raises(
      ValueError, match=r"got image_size = 12 where the data have 14: use an"
    ):
      jobs.train(config, tmp_path)

  @pytest.mark.parametrize(
    "name, message",
    [
      (
        "space.json",
        r".* got a search space \(2 of 2 edges .* several\): ",
      ),
      ("config.json", r"the fields are \['job'\]: expected \['version', 'fam"),
      ("a.png", "expected the JSON text of a network, got a file that is not"),
      ("", "expected a file, the JSON of a network, got a folder"),
      ("spcae.json", r"there is no file .*; did you mean '.*/space\.json'\?"),
    ],
  )
  def test_what_is_no_network(self, make_config, tmp_path, name, message):
    space = parse(make_config()).make_space(10)
    space.to_json(tmp_path / "space.json")
    (tmp_path / "config.json").write_text('{"job": "search"}')
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    config = make_config(job="train", network=str(tmp_path / name))
    with pytest.raises(ValueError, match=f"^network = '.*': {message}"):
      jobs.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

  def test_a_published_network_with_a_typo(self, make_config, tmp_path):
    config = make_config(job="evaluate", network="proxyles_gpu")
    with pytest.raises(ValueError, match=r"did you mean 'proxyless_gpu'\?$"):
      jobs.evaluate(config, tmp_path / "run")

  def test_drop_path_where_nothing_can_be_dropped(self, make_config, tmp_path):
    config = make_config(job="train", network="densenet_bc")
    config["train"]["drop_path"] = 0.2
    with pytest.raises(ValueError, match=r"train.drop_path = 0.2: expected 0"):
      jobs.train(config, tmp_path)

  def test_a_folder_without_images(self, make_config, tmp_path):
    fields = dict(data__source="folder", data__path=str(tmp_path / "images"))
    with pytest.raises(ValueError, match="expected a folder; correct the path"):
      jobs.search(make_config(**fields), tmp_path / "run")
    (tmp_path / "images" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"found none in cat"):
      jobs.search(make_config(**fields), tmp_path / "run")


def test_an_unreadable_image_is_named_before_compute(make_config, tmp_path):
  for name in ("ant", "cat"):
    folder = tmp_path / "images" / name
    folder.mkdir(parents=True)
    for i in range(20):
      Image.new("L", (12, 12), i).save(folder / f"{i}.png")
  damaged = tmp_path / "images" / "cat" / "7.png"
  damaged.write_bytes(damaged.read_bytes()[:40])
  config = make_config(data__source="folder", data__test_fraction=0.2)
  config["data"]["path"] = str(tmp_path / "images")
  config["search"].update(epochs=2.0, warmup_epochs=0.0)
  with pytest.raises(ValueError, match=r"1 of 40 files .* read: cat/7\.png"):
    jobs.search(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_nan_stops_the_run(make_config, unbroken, monkeypatch, tmp_path):
  run_stage = jobs.run_stage

  def poisoned(stage, *args):
    def advance(state, step):
      if step == 3:
        state = state.replace(arch=state.arch * np.nan)
      return stage.advance(state, step)

    return run_stage(dataclasses.replace(stage, advance=advance), *args)

  monkeypatch.setattr(jobs, "run_stage", poisoned)
  with pytest.raises(FloatingPointError, match="stage search, steps 5 to 6"):
    jobs.search(make_config(search__costs={}), tmp_path)
  assert os.listdir(tmp_path / "checkpoints" / "search") == ["3"]


@pytest.mark.parametrize("home, folder", [("xdg", "xdg"), ("", "home/.cache")])
def test_where_compiled_programs_are_kept(monkeypatch, tmp_path, home, folder):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.setenv("XDG_CACHE_HOME", home and str(tmp_path / home))
  set_by_user = jax.config.jax_compilation_cache_dir
  keep_compiled()
  assert jax.config.jax_compilation_cache_dir == set_by_user
  try:
    jax.config.update("jax_compilation_cache_dir", None)
    keep_compiled()
    expected = str(tmp_path / folder / "proxyless_jax")
    assert jax.config.jax_compilation_cache_dir == expected
  finally:
    jax.config.update("jax_compilation_cache_dir", set_by_user)
