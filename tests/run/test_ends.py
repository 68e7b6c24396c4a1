"""A search that was too short says so, and one that was not does not."""

import math
import warnings

import numpy as np
import pytest

from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import DeriveOptions, SearchOptions
from proxyless_jax.run.ends import describe_end

VALID = np.array([[True, True, True], [True, True, False]])
SURE = np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]], np.float32)
UNSURE = np.array([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]], np.float32)


def end_of(arch, top1, chance=0.1, **more):
  lines = [{"stage": "search", "step": 2, "arch_top1": 0.1}]
  lines += [{"stage": "search", "step": 4, "arch_top1": top1}]
  lines += [{"stage": "train", "step": 4, "top1": 0.2}]
  return describe_end(Options(), arch, VALID, lines, chance, **more)


def test_a_search_that_decided_does_not_warn():
  with warnings.catch_warnings(action="error"):
    end = end_of(SURE, 0.4)
  assert end["unfinished"] == ""
  assert end["supernet_top1"] == 0.4
  assert end["entropy_start"] == pytest.approx(np.log(6) / 2)
  assert end["entropy_end"] < 0.01


def test_an_undecided_search_warns_with_the_fields_to_change():
  with pytest.warns(UserWarning, match="entropy ended at 0.8") as caught:
    end = end_of(UNSURE, 0.4)
  assert len(caught) == 1
  assert "raise search.arch.lr = 0.001, or raise search.epochs = 120" in str(
    caught[0].message
  )
  assert "entropy" in end["unfinished"]


@pytest.mark.parametrize(
  ("top1", "chance", "near"),
  [
    (0.15, 0.1, True),
    (0.25, 0.1, False),
    (0.55, 0.5, True),
    (0.65, 0.5, False),
    (0.0015, 0.001, True),
    (0.0025, 0.001, False),
    # Most images are of one class; all are.
    (0.9, 0.9, True),
    (0.96, 0.9, False),
    (1.0, 1.0, False),
    (math.nan, 0.1, True),
  ],
)
def test_accuracy_near_chance_warns(top1, chance, near):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    end = end_of(SURE, top1, chance)
  assert len(caught) == near
  assert ("near chance" in end["unfinished"]) == near
  if near:
    assert "raise search.warmup_epochs = 40" in end["unfinished"]


def test_without_accuracy_the_entropy_alone_is_judged():
  with warnings.catch_warnings(action="error"):
    end = describe_end(Options(), SURE, VALID, [], 0.1)
  assert "supernet_top1" not in end


def test_the_additive_model_is_judged_by_its_paths_alone():
  options = Options(derive=DeriveOptions(method="additive"))
  with warnings.catch_warnings(action="error"):
    end = describe_end(options, UNSURE, VALID, [], 0.1, top1=0.5)
  assert (end["supernet_top1"], end["unfinished"]) == (0.5, "")
  with pytest.warns(UserWarning, match="near chance"):
    describe_end(options, UNSURE, VALID, [], 0.1, top1=0.12)


def test_of_automatic_lengths_it_asks_for_a_number():
  search = SearchOptions(warmup_epochs="auto", epochs="auto")
  options = Options(search=search)
  with pytest.warns(UserWarning):
    end = describe_end(options, UNSURE, VALID, [], 0.1, top1=0.12)
  undecided, chance = end["unfinished"].split("; paths")
  asked = "set search.epochs, now 'auto', to more epochs than the search took"
  assert asked in undecided and "search.arch.lr" not in undecided
  assert "set search.warmup_epochs, now 'auto', to more" in chance


def test_what_is_no_number_is_no_end():
  lost = np.full_like(SURE, np.nan)
  with pytest.warns(UserWarning, match="entropy ended at nan"):
    assert end_of(lost, 0.4)["unfinished"]
