"""What TensorBoard itself reads of a run."""

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.report import MetricsWriter
from proxyless_jax.report.tensorboard import write_result_events
from tests.spaces import small_space


def accumulated(folder):
  """What TensorBoard shows of a folder."""
  accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="TensorBoard (extra `test`) is not installed",
  )
  everything = dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
  found = accumulator.EventAccumulator(str(folder), everything)
  return found.Reload()


def write(workdir, start_step, steps):
  """A search in which another candidate leads from step to step."""
  space = small_space()
  with MetricsWriter(workdir, "search", start_step, space=space) as writer:
    for step in range(start_step + 1, steps + 1):
      writer.write(step, {"loss": 1 / step})
      writer.write_alpha(step, np.eye(3)[[step % 3, 0]])


def test_a_resumed_search_has_each_step_once(tmp_path):
  write(tmp_path, 0, 5)
  write(tmp_path, 3, 6)
  found = accumulated(tmp_path / "tensorboard" / "search")
  losses = found.Scalars("search/loss")
  assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
  np.testing.assert_allclose([e.value for e in losses], 1 / np.arange(1, 7))
  for name in ("alpha", "largest_probability"):
    steps = [e.step for e in found.Histograms(f"search/{name}")]
    assert steps == [1, 2, 3, 4, 5, 6]
  histogram = found.Histograms("search/alpha")[0].histogram_value
  assert histogram.num == 6
  assert histogram.max == 1.0


def test_pictures_are_drawn_seldom(tmp_path):
  """A picture takes longer than these steps do."""
  write(tmp_path, 0, 5)
  found = accumulated(tmp_path / "tensorboard" / "search")
  (image,) = found.Images("search/most_probable_architecture")
  assert image.step == 1
  assert image.width > image.height > 100


def test_the_last_result_replaces_an_earlier_one(tmp_path):
  Image.new("RGB", (30, 20)).save(tmp_path / "architecture.png")
  write_result_events(tmp_path, {"job": "search", "top1": 0.5})
  write_result_events(tmp_path, {"job": "evaluate", "top1": 0.75})
  found = accumulated(tmp_path / "tensorboard" / "result")
  (image,) = found.Images("architecture")
  assert (image.width, image.height) == (30, 20)
  (event,) = found.Tensors("result/text_summary")
  text = event.tensor_proto.string_val[0].decode()
  assert text.splitlines()[2:] == ["| job | evaluate |", "| top1 | 0.75 |"]
