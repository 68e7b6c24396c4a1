"""TFDS is read for real: a prepared folder is written without TensorFlow."""

import io
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import eval_batches, load, train_batches
from proxyless_jax.data.decode import decode_image
from proxyless_jax.data.tfds import TfdsSource, tfds_sources

tfds = pytest.importorskip("tensorflow_datasets")


SPLITS = {"train": 12, "test": 4}
REMEDY = "restore it in data.path, and the same command continues"
PARITY = tfds.features.ClassLabel(names=["even", "odd"])


def encoded_image(value):
  file = io.BytesIO()
  Image.fromarray(np.full((8, 9, 3), value % 256, np.uint8)).save(file, "PNG")
  return file.getvalue()


def shade(i):
  """Image i is of value i; its label is i % 2."""
  return {"image": encoded_image(i), "label": i % 2}


def prepare(
  root,
  name="shades",
  splits=SPLITS,
  form="array_record",
  label=PARITY,
  shape=(None, None, 3),
  more=(),
  example=shade,
):
  """Writes a dataset as TFDS does; returns the folder that it is in."""
  features = tfds.features.FeaturesDict(
    {"image": tfds.features.Image(shape=shape), "label": label, **dict(more)}
  )
  folder = root / name / "1.0.0"
  folder.mkdir(parents=True)
  infos = []
  for split, count in splits.items():
    template = tfds.core.ShardedFileTemplate(
      data_dir=folder,
      dataset_name=name.split("/")[0],
      split=split,
      filetype_suffix=form,
    )
    path = template.sharded_filepath(shard_index=0, num_shards=1)
    write_records(str(path), features, map(example, range(count)))
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[count],
        num_bytes=1,
        filename_template=template,
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=folder, features=features, split_infos=infos, check_data=False
  )
  return str(root)


def write_records(path, features, examples):
  from array_record.python.array_record_module import ArrayRecordWriter
  from tensorflow_datasets.core import example_serializer

  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  writer = ArrayRecordWriter(path, "group_size:1")
  for example in examples:
    writer.write(serializer.serialize_example(example))
  writer.close()


def test_reads_images_and_labels_without_tensorflow(tmp_path):
  train, test = tfds_sources("shades", prepare(tmp_path), 3)
  assert (len(train), len(test)) == (12, 4)
  assert train.names == ("even", "odd")
  assert train.classes == 2
  record = train[7]
  assert record["label"] == 1
  np.testing.assert_array_equal(record["image"].decoded, np.full((8, 9, 3), 7))
  grey, _ = tfds_sources("shades", str(tmp_path), 1)
  assert grey[7]["image"].decoded.mode == "L"
  assert "tensorflow" not in sys.modules


def test_labels_are_read_without_decoding_once(tmp_path, monkeypatch):
  monkeypatch.setattr("proxyless_jax.data.decode.decode_image", None)
  monkeypatch.setattr("proxyless_jax.data.tfds.CHUNK", 5)
  train, _ = tfds_sources("shades", prepare(tmp_path), 3)
  np.testing.assert_array_equal(train.labels, np.arange(12) % 2)
  assert train.labels.dtype == np.int32
  assert train.labels is train.labels
  monkeypatch.setattr(TfdsSource, "_read_labels", None)
  again, _ = tfds_sources("shades", str(tmp_path), 3)
  np.testing.assert_array_equal(again.labels, train.labels)


def test_labels_of_new_records_are_read_again(tmp_path):
  root = prepare(tmp_path)
  train, _ = tfds_sources("shades", root, 3)
  assert train.labels[1] == 1
  shutil.move(tmp_path / "shades", tmp_path / "old")
  prepare(tmp_path, example=lambda i: shade(i) | {"label": 0})
  train, _ = tfds_sources("shades", root, 3)
  assert (train.labels == 0).all()


def imagenet_example(i):
  """JPEGs of ImageNet's shapes, the colour of i; some grey, some CMYK."""
  size = [(500, 375), (375, 500), (500, 333), (60, 45), (640, 480)][i % 5]
  mode = {3: "L", 7: "CMYK"}.get(i % 10, "RGB")
  file = io.BytesIO()
  Image.new("RGB", size, (20 * i,) * 3).convert(mode).save(file, "JPEG")
  return {
    "image": file.getvalue(),
    "label": i * 83,
    "file_name": f"n{i:08d}_{i}.JPEG",
  }


@pytest.mark.parametrize("workers", [0, 2])
def test_imagenet_format(tmp_path, make_options, workers):
  path = prepare(
    tmp_path,
    name="imagenet2012",
    splits={"train": 12, "validation": 6, "test": 3},
    label=tfds.features.ClassLabel(names=[f"n{i:08d}" for i in range(1000)]),
    more={"file_name": tfds.features.Text()},
    example=imagenet_example,
  )
  options = make_options(
    source="tfds",
    path=path,
    name="imagenet2012",
    channels=3,
    image_size=56,
    crop="resized",
    flip=True,
    brightness=32 / 255,
    saturation=0.5,
    workers=workers,
  )
  dataset = load(options)
  assert dataset.classes == 1000
  assert len(dataset.test) == 6
  assert len(dataset.weights) + len(dataset.arch) == 12
  iterator = train_batches(dataset.train, options, batch=12, seed=0)
  batch = next(iterator)
  iterator.close()
  assert batch["image"].shape == (12, 56, 56, 3)
  values = (batch["image"] * 0.25 + 0.5).mean((1, 2, 3)) * 255
  wanted = batch["label"] / 83 * 20  # But for the brightness, an eighth of it.
  assert (np.abs(values - wanted) <= wanted / 8 + 2).all()
  (tested,) = eval_batches(dataset.test, options, batch=8)
  values = (tested["image"] * 0.25 + 0.5)[:6, :, :, 1] * 255
  assert np.abs(values - 20 * np.arange(6)[:, None, None]).max() <= 2
  np.testing.assert_array_equal(tested["label"][:6], 83 * np.arange(6))


def cifar_example(i):
  pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  return {"image": file.getvalue(), "label": i % 10, "id": f"train_{i:05d}"}


@pytest.mark.parametrize("name", ["cifar10", "cifar10:1.0.0", "cifar10/small"])
def test_cifar_format(tmp_path, make_options, name):
  path = prepare(
    tmp_path,
    name=name.split(":")[0],
    splits={"train": 40, "test": 10},
    label=tfds.features.ClassLabel(num_classes=10),
    shape=(32, 32, 3),
    more={"id": tfds.features.Text()},
    example=cifar_example,
  )
  options = make_options(
    source="tfds",
    path=path,
    name=name,
    channels=3,
    image_size=32,
    crop="pad",
    crop_padding=4,
    flip=True,
    cutout=16,
  )
  dataset = load(options)
  assert dataset.classes == 10
  assert (
    np.bincount(dataset.arch.source.labels[dataset.arch.indices]).max() == 2
  )
  batch = next(train_batches(dataset.train, options, batch=40, seed=0))
  cut = (batch["image"] == 0).all(-1).sum((1, 2))
  assert (cut >= 8 * 8).all()
  assert (cut <= 16 * 16).all()
  tested = next(iter(eval_batches(dataset.test, options, batch=10)))
  pixels = decode_image(cifar_example(3)["image"], 3)
  np.testing.assert_allclose(
    (tested["image"][3] * 0.25 + 0.5) * 255, np.asarray(pixels), atol=1e-3
  )


@pytest.mark.parametrize(
  ("name", "splits", "size"),
  [
    ("shades", {"train": 12, "test": 4, "validation": 2}, 4),
    ("shades", {"train": 12, "validation": 2}, 2),
    ("imagenet_toy", {"train": 12, "test": 4, "validation": 2}, 2),
    ("shades", {"train": 12}, None),
  ],
)
def test_choice_of_the_test_split(tmp_path, name, splits, size):
  _, test = tfds_sources(name, prepare(tmp_path, name, splits), 3)
  assert (len(test) if test else None) == size


def test_parts_and_batches(tmp_path, make_options):
  options = make_options(
    source="tfds",
    path=prepare(tmp_path),
    name="shades",
    channels=3,
    image_size=8,
    crop="none",
    workers=0,
  )
  dataset = load(options)
  assert (len(dataset.weights), len(dataset.arch)) == (6, 6)
  assert len(dataset.test) == 4
  iterator = train_batches(dataset.train, options, batch=12, seed=0)
  batch = next(iterator)
  iterator.close()
  values = np.round((batch["image"][:, 0, 0, 0] * 0.25 + 0.5) * 255)
  np.testing.assert_array_equal(np.sort(values), np.arange(12))
  np.testing.assert_array_equal(values % 2, batch["label"])


def test_not_prepared_names_folder_and_command(tmp_path):
  with pytest.raises(ValueError, match="name='cifar10'") as error:
    tfds_sources("cifar10", str(tmp_path), 3)
  message = str(error.value)
  assert f"in {tmp_path}" in message
  assert "needs tensorflow: pip install proxyless-jax[prepare]" in message
  assert (
    f"python -m proxyless_jax.data.prepare cifar10 --data_dir {tmp_path}"
    in message
  )


def test_imagenet_not_prepared_says_which_files_go_where(tmp_path):
  with pytest.raises(ValueError, match="name='imagenet2012'") as error:
    tfds_sources("imagenet2012", str(tmp_path), 3)
  message = str(error.value)
  assert f"prepare imagenet2012 --data_dir {tmp_path}" in message
  assert "ILSVRC2012_img_train.tar" in message
  assert f"into {tmp_path}/downloads/manual" in message


def test_another_version_or_config_is_not_prepared(tmp_path):
  path = prepare(tmp_path)
  for name in ("shades:2.0.0", "shades/large"):
    with pytest.raises(ValueError, match=f"name='{name}': expected this"):
      tfds_sources(name, path, 3)


def test_an_interrupted_preparation_is_not_prepared(tmp_path):
  path = prepare(tmp_path)
  folder = tmp_path / "shades"
  (folder / "1.0.0").rename(folder / "incomplete.AB12CD_1.0.0")
  with pytest.raises(ValueError, match="expected this dataset, prepared"):
    tfds_sources("shades", path, 3)


def test_missing_records_are_named_with_the_command(tmp_path):
  path = prepare(tmp_path)
  (records,) = tmp_path.rglob("shades-train.array_record*")
  records.unlink()
  with pytest.raises(ValueError, match=re.escape(str(records))) as error:
    tfds_sources("shades", path, 3)
  message = str(error.value)
  assert f"remove {tmp_path}/shades/1.0.0, then prepare it" in message
  assert f"data.prepare shades --data_dir {path}" in message


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_descriptions_are_an_error(tmp_path, file):
  path = prepare(tmp_path)
  (description,) = tmp_path.rglob(file)
  description.write_text(description.read_text()[:200])
  with pytest.raises(ValueError, match=f"^shades in {path}: expected the") as e:
    tfds_sources("shades", path, 3)
  assert str(e.value).endswith(REMEDY)


@pytest.mark.parametrize("workers", [0, 2])
def test_records_that_vanish_end_a_pass(tmp_path, make_options, workers):
  options = make_options(
    source="tfds",
    path=prepare(tmp_path),
    name="shades",
    channels=3,
    workers=workers,
  )
  dataset = load(options)
  shutil.rmtree(tmp_path / "shades")
  title = f"shades/1.0.0 split test in {tmp_path}/shades/1.0.0: expected rec"
  with pytest.raises(ValueError, match=re.escape(title)) as error:
    list(eval_batches(dataset.test, options, batch=2))
  message = str(error.value)
  assert message.endswith(REMEDY)
  assert "\n" not in message


def test_records_cut_off_while_they_are_open(tmp_path):
  path = prepare(tmp_path, splits={"train": 1500})
  train, _ = tfds_sources("shades", path, 3)
  assert train[0]["label"] == 0
  (records,) = tmp_path.rglob("shades-train.array_record*")
  with open(records, "r+b") as file:
    file.truncate(0)
  for read in (lambda: train[1499], lambda: train.labels):
    with pytest.raises(ValueError, match="the file was cut off") as error:
      read()
    assert str(error.value).endswith(REMEDY)


def test_default_folder_is_that_of_tfds(monkeypatch, tmp_path):
  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
  with pytest.raises(ValueError, match=str(tmp_path)):
    tfds_sources("cifar10", "", 3)


def test_other_file_formats_are_an_error(tmp_path):
  path = prepare(tmp_path, form="tfrecord")
  with pytest.raises(ValueError, match=r"array_record.*found tfrecord.*remove"):
    tfds_sources("shades", path, 3)


def test_a_test_split_alone_is_for_evaluation(tmp_path):
  path = prepare(tmp_path, splits={"test": 4})
  train, test = tfds_sources("shades", path, 3)
  assert train is None
  assert len(test) == 4


def test_other_splits_are_an_error(tmp_path):
  path = prepare(tmp_path, splits={"extra": 4})
  with pytest.raises(ValueError, match="test or validation, found extra"):
    tfds_sources("shades", path, 3)


def test_features_must_be_an_image_and_a_label(tmp_path):
  path = prepare(tmp_path, splits={"train": 0}, label=tfds.features.Text())
  with pytest.raises(ValueError, match="a feature label of type ClassLabel"):
    tfds_sources("shades", path, 3)


def test_unreadable_image_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(sys.modules[__name__], "encoded_image", lambda _: b"no")
  train, _ = tfds_sources("shades", prepare(tmp_path), 3)
  assert isinstance(train, TfdsSource)
  with pytest.raises(
    ValueError, match=r"image 3 of shades/1\.0\.0 split train"
  ):
    _ = train[3]["image"].decoded


def test_without_the_package_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
    tfds_sources("cifar10", "", 3)
