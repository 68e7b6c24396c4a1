"""Steps of a search from its options, and the rule of thumb."""

import pytest

from proxyless_jax.run.config.sections import ArchOptions, SearchOptions
from proxyless_jax.run.lengths import TRAVEL, UPDATES, search_lengths


def lengths_of(derives="argmax", candidates=7, **fields):
  arch = ArchOptions(lr=0.01, every=2, after_epochs=1.0)
  search = SearchOptions(batch=100, arch=arch, **fields)
  return search_lengths(search, 1000, candidates, derives)


def test_epochs_are_steps():
  assert lengths_of(warmup_epochs=2.5, epochs=4.0) == (25, 35, 65)
  assert lengths_of(warmup_epochs=0.0, epochs=4.0) == (0, 10, 40)


def test_a_warm_up_alone():
  assert lengths_of("additive", warmup_epochs=3.0, epochs=0.0) == (30, 30, 30)
  assert lengths_of("additive", warmup_epochs=1e-9, epochs=0.0) == (1, 1, 1)


def test_each_candidate_has_its_updates_in_an_automatic_warm_up():
  for candidates, paths in ((7, 1), (7, 4), (3, 5)):
    warmup, *_ = lengths_of(
      candidates=candidates, warmup_epochs="auto", epochs=4.0, paths=paths
    )
    assert warmup * paths / candidates == pytest.approx(UPDATES, rel=1e-3)


def test_the_logits_have_their_travel_in_an_automatic_search():
  warmup, begin, end = lengths_of(warmup_epochs=2.0, epochs="auto")
  assert (warmup, begin) == (20, 30)
  assert (end - begin) / 2 * 0.01 == pytest.approx(TRAVEL)
  alone = lengths_of("additive", warmup_epochs=2.0, epochs="auto")
  assert alone == (20, 20, 20)


def test_a_search_that_would_train_no_architecture_is_refused():
  with pytest.raises(ValueError, match="after_epochs = 1"):
    lengths_of(warmup_epochs=2.0, epochs=0.5)


@pytest.mark.parametrize("value", [-1.0, "long", float("nan"), float("inf")])
def test_other_lengths_are_refused(value):
  with pytest.raises(ValueError, match=r"search\.epochs = .*0 or more, or 'au"):
    SearchOptions(epochs=value)
