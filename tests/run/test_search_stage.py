"""A search with functions and optimizers of one's own, or by other names."""

import dataclasses

import jax.numpy as jnp
import optax
import pytest

from proxyless_jax.nas import gates
from proxyless_jax.run import jobs
from proxyless_jax.run.config.options import parse


def own_method():
  """Keyword arguments of `pj.search`, made anew for each start of a run."""

  def draw(key, arch, valid, mode):
    return gates.draw(key, arch / 2.0, valid, mode)

  def term(probs):
    return 0.1 * jnp.sum(probs**2)

  tx = optax.adamw(optax.cosine_decay_schedule(1e-2, 16))
  return dict(draw=draw, terms=(term,), tx=tx, arch_tx=optax.sgd(0.1, 0.9))


class Stop(Exception):
  pass


def stopped_at(monkeypatch, at):
  """Makes runs stop before a step."""
  run_stage = jobs.run_stage

  def run(stage, *args):
    def advance(state, step):
      if step >= at:
        raise Stop
      return stage.advance(state, step)

    return run_stage(dataclasses.replace(stage, advance=advance), *args)

  monkeypatch.setattr(jobs, "run_stage", run)


def test_a_search_by_ones_own_method_goes_on(
  make_config, outcome, monkeypatch, tmp_path
):
  pytest.importorskip("mlxtend")
  config = make_config(train__enabled=False)
  whole, parts, plain = (str(tmp_path / name) for name in "abc")
  jobs.search(config, whole, **own_method())
  jobs.search(config, plain)
  assert outcome(whole)["files"] != outcome(plain)["files"]
  with monkeypatch.context() as patch:
    stopped_at(patch, 8)
    with pytest.raises(Stop):
      jobs.search(config, parts, **own_method())
  message = (
    r"draw: 'own_method.<locals>.draw' in the workdir, not given now; "
    r"terms: \['own_method.<locals>.term'\] in the workdir, not given now"
  )
  tx, arch_tx = (own_method()[name] for name in ("tx", "arch_tx"))
  with pytest.raises(ValueError, match=message):
    jobs.search(config, parts, tx=tx, arch_tx=arch_tx)
  jobs.search(config, parts, **own_method())
  assert outcome(parts) == outcome(whole)


def test_optimizers_by_name_from_a_config(make_config, outcome, tmp_path):
  pytest.importorskip("mlxtend")
  names = dict(search__optimizer="lion", search__arch__optimizer="adamw")
  config = make_config(
    **names, train__optimizer="adam", search__lr=1e-3, train__lr=1e-3
  )
  result = jobs.search(config, tmp_path)
  assert result["job"] == "search"
  assert outcome(tmp_path)["checkpoints"].keys() == {"search", "train"}


@pytest.mark.parametrize("section", ["search", "search__arch", "train"])
def test_an_unknown_name_is_refused_with_those_that_exist(make_config, section):
  config = make_config(**{f"{section}__optimizer": "adamww"})
  field = section.replace("__", ".")
  with pytest.raises(ValueError, match=f"{field}.optimizer = 'adamww'.*adamw"):
    parse(config)
