import os
import pickle
import unicodedata

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import check
from proxyless_jax.data.folders import folder_sources


def write_image(path, value=0, size=(7, 5), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((size[1], size[0], 3), value, np.uint8)
  Image.fromarray(pixels).convert(mode).save(path)


def write(root, *names):
  for name in names:
    write_image(root / name)


@pytest.fixture
def root(tmp_path):
  """Two classes, val, nested files, and files that are not images."""
  write_image(tmp_path / "train/cat/2.png", 2)
  write_image(tmp_path / "train/cat/1.JPG", 1)
  write_image(tmp_path / "train/cat/deep/er/3.jpeg", 3, mode="L")
  write_image(tmp_path / "train/ant/4.png", 4, size=(3, 9), mode="RGBA")
  write_image(tmp_path / "train/.cache/5.png", 5)
  write_image(tmp_path / "train/__MACOSX/5.png", 5)
  for name in ("._1.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
    (tmp_path / "train/cat" / name).write_bytes(b"metadata")
  (tmp_path / "train/README").write_text("no class")
  write_image(tmp_path / "val/ant/6.png", 6)
  write_image(tmp_path / "val/cat/7.png", 7)
  return tmp_path


def files(source):
  """The files of each class, below the root."""
  found = {name: [] for name in source.names}
  for path, label in zip(source.paths, source.labels):
    found[source.names[label]].append(os.path.relpath(path, source.root))
  return found


def test_images_of_sorted_classes(root):
  train, val, notes = folder_sources(root, 3)
  assert notes == ()  # Nobody wants to hear of what systems leave behind.
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
  grey, _, _ = folder_sources(str(root), 1)
  assert grey[0]["image"].decoded.mode == "L"


def test_without_val_or_train(root):
  train, val, _ = folder_sources(root / "train", 3)
  assert val is None
  assert len(train) == 4
  assert folder_sources(root / "val", 3)[0].names == ("ant", "cat")


def test_a_source_can_be_pickled(root):
  train, _, _ = folder_sources(root, 3)
  copy = pickle.loads(pickle.dumps(train))
  assert copy[1]["image"].data == train[1]["image"].data


def test_missing_folder(tmp_path):
  with pytest.raises(ValueError, match=r"path='.*nowhere': expected a folder"):
    folder_sources(tmp_path / "nowhere", 3)


def test_without_classes(tmp_path):
  write(tmp_path, "1.png")
  with pytest.raises(ValueError, match="expected one folder per class"):
    folder_sources(tmp_path, 3)


def test_every_format_is_read_and_the_rest_counted(tmp_path):
  endings = ("bmp", "gif", "jfif", "jpeg", "jpg", "pgm", "png", "ppm", "tif")
  endings += ("tiff", "webp", "TIF", "Webp")
  for i, ending in enumerate(endings):
    form = "JPEG" if ending == "jfif" else None
    path = tmp_path / "a" / f"{i}.{ending}"
    path.parent.mkdir(exist_ok=True)
    Image.new("L" if ending == "pgm" else "RGB", (6, 5)).save(path, form)
  write(tmp_path, "b/1.png", "2.png")
  for name in ("1.txt", "2.TXT", "3.heic", "LICENSE"):
    (tmp_path / "b" / name).write_text("")
  train, _, (note,) = folder_sources(tmp_path, 3)
  assert len(files(train)["a"]) == len(endings)
  assert list(train.damaged(decoding=True)) == []
  assert note.startswith(
    f"{tmp_path}: skipped 2 .txt, 1 .heic, 1 without a suffix, 1 .png"
    " beside the class folders; images are .bmp, .gif, .jfif, "
  )


def test_links_are_followed_and_loops_end(tmp_path):
  root = tmp_path / "photos"
  write(root, "a/1.png", "b/1.png", "b/sub/2.png")
  write(tmp_path, "far/7.png", "far/deep/8.png")
  links = {
    "a/far": tmp_path / "far",
    "a/again": tmp_path / "far",  # Each folder once.
    "a/here": root / "a",
    "a/above": root,  # Would bring in the other class.
    "a/itself": root / "a/itself",
    "b/sub/loop": root / "b",
    "b/photo.png": root / "b/1.png",
    "b/lost": root / "b/nowhere",
    "c": tmp_path / "far",  # A whole class.
    "gone": tmp_path / "gone",
  }
  for name, target in links.items():
    (root / name).symlink_to(target)
  train, _, (note,) = folder_sources(root, 3)
  assert files(train) == {
    "a": ["a/1.png", "a/again/7.png", "a/again/deep/8.png"],
    "b": ["b/1.png", "b/photo.png", "b/sub/2.png"],
    "c": ["c/7.png", "c/deep/8.png"],
  }
  assert "skipped 2 links that lead nowhere, 1 links that" in note
  assert "beside the class folders" in note


def test_a_pipe_is_not_waited_for(tmp_path):
  write(tmp_path, "a/1.png", "b/1.png")
  os.mkfifo(tmp_path / "a" / "pipe.png")
  train, _, (note,) = folder_sources(tmp_path, 3)
  assert files(train) == {"a": ["a/1.png"], "b": ["b/1.png"]}
  assert "skipped 1 pipe or device" in note


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
@pytest.mark.parametrize(
  "test", ["val", "Val", "valid", "validation", "test", "Test", "Validation"]
)
def test_names_of_parts_in_any_case(tmp_path, train, test):
  write(tmp_path, f"{train}/a/1.png", f"{train}/b/2.png")
  write(tmp_path, f"{test}/a/3.png", f"{test}/b/4.png", f"{test}/b/5.png")
  train_source, test_source, notes = folder_sources(tmp_path, 3)
  assert (len(train_source), len(test_source), notes) == (2, 3, ())


PARTS = ("train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png")


def test_test_is_before_val(tmp_path):
  write(tmp_path, *PARTS, "test/a/5.png", "extra/x/6.png")
  _, test, notes = folder_sources(tmp_path, 3)
  assert test.root == str(tmp_path / "test")
  assert notes == (
    f"{tmp_path}: trains on train, tests on test; not used: extra, val",
  )


def test_a_test_part_without_the_classes_is_not_used(tmp_path):
  write(tmp_path, *PARTS, "test/9.png")
  _, test, notes = folder_sources(tmp_path, 3)
  assert test.root == str(tmp_path / "val")
  assert "tests on val; not used: test (it has no class folders)" in notes[0]
  write(tmp_path, "test/unknown/9.png")
  _, test, notes = folder_sources(tmp_path, 3)
  assert test.root == str(tmp_path / "val")
  assert "not used: test (not classes of train: unknown)" in notes[0]


def test_an_unlabelled_test_part_alone_is_not_used(tmp_path):
  write(tmp_path, *PARTS[:2], "test/9.png")
  _, test, notes = folder_sources(tmp_path, 3)
  assert test is None
  assert "trains on train, tests on a part of it; not used: test" in notes[0]


def test_only_a_test_part(tmp_path):
  write(tmp_path, "val/cat/1.png")
  train, val, notes = folder_sources(tmp_path, 3)
  assert train is None
  assert (val.names, notes) == (("cat",), ())


def test_classes_may_be_called_as_parts(tmp_path):
  write(tmp_path, "valid/1.png", "invalid/2.png")
  train, test, notes = folder_sources(tmp_path, 3)
  assert (train.names, test, notes) == (("invalid", "valid"), None, ())


@pytest.mark.parametrize("pair", [("val", "valid"), ("Train", "train")])
def test_two_folders_for_one_part(tmp_path, pair):
  write(tmp_path, "train/a/1.png", *(f"{name}/a/1.png" for name in pair))
  if len(os.listdir(tmp_path)) < len({*pair, "train"}):
    pytest.skip("this file system takes both names for one")
  with pytest.raises(ValueError, match=f"found {pair[0]} and {pair[1]}; merge"):
    folder_sources(tmp_path, 3)


@pytest.mark.parametrize("names", ["abc", "ab"])
def test_parts_are_not_classes(tmp_path, names):
  write(tmp_path, *(f"old/{name}/1.png" for name in "abc"))
  write(tmp_path, *(f"new/{name}/1.png" for name in names))
  with pytest.raises(
    ValueError, match="new, old hold the same folders, a, b, c, which"
  ):
    folder_sources(tmp_path, 3)


@pytest.mark.parametrize(
  "pair", [("Training", "Testing"), ("seg_train", "seg_test")]
)
def test_what_is_called_as_a_part_is_no_class(tmp_path, pair):
  write(tmp_path, *(f"{name}/{name}/a/1.png" for name in (*pair, "pred")))
  with pytest.raises(ValueError, match=f"but {', '.join(pair)} are called as"):
    folder_sources(tmp_path, 3)


def test_one_inner_folder_in_each_class(tmp_path):
  # As in Tiny ImageNet.
  write(tmp_path, "n01/images/1.png", "n02/images/2.png")
  assert folder_sources(tmp_path, 3)[0].names == ("n01", "n02")


def test_names_are_compared_in_nfc(tmp_path):
  composed, decomposed = (
    unicodedata.normalize(form, "café") for form in ("NFC", "NFD")
  )
  write(tmp_path, f"train/{decomposed}/1.png", "train/b/2.png")
  write(tmp_path, f"val/{composed}/3.png", "val/b/4.png")
  train, val, _ = folder_sources(tmp_path, 3)
  assert train.names == val.names == ("b", composed)
  write(tmp_path, f"train/{composed}/1.png")
  if len(os.listdir(tmp_path / "train")) == 2:
    pytest.skip("this file system takes both names for one")
  with pytest.raises(ValueError, match="two folders are called café"):
    folder_sources(tmp_path, 3)


def test_the_digest_is_of_names_below_the_root(tmp_path):
  names = ("a/1.png", unicodedata.normalize("NFC", "b/é.png"))
  write(tmp_path / "here", *names)
  write(tmp_path / "there", *(unicodedata.normalize("NFD", n) for n in names))
  here, there = (
    folder_sources(tmp_path / place, 3)[0] for place in ("here", "there")
  )
  assert here.digest == there.digest
  write(tmp_path / "here", "a/2.png")
  more, _, _ = folder_sources(tmp_path / "here", 3)
  assert more.digest != here.digest


def test_one_class(tmp_path):
  write(tmp_path, "photos/train/a/1.png", "photos/val/a/2.png")
  with pytest.raises(ValueError, match="found a alone; add a folder for each"):
    folder_sources(tmp_path / "photos", 3)
  with pytest.raises(
    ValueError, match=r"alone, which holds train, val; set data\.path to .*/ph"
  ):
    folder_sources(tmp_path, 3)


def test_empty_class_folders_are_named(root):
  for name in "bcdefgh":
    (root / "train" / name).mkdir()
    (root / "val" / name).mkdir()
  with pytest.raises(ValueError, match="none in b, c, d, e, f and 2 more"):
    folder_sources(root, 3)


CONTENTS = {
  "empty file": b"",
  "no image, or a damaged one; it begins with b'<html>'": b"<html>",
  "No such file or directory": None,
}


def test_all_damaged_files_are_found(root):
  expected = []
  for i, (why, content) in enumerate(CONTENTS.items()):
    path = root / f"train/ant/bad{i}.png"
    if content is None:
      path.symlink_to("nowhere")
    else:
      path.write_bytes(content)
    expected.append((str(path), why))
  train, _, _ = folder_sources(root, 3)
  assert list(train.damaged(decoding=True)) == expected
  assert list(train.damaged(decoding=False)) == [expected[0], expected[2]]


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_unreadable_image_is_named_when_read(root, content):
  path = root / "train/ant/4.png"
  path.write_bytes(path.read_bytes()[:45] if content is None else content)
  train, _, _ = folder_sources(root, 3)
  with pytest.raises(ValueError, match=r"4\.png: expected an image"):
    train[0]["image"].crop((0, 0, 2, 2))


def test_a_vanished_image_is_named(root):
  train, _, _ = folder_sources(root, 3)
  (root / "train/ant/4.png").unlink()
  with pytest.raises(ValueError, match=r"4\.png: expected an image file"):
    train[0]


def test_the_command_lists_what_cannot_be_read(root, capsys):
  (root / "val/cat/8.jpg").write_bytes(b"")
  (root / "train/ant/notes.txt").write_bytes(b"")
  with pytest.raises(SystemExit) as ended:
    check.main([str(root)])
  assert ended.value.code == 1
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(f"{root}/train: skipped 1 .txt; ")
  assert lines[1:] == [
    f"{root}/val/cat/8.jpg: empty file",
    "1 of 7 images cannot be read",
  ]
  (root / "val/cat/8.jpg").unlink()
  path = os.fsencode(root / "val/cat") + b"/caf\xe9.png"
  with open(path, "wb"):
    pass
  with pytest.raises(SystemExit):
    check.main([str(root)])
  assert r"cat/caf\udce9.png: empty file" in capsys.readouterr().out
  os.remove(path)
  with pytest.raises(SystemExit) as ended:
    check.main([str(root)])
  assert ended.value.code == 0
  with pytest.raises(SystemExit) as ended:
    check.main([str(root / "nowhere")])
  assert ended.value.code == 1
