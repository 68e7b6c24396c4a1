"""What a search was given in Python is compared from start to start."""

import json

import pytest

from proxyless_jax.run.storage.method import METHOD_FILE, keep_method


def begin(workdir):
  (workdir / "checkpoints/search/20").mkdir(parents=True)


def test_nothing_given_leaves_no_file(tmp_path):
  keep_method(tmp_path, {})
  assert not (tmp_path / METHOD_FILE).exists()


def test_it_may_change_before_the_first_checkpoint(tmp_path):
  keep_method(tmp_path, {"draw": "mine"})
  keep_method(tmp_path, {"terms": ["entropy"], "tx": "given"})
  kept = json.loads((tmp_path / METHOD_FILE).read_text())
  assert kept == {"terms": ["entropy"], "tx": "given"}
  begin(tmp_path)
  keep_method(tmp_path, {"terms": ["entropy"], "tx": "given"})


@pytest.mark.parametrize(
  ("before", "now", "message"),
  [
    ({"draw": "mine"}, {}, "draw: 'mine' in the workdir, not given now: give"),
    ({}, {"tx": "given"}, "tx: not given in the workdir, 'given' now: give"),
    ({"terms": ["a"]}, {"terms": ["b"]}, r"terms: \['a'\] in .*, \['b'\] now"),
  ],
)
def test_a_search_that_has_begun_keeps_its_method(
  tmp_path, before, now, message
):
  keep_method(tmp_path, before)
  begin(tmp_path)
  files = sorted(tmp_path.iterdir())
  with pytest.raises(ValueError, match=message):
    keep_method(tmp_path, now)
  keep_method(tmp_path, before)
  assert sorted(tmp_path.iterdir()) == files
