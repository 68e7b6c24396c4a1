"""TFDS is read for real: a prepared folder is written without TensorFlow."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import load, train_batches
from proxyless_jax.data.tfds import TfdsSource, tfds_sources

tfds = pytest.importorskip("tensorflow_datasets")


SPLITS = {"train": 12, "test": 4}


def prepare(
  root, name="shades", splits=SPLITS, form="array_record", label=None
):
  """Writes a dataset whose image i is of value i and label i % 2."""
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(None, None, 3)),
      "label": label or tfds.features.ClassLabel(names=["even", "odd"]),
    }
  )
  folder = root / name / "1.0.0"
  folder.mkdir(parents=True)
  infos = []
  for split, count in splits.items():
    template = tfds.core.ShardedFileTemplate(
      data_dir=folder, dataset_name=name, split=split, filetype_suffix=form
    )
    path = template.sharded_filepath(shard_index=0, num_shards=1)
    write_records(str(path), features, count)
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


def write_records(path, features, count):
  from array_record.python.array_record_module import ArrayRecordWriter
  from tensorflow_datasets.core import example_serializer

  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  writer = ArrayRecordWriter(path, "group_size:1")
  for i in range(count):
    example = {"image": encoded_image(i), "label": i % 2}
    writer.write(serializer.serialize_example(example))
  writer.close()


def encoded_image(value):
  file = io.BytesIO()
  Image.fromarray(np.full((8, 9, 3), value, np.uint8)).save(file, "PNG")
  return file.getvalue()


def test_reads_images_and_labels_without_tensorflow(tmp_path):
  train, test = tfds_sources("shades", prepare(tmp_path), 3)
  assert (len(train), len(test)) == (12, 4)
  assert train.names == ("even", "odd")
  assert train.classes == 2
  record = train[7]
  assert record["label"] == 1
  np.testing.assert_array_equal(record["image"], np.full((8, 9, 3), 7))
  assert tfds_sources("shades", str(tmp_path), 1)[0][7]["image"].shape == (
    8,
    9,
    1,
  )
  assert "tensorflow" not in sys.modules


def test_labels_are_read_without_decoding_once(tmp_path, monkeypatch):
  train, _ = tfds_sources("shades", prepare(tmp_path), 3)
  monkeypatch.setattr("proxyless_jax.data.tfds.decode_image", None)
  monkeypatch.setattr("proxyless_jax.data.tfds.CHUNK", 5)
  np.testing.assert_array_equal(train.labels, np.arange(12) % 2)
  assert train.labels.dtype == np.int32
  assert train.labels is train.labels


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


def test_batches_of_worker_processes(tmp_path, make_options):
  options = make_options(
    source="tfds",
    path=prepare(tmp_path),
    name="shades",
    channels=3,
    image_size=8,
    crop="none",
    workers=2,
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
  assert "needs the package tensorflow" in message
  assert (
    f"tfds build cifar10 --data_dir {tmp_path} --file_format array_record"
    in message
  )


def test_default_folder_is_that_of_tfds(monkeypatch, tmp_path):
  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
  with pytest.raises(ValueError, match=str(tmp_path)):
    tfds_sources("cifar10", "", 3)


def test_other_file_formats_are_an_error(tmp_path):
  path = prepare(tmp_path, form="tfrecord")
  with pytest.raises(ValueError, match=r"found tfrecord.*array_record"):
    tfds_sources("shades", path, 3)


def test_no_train_split(tmp_path):
  path = prepare(tmp_path, splits={"test": 4})
  with pytest.raises(ValueError, match="expected a split train, found test"):
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
    train[3]


def test_without_the_package_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(ImportError, match=r"pip install proxyless-jax\[tfds\]"):
    tfds_sources("cifar10", "", 3)
