"""TensorFlow Datasets read without TensorFlow: array_record files, by index.

TFDS needs TensorFlow to prepare a dataset, once; to read one that was prepared
as array_record it does not. The images are decoded here and not by TFDS, so
that all sources share their conventions, and labels can be read alone.
"""

import functools
import io

import numpy as np

from proxyless_jax.data.decode import decode_image

CHUNK = 1024


class TfdsSource:
  """One split of a prepared dataset with the features image and label.

  Attributes:
    names: one per class.
    channels: of the images, 1 or 3.
  """

  def __init__(self, builder, split, channels):
    import tensorflow_datasets as tfds

    self.names = tuple(builder.info.features["label"].names)
    self.channels = channels
    self._where = (
      f"{builder.info.full_name} split {split} in {builder.data_dir}"
    )
    self._records = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}
    )

  @property
  def classes(self):
    return len(self.names)

  @functools.cached_property
  def labels(self):
    """i32[n]. Read once, from all records: TFDS keeps no index of labels."""
    labels = np.empty(len(self), np.int32)
    for start in range(0, len(self), CHUNK):
      indices = range(start, min(start + CHUNK, len(self)))
      records = self._records.__getitems__(list(indices))
      labels[indices] = [record["label"] for record in records]
    return labels

  def __len__(self):
    return len(self._records)

  def __getitem__(self, index):
    record = self._records[index]
    try:
      image = decode_image(io.BytesIO(record["image"]), self.channels)
    except Exception as error:
      raise ValueError(
        f"image {index} of {self._where}: expected a JPEG or PNG image, but it"
        f" cannot be read ({error}); prepare the dataset again"
      ) from error
    return {"image": image, "label": int(record["label"])}


def tfds_sources(name, data_dir, channels):
  """The sources of a prepared dataset: train, and test or None.

  The test part is "validation" of an ImageNet, whose split "test" has no
  labels; else "test"; else "validation".

  Args:
    name: as for `tfds.load`: "cifar10", "name/config", "name:1.0.0".
    data_dir: where it was prepared; "": the default of TFDS.
    channels: of the images, 1 or 3.

  Raises:
    ImportError: tensorflow_datasets is not installed.
    ValueError: the dataset is not prepared there, or not as array_record; it
      has no split train; or no features image and label.
  """
  builder = _builder(name, data_dir)
  splits = set(builder.info.splits)
  if "train" not in splits:
    raise ValueError(
      f"name={name!r}: expected a split train, found"
      f" {', '.join(sorted(splits))}; use a dataset for training"
    )
  train = TfdsSource(builder, "train", channels)
  order = ("test", "validation")
  if builder.info.name.startswith("imagenet"):
    order = ("validation",)
  for split in order:
    if split in splits:
      return train, TfdsSource(builder, split, channels)
  return train, None


def _builder(name, data_dir):
  try:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder
  except ImportError as error:
    raise ImportError(
      'source="tfds": expected the package tensorflow_datasets;'
      " pip install proxyless-jax[tfds]"
    ) from error
  where = data_dir or tfds.core.constants.DATA_DIR
  try:
    # Not tfds.builder: it imports the code of the dataset, which may need
    # TensorFlow, and falls back to a dataset that is not there.
    builder = read_only_builder.builder_from_files(name, data_dir=where)
  except tfds.core.DatasetNotFoundError as error:
    raise ValueError(
      f"name={name!r}: expected this dataset, prepared, in {where}; "
      + _how_to_prepare(name, where)
    ) from error
  formats = {f.value for f in builder.info.available_file_formats()}
  if "array_record" not in formats:
    raise ValueError(
      f"name={name!r}: expected array_record files in {builder.data_dir}, found"
      f" {', '.join(sorted(formats))}, which cannot be read by index; "
      + _how_to_prepare(name, where)
    )
  features = builder.info.features
  kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
  for field, kind in kinds.items():
    if field not in features or not isinstance(features[field], kind):
      raise ValueError(
        f"name={name!r}: expected a feature {field} of type"
        f" {kind.__name__}, found"
        f" {dict(features.items())}; use a dataset of labelled images"
      )
  return builder


def _how_to_prepare(name, where):
  return (
    "prepare it once (this step needs the package tensorflow): tfds build"
    f" {name} --data_dir {where} --file_format array_record"
  )
