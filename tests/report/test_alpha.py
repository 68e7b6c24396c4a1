import json

import numpy as np
import pytest

from proxyless_jax.report import MetricsWriter
from proxyless_jax.report.alpha import probabilities, read_alpha
from tests.spaces import small_space


def write(workdir, start_step, steps):
  """One line a step, of three candidates on each of two edges."""
  space = small_space()
  with MetricsWriter(workdir, "search", start_step, space=space) as writer:
    for step in range(start_step + 1, steps + 1):
      writer.write(step, {"loss": 1.0})
      writer.write_alpha(step, np.full((2, 3), step / 3, np.float32))


def test_a_line_has_the_candidates_that_exist(tmp_path):
  space = small_space(strides=(2,))  # The first edge has no `zero`.
  assert [len(edge.ops) for edge in space.edges] == [2, 3]
  with MetricsWriter(tmp_path, "search", space=space) as writer:
    writer.write_alpha(5, np.array([[0.1, 0.2, 0.0], [1 / 3, -1.0, 2.0]]))
  (line,) = read_alpha(tmp_path)
  assert line == {
    "stage": "search",
    "step": 5,
    "alpha": [[0.1, 0.2], [0.3333, -1.0, 2.0]],
  }


def test_resume_leaves_the_file_of_an_unbroken_run(tmp_path):
  write(tmp_path / "whole", 0, 6)
  write(tmp_path / "broken", 0, 5)
  with open(tmp_path / "broken" / "alpha.jsonl", "a") as file:
    file.write('{"stage": "se')
  write(tmp_path / "broken", 3, 6)
  assert (tmp_path / "broken" / "alpha.jsonl").read_bytes() == (
    tmp_path / "whole" / "alpha.jsonl"
  ).read_bytes()


def test_what_is_not_finite_is_no_line(tmp_path):
  with MetricsWriter(tmp_path, "search", space=small_space()) as writer:
    writer.write_alpha(1, np.full((2, 3), np.nan))
  assert read_alpha(tmp_path) == []


def test_stages_without_a_space_leave_no_file(tmp_path):
  with MetricsWriter(tmp_path, "train") as writer:
    writer.write(1, {"loss": 1.0})
  assert not (tmp_path / "alpha.jsonl").exists()
  assert read_alpha(tmp_path) == []


def test_probabilities_are_softmax():
  first, second = probabilities([[0.0, np.log(3.0)], [1000.0, 0.0, 0.0]])
  np.testing.assert_allclose(first, [0.25, 0.75])
  np.testing.assert_allclose(second, [1.0, 0.0, 0.0], atol=1e-12)


def test_another_file_is_refused(tmp_path):
  line = {"stage": "search", "step": 1}
  (tmp_path / "alpha.jsonl").write_text(json.dumps(line) + "\n")
  with pytest.raises(ValueError, match=r"alpha.jsonl, line 1: expected a list"):
    read_alpha(tmp_path)
