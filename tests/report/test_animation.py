import numpy as np
import pytest
from PIL import Image

from proxyless_jax.report.animation import write_animation
from tests.report.conftest import STEPS, write_search
from tests.spaces import widening_tree_space


@pytest.mark.parametrize("many", [False, True])
def test_a_frame_for_each_log(tmp_path, monkeypatch, many):
  space = None
  if many:
    monkeypatch.setattr("proxyless_jax.report.page.timeline.DETAILED", 3)
    space = widening_tree_space()
  write_search(tmp_path, space)
  path = write_animation(tmp_path, tmp_path / "search.gif")
  with Image.open(path) as image:
    assert image.n_frames == STEPS
    first = np.asarray(image.convert("RGB"))
    image.seek(STEPS - 1)
    last = np.asarray(image.convert("RGB"))
  assert first.shape == last.shape
  assert (first != last).mean() > 0.02


def test_what_cannot_be_written(tmp_path, workdir):
  with pytest.raises(
    ValueError, match=r"search.mp4: expected a path that ends"
  ):
    write_animation(workdir, tmp_path / "search.mp4")
  (tmp_path / "config.json").write_text('{"job": "search"}')
  with pytest.raises(
    ValueError, match=r"record of .*, as with search\.epochs = 0"
  ):
    write_animation(tmp_path, tmp_path / "search.gif")
