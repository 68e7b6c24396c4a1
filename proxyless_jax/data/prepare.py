"""Prepares a dataset of TensorFlow Datasets, once, for random access.

  python -m proxyless_jax.data.prepare imagenette/full-size-v2 --data_dir DIR

Downloads it, where TFDS can, and writes DIR/NAME/CONFIG/VERSION/*.array_record.
ImageNet has to be downloaded by hand first: ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar go to DIR/downloads/manual. This step alone needs the
package tensorflow. (The command `tfds build` is the same, but fails to start
without the package apache-beam.)
"""

import argparse
import os
import pathlib
from collections.abc import Sequence

IMAGENET_FILES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
IMAGENET_ORIGIN = "https://image-net.org/download-images"


def prepare(name: str, data_dir: str) -> str:
  """Prepares a dataset, unless it is there.

  Args:
    name: a name of `tfds.load`: "cifar10", "name/config", "name:1.0.0".
    data_dir: folder to write to; "": the default of TFDS.

  Returns:
    The folder that holds the dataset.

  Raises:
    ImportError: a package for this step is not installed.
    ValueError: there is no such dataset, or files that a user has to download
      are not where they should be.
  """
  try:
    import tensorflow  # noqa: F401
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ImportError(
      f"{error}: to prepare a dataset takes tensorflow;"
      " pip install proxyless-jax[prepare]"
    ) from error
  where = data_dir or tfds.core.constants.DATA_DIR
  try:
    builder = tfds.builder(name, data_dir=where, file_format="array_record")
  except tfds.core.DatasetNotFoundError as error:
    raise ValueError(
      f"name={name!r}: expected a dataset of TensorFlow Datasets; pick one of"
      " https://www.tensorflow.org/datasets/catalog"
    ) from error
  except ValueError as error:  # Such as another file format that is there.
    raise ValueError(
      f"name={name!r}: expected nothing, or array_record files, in {where}:"
      f" {error}; remove that folder, or prepare in another --data_dir"
    ) from error
  if not pathlib.Path(builder.data_dir).is_dir():
    check_manual_files(name, where)
  builder.download_and_prepare()
  return str(builder.data_dir)


def is_imagenet(name: str) -> bool:
  """Whether a dataset is ILSVRC 2012, which TFDS cannot download."""
  return name.split(":")[0].split("/")[0] == "imagenet2012"


def manual_folder(data_dir: str) -> pathlib.Path:
  """The folder for files that a user has to download."""
  return pathlib.Path(data_dir) / "downloads" / "manual"


def check_manual_files(name: str, data_dir: str) -> None:
  """Raises a ValueError if all files to be downloaded by hand are missing.

  For an evaluation, the file of the validation part is enough.
  """
  if not is_imagenet(name):
    return
  folder = manual_folder(data_dir)
  missing = [file for file in IMAGENET_FILES if not (folder / file).is_file()]
  if len(missing) == len(IMAGENET_FILES):
    raise ValueError(
      f"name={name!r}: expected {' and '.join(missing)} in {folder}; download"
      f" from {IMAGENET_ORIGIN} (one has to register)"
    )
  for file in missing:
    print(f"there is no {file} in {folder}: the dataset will lack that part")


def command(name: str, data_dir: str) -> str:
  """How to prepare a dataset: the command and the files that it needs."""
  text = (
    "prepare it once (this step needs tensorflow: pip install"
    " proxyless-jax[prepare]): python -m proxyless_jax.data.prepare"
    f" {name} --data_dir {data_dir}"
  )
  if is_imagenet(name):
    text += (
      f"; before that, put {' and '.join(IMAGENET_FILES)}, from"
      f" {IMAGENET_ORIGIN}, into {manual_folder(data_dir)}"
    )
  return text


def main(argv: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = argparse.ArgumentParser(
    prog="python -m proxyless_jax.data.prepare",
    description="Prepares a dataset of TensorFlow Datasets, once.",
  )
  parser.add_argument("name", help="imagenet2012, cifar10, name/config, ...")
  parser.add_argument(
    "--data_dir",
    type=os.path.expanduser,
    default="",
    help="folder to write to; data.path of a config",
  )
  args = parser.parse_args(argv)
  try:
    print(f"prepared in {prepare(args.name, args.data_dir)}")
  except (ImportError, ValueError) as error:
    parser.exit(1, f"{error}\n")


if __name__ == "__main__":
  main()
