import shutil

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import check_search, load


def counts(subset):
  return np.bincount(subset.source.labels[subset.indices])


def test_mnist_parts(make_options):
  dataset = load(make_options(arch_fraction=0.25))
  assert (dataset.classes, dataset.channels) == (10, 1)
  assert dataset.names[9] == "9"
  np.testing.assert_array_equal(counts(dataset.test), [100] * 10)
  np.testing.assert_array_equal(counts(dataset.train), [400] * 10)
  np.testing.assert_array_equal(counts(dataset.weights), [300] * 10)
  np.testing.assert_array_equal(counts(dataset.arch), [100] * 10)
  both = np.concatenate([dataset.weights.indices, dataset.arch.indices])
  np.testing.assert_array_equal(np.sort(both), dataset.train.indices)
  everything = np.concatenate([dataset.train.indices, dataset.test.indices])
  np.testing.assert_array_equal(np.sort(everything), np.arange(5000))


def test_split_seed_decides(make_options):
  first, again, other = (
    load(make_options(split_seed=seed)) for seed in (0, 0, 1)
  )
  for part in ("weights", "arch", "test"):
    indices = getattr(first, part).indices
    np.testing.assert_array_equal(indices, getattr(again, part).indices)
    assert (indices != getattr(other, part).indices).any()


def write_folder(root, parts):
  for part, number in parts.items():
    for name in ("ant", "cat"):
      folder = root / part / name
      folder.mkdir(parents=True)
      for i in range(number):
        Image.new("RGB", (6, 5), (i, 0, 0)).save(folder / f"{i}.png")


def test_folder_with_val_tests_on_it(tmp_path, make_options):
  write_folder(tmp_path, {"train": 6, "val": 3})
  options = make_options(source="folder", path=str(tmp_path), channels=3)
  dataset = load(options)
  assert dataset.names == ("ant", "cat")
  assert dataset.channels == 3
  assert dataset.test.source is not dataset.train.source
  np.testing.assert_array_equal(dataset.test.indices, np.arange(6))
  np.testing.assert_array_equal(dataset.train.indices, np.arange(12))
  np.testing.assert_array_equal(counts(dataset.arch), [3, 3])


def test_an_evaluation_needs_no_images_to_train_on(tmp_path, make_options):
  write_folder(tmp_path, {"val": 3})
  options = make_options(source="folder", path=str(tmp_path), channels=3)
  dataset = load(options, test_only=True)
  assert (dataset.classes, len(dataset.test), dataset.train) == (2, 6, None)
  with pytest.raises(ValueError, match="expected images to train on"):
    load(options)


def test_the_test_part_is_the_same_when_it_is_alone(make_options):
  both, alone = (load(make_options(), test_only=x) for x in (False, True))
  np.testing.assert_array_equal(both.test.indices, alone.test.indices)


def test_folder_without_val_tests_on_a_fraction(tmp_path, make_options):
  write_folder(tmp_path, {"": 10})
  options = make_options(source="folder", path=str(tmp_path), channels=3)
  dataset = load(options)
  np.testing.assert_array_equal(counts(dataset.test), [2, 2])
  np.testing.assert_array_equal(counts(dataset.train), [8, 8])
  assert not set(dataset.test.indices) & set(dataset.train.indices)


@pytest.mark.parametrize("field", ["test_fraction", "arch_fraction"])
def test_too_few_images_names_the_field(tmp_path, make_options, field):
  write_folder(tmp_path, {"": 3})
  options = make_options(
    source="folder", path=str(tmp_path), channels=3, **{field: 0.01}
  )
  with pytest.raises(ValueError, match=f"{field}=0.01: expected at least one"):
    load(options)


def folder_options(make_options, root, **fields):
  return make_options(source="folder", path=str(root), channels=3, **fields)


def test_all_files_that_cannot_be_read_are_listed(tmp_path, make_options):
  write_folder(tmp_path, {"train": 12, "val": 3})
  for i in range(11):
    (tmp_path / f"train/ant/{i}.png").write_bytes(b"")
  (tmp_path / "val/cat/1.png").write_bytes(b"<html>")
  options = folder_options(make_options, tmp_path)
  with pytest.raises(ValueError) as error:
    load(options)
  message = str(error.value)
  assert message.startswith(
    f"{tmp_path}: expected images, but 12 of 30 files cannot be read: "
    "train/ant/0.png (empty file), train/ant/1.png (empty file), "
  )
  assert message.endswith(" and 2 more; replace or remove them")
  with pytest.raises(
    ValueError, match="1 of 6 files cannot be read: val/cat/1"
  ):
    load(options, test_only=True)


def test_of_many_files_the_sizes_alone_are_looked_at(
  tmp_path, make_options, monkeypatch
):
  monkeypatch.setattr("proxyless_jax.data.dataset.DECODED_FILES", 23)
  write_folder(tmp_path, {"": 12})
  (tmp_path / "ant/0.png").write_bytes(b"<html>")
  options = folder_options(make_options, tmp_path)
  (note,) = load(options).notes
  command = f"python -m proxyless_jax.data.check {tmp_path}"
  assert note.startswith(f"{tmp_path}: of 24 images,") and command in note
  (tmp_path / "cat/0.png").write_bytes(b"")
  with pytest.raises(ValueError, match=r"1 of 24 files .*: cat/0\.png \(empty"):
    load(options)


def test_one_class(tmp_path, make_options):
  write_folder(tmp_path, {"val": 3})
  (tmp_path / "val/cat").rename(tmp_path / "away")
  options = folder_options(make_options, tmp_path)
  with pytest.raises(ValueError, match="two or more classes, found ant alone"):
    load(options, test_only=True)
  # It can be told how well the network knows that one.
  dataset = load(options, test_only=True, names=("ant", "cat"))
  assert (dataset.classes, len(dataset.test)) == (2, 3)


def write_classes(root, counts):
  for name, count in counts.items():
    (root / name).mkdir(parents=True)
    for i in range(count):
      Image.new("L", (4, 4)).save(root / name / f"{i}.png")


def test_classes_without_an_image_to_train_on(tmp_path, make_options):
  write_classes(tmp_path, {f"c{i:02}": 1 for i in range(20)})
  options = folder_options(make_options, tmp_path, test_fraction=0.2)
  with pytest.raises(
    ValueError,
    match=r"to train on, found none of c\d\d, .* few for test_fraction=0\.2",
  ):
    load(options)


def test_classes_that_are_not_tested_on(tmp_path, make_options):
  write_classes(tmp_path, {"a": 20, "b": 20, "c": 2})
  options = folder_options(make_options, tmp_path, test_fraction=0.1)
  (note,) = load(options).notes
  assert note == f"{tmp_path}: no image to test on of c"


def test_classes_that_a_search_would_not_learn(tmp_path, make_options):
  write_classes(tmp_path / "train", {"a": 9, "b": 9, "c": 1})
  write_classes(tmp_path / "val", {"a": 1, "b": 1, "c": 1})
  options = folder_options(make_options, tmp_path, arch_fraction=0.8)
  dataset = load(options)  # To train is possible.
  with pytest.raises(
    ValueError, match=r"the weights on, found none of c, .* arch_fraction=0\.8"
  ):
    check_search(options, dataset)
  options = folder_options(make_options, tmp_path, arch_fraction=0.2)
  (note,) = check_search(options, load(options))
  assert note == f"{tmp_path}: no image to train the architecture on of c"


def test_val_without_a_class_of_train(tmp_path, make_options):
  write_folder(tmp_path, {"train": 6, "val": 3})
  write_classes(tmp_path / "train", {"bee": 4})
  dataset = load(folder_options(make_options, tmp_path))
  assert dataset.names == ("ant", "bee", "cat")
  assert dataset.notes == (
    f"{tmp_path}/val: no images of bee: tests on the other 2 of 3 classes",
  )
  np.testing.assert_array_equal(counts(dataset.test), [3, 0, 3])
  test = dataset.test
  labels = [test.source[i]["label"] for i in test.indices]
  np.testing.assert_array_equal(labels, test.source.labels)


def test_val_with_a_class_that_train_has_not(tmp_path, make_options):
  write_folder(tmp_path, {"train": 6, "val": 3})
  write_classes(tmp_path / "val", {"dog": 1})
  with pytest.raises(
    ValueError, match=r"to train on, ant, cat; found ant, cat, dog .* or remove"
  ):
    load(folder_options(make_options, tmp_path))


@pytest.mark.parametrize("parts", [{"": 10}, {"train": 6, "val": 3}])
def test_labels_follow_the_names_that_a_network_knows(
  tmp_path, make_options, parts
):
  write_folder(tmp_path, parts)
  options = folder_options(make_options, tmp_path)
  plain, other = load(options), load(options, names=("cat", "ant"))
  assert other.names == ("cat", "ant")
  for part in ("train", "test"):
    source = getattr(other, part).source
    of_plain = getattr(plain, part).source
    np.testing.assert_array_equal(source.labels, 1 - of_plain.labels)
    assert source[0]["label"] == 1 - of_plain[0]["label"]
  assert other.contents == plain.contents


def test_classes_of_other_names_are_refused(tmp_path, make_options):
  write_folder(tmp_path, {"train": 6, "val": 3})
  options = folder_options(make_options, tmp_path)
  for test_only in (False, True):
    with pytest.raises(
      ValueError,
      match=r"of this run .*, ant, kitten; found ant, cat \(missing: ",
    ):
      load(options, names=("ant", "kitten"), test_only=test_only)


def test_contents_say_what_there_is_and_not_where(tmp_path, make_options):
  here, there = tmp_path / "here", tmp_path / "there"
  for root in (here, there):
    write_folder(root, {"train": 6, "val": 3})
  of_here, of_there = (
    load(folder_options(make_options, root)).contents for root in (here, there)
  )
  assert of_here == of_there
  assert of_here["train"]["images"] == 12 and of_here["test"]["images"] == 6
  (there / "val/ant/0.png").rename(there / "val/ant/9.png")
  of_there = load(folder_options(make_options, there)).contents
  assert of_here["train"] == of_there["train"]
  assert of_here["test"] != of_there["test"]
  assert list(load(make_options()).contents) == ["train"]
  # Without its test part, fewer of the same images are left to train on.
  shutil.rmtree(there / "val")
  split = load(folder_options(make_options, there)).contents
  assert list(split) == ["train"] and split["train"].pop("to_train") < 12
  assert of_here["train"] == split["train"] | {"to_train": 12}
