"""Images without labels are a source like any other."""

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import DataOptions, eval_batches
from proxyless_jax.data.dataset import Subset
from proxyless_jax.data.images import find_images, unlabelled

OPTIONS = DataOptions(
  **dict(source="mnist", name="", image_size=8, workers=0),
  **dict(crop="none", mean=(0.5,) * 3, std=(0.25,) * 3),
)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "deep" / "er").mkdir(parents=True)
  for name in ("b.png", "a.PNG", "deep/er/c.png"):
    Image.new("L", (9, 7), 30).save(tmp_path / name, format="PNG")
  (tmp_path / "a.txt").write_text("")
  (tmp_path / "plain").write_text("")
  return tmp_path


def test_they_are_prepared_as_for_an_evaluation(folder):
  images = [np.full((9, 5), 30, np.uint8), folder / "b.png", "a"]
  (folder / "a").write_bytes((folder / "b.png").read_bytes())
  images[2] = str(folder / "a")
  source = unlabelled(images, 3)
  subset = Subset(source, np.arange(len(source)))
  one, two = eval_batches(subset, OPTIONS, batch=2)
  assert one["image"].shape == two["image"].shape == (2, 8, 8, 3)
  np.testing.assert_allclose(one["image"], (30 / 255 - 0.5) / 0.25, rtol=1e-5)
  assert two["mask"].tolist() == [1, 0]


def test_any_iterable_of_files(folder):
  source = unlabelled(folder.glob("*.png"), 1)
  assert source.images == (str(folder / "b.png"),)
  assert source.labels.tolist() == [0]


def test_files_of_a_folder(folder):
  paths, (note,) = find_images(str(folder))
  names = [path[len(str(folder)) + 1 :] for path in paths]
  assert names == ["a.PNG", "b.png", "deep/er/c.png"]
  assert "skipped 1 .txt, 1 without a suffix; images are .bmp" in note


@pytest.mark.parametrize(
  "pattern, names",
  [
    ("*.png", ["b.png"]),
    ("**/*.png", ["b.png", "deep/er/c.png"]),
    ("a.*", ["a.PNG"]),
    ("plain", ["plain"]),  # It is named; it will be read.
  ],
)
def test_files_of_a_pattern(folder, pattern, names):
  paths, notes = find_images(str(folder / pattern))
  assert paths == [str(folder / name) for name in names]
  assert len(notes) == (pattern == "a.*")


def test_no_files(folder):
  with pytest.raises(ValueError, match=r"found none \(1 \.txt\): correct the"):
    find_images(str(folder / "*.txt"))
