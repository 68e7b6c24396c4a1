"""TensorFlow Datasets read without TensorFlow: array_record files, by index.

TFDS needs TensorFlow to prepare a dataset, once; to read one that was prepared
as array_record it does not. The images are decoded here and not by TFDS, so
that all sources share their conventions, and labels can be read alone.
"""

import functools
import pickle
from typing import Any

import numpy as np

from proxyless_jax.data import prepare
from proxyless_jax.data.decode import EncodedImage, unreadable
from proxyless_jax.data.labels import fingerprint, kept_labels

CHUNK = 1024


class TfdsSource:
  """One split of a prepared dataset with the features image and label.

  Attributes:
    names: names of the classes, by label.
    channels: channels to convert the images to, 1 or 3.
  """

  def __init__(self, builder: Any, split: str, channels: int):
    """Opens a split.

    Args:
      builder: TFDS's builder of the dataset.
      split: name of the split.
      channels: channels to convert the images to, 1 or 3.
    """
    import tensorflow_datasets as tfds

    self.names = tuple(builder.info.features["label"].names)
    self.channels = channels
    self._split = split
    self._folder = str(builder.data_dir)
    self._name = builder.info.full_name
    self._title = f"{self._name} split {split} in {self._folder}"
    self._files = [str(p) for p in builder.info.splits[split].filepaths]
    self._records = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}
    )

  @property
  def classes(self) -> int:
    """Number of classes."""
    return len(self.names)

  @property
  def digest(self) -> str:
    """The dataset with its version, the split, and the number of images."""
    return f"{len(self)} images of {self._name} split {self._split}"

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """i32[n], read from all records once, then kept on disk."""
    digest = fingerprint(f"{self._name} {self._split}", self._files)
    return kept_labels(
      self._folder, self._split, digest, len(self), self._read_labels
    )

  def __getstate__(self) -> dict[str, Any]:
    return {**self.__dict__, "_records": pickle.dumps(self._records)}

  def __setstate__(self, state: dict[str, Any]) -> None:
    # Unpickled here, where an error can be caught: TFDS reads the dataset's
    # description again, which may have gone when a worker process starts.
    try:
      records = pickle.loads(state["_records"])
    except Exception as error:
      raise unreadable(state["_title"], "records", error) from error
    self.__dict__.update(state, _records=records)

  def _read_labels(self):
    labels = np.empty(len(self), np.int32)
    for start in range(0, len(self), CHUNK):
      indices = range(start, min(start + CHUNK, len(self)))
      read = functools.partial(self._records.__getitems__, list(indices))
      records = _whole(read, self._title)
      labels[indices] = [record["label"] for record in records]
    return labels

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict:
    title = f"image {index} of {self._title}"
    (record,) = _whole(lambda: [self._records[index]], title)
    image = EncodedImage(record["image"], self.channels, title)
    return {"image": image, "label": int(record["label"])}


def _whole(read, title):
  """The records that `read` returns; a ValueError if some cannot be read."""
  try:
    records = read()
  except Exception as error:  # Whatever array_record and the parser raise.
    raise unreadable(title, "records", error) from error
  if any(record["label"] is None for record in records):
    # array_record reads empty records from a file that was cut off while open.
    raise unreadable(title, "records", "the file was cut off")
  return records


def tfds_sources(
  name: str, data_dir: str, channels: int
) -> tuple[TfdsSource | None, TfdsSource | None]:
  """The sources of a prepared dataset: train and test, one may be None.

  The test part is "validation" of an ImageNet, whose split "test" has no
  labels; else "test"; else "validation".

  Args:
    name: a name of `tfds.load`: "cifar10", "name/config", "name:1.0.0".
    data_dir: folder where it was prepared; "": the default of TFDS.
    channels: channels to convert the images to, 1 or 3.

  Raises:
    ImportError: tensorflow_datasets is not installed.
    ValueError: the dataset is not prepared there, or not as array_record, or
      its files are missing or damaged; it has no split train; or no features
      image and label.
  """
  builder = _builder(name, data_dir)
  is_imagenet = builder.info.name.startswith("imagenet")
  order = ("validation",) if is_imagenet else ("test", "validation")
  splits = set(builder.info.splits)
  test = next((split for split in order if split in splits), None)
  if "train" not in splits and test is None:
    raise ValueError(
      f"name={name!r}: expected a split train, test or validation, found"
      f" {', '.join(sorted(splits))}; use a dataset of such splits"
    )
  return (
    TfdsSource(builder, "train", channels) if "train" in splits else None,
    None if test is None else TfdsSource(builder, test, channels),
  )


def _builder(name, data_dir):
  try:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder
  except ImportError as error:
    raise ImportError(
      'source="tfds": expected the package tensorflow_datasets;'
      " pip install tensorflow-datasets"
    ) from error
  where = data_dir or tfds.core.constants.DATA_DIR
  try:
    # Not tfds.builder: it imports the code of the dataset, which may need
    # TensorFlow, and falls back to a dataset that is not there.
    builder = read_only_builder.builder_from_files(name, data_dir=where)
  except tfds.core.DatasetNotFoundError as error:
    raise ValueError(
      f"name={name!r}: expected this dataset, prepared, in {where}; bring it"
      f" back, or correct data.path, or {prepare.command(name, where)}"
    ) from error
  except Exception as error:  # Whatever TFDS raises for damaged descriptions.
    raise unreadable(
      f"{name} in {where}", "the description of a dataset", error
    ) from error
  again = f"remove {builder.data_dir}, then {prepare.command(name, where)}"
  formats = {f.value for f in builder.info.available_file_formats()}
  if "array_record" not in formats:
    raise ValueError(
      f"name={name!r}: expected array_record files in {builder.data_dir}, found"
      f" {', '.join(sorted(formats))}, which cannot be read by index; {again}"
    )
  _check_records(builder, again)
  _check_features(name, builder.info.features)
  return builder


def _check_features(name, features):
  """Raises a ValueError for a dataset without labelled images."""
  import tensorflow_datasets as tfds

  kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
  for field, kind in kinds.items():
    if field not in features or not isinstance(features[field], kind):
      raise ValueError(
        f"name={name!r}: expected a feature {field} of type"
        f" {kind.__name__}, found"
        f" {dict(features.items())}; use a dataset of labelled images"
      )


def _check_records(builder, again):
  """Raises a ValueError that names the first missing file of records."""
  for split in builder.info.splits.values():
    for path in split.filepaths:
      if not path.is_file():
        raise ValueError(
          f"{path}: expected records, as the dataset's description says, found"
          f" no such file; restore it in data.path, or {again}"
        )
