"""Job 'predict': image files in, a CSV file out."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

import proxyless_jax as pj
from proxyless_jax.run import finished

FILES = ("b.png", "a.png", "more/c.png", "more/ö, d.png")


@pytest.fixture
def photos(tmp_path):
  """Images, one of them in colours, with files that are none."""
  folder = tmp_path / "photos"
  (folder / "more").mkdir(parents=True)
  rng = np.random.default_rng(0)
  for i, name in enumerate(FILES):
    shape = (20 + i, 16, 3) if i == 1 else (20 + i, 16)
    pixels = rng.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(folder / name)
  (folder / "notes.txt").write_text("no image")
  (folder / ".hidden.png").write_text("no image")
  return folder


def rows(path):
  with open(path, newline="", encoding="utf-8") as file:
    return list(csv.reader(file))


def test_a_line_for_each_image(make_config, workdir, photos, capsys):
  before = {path: path.read_bytes() for path in workdir.glob("*.json")}
  # Nothing else of the config counts: the run has its own.
  config = make_config(predict__images=str(photos), data__image_size=99)
  config["evaluate"]["batch"] = 3
  result = pj.predict(config, workdir)
  path = str(workdir / "predictions.csv")
  assert result == {"job": "predict", "images": 4, "file": path}
  header, *lines = rows(path)
  assert header == ["file", "class", "probability"]
  files = [str(photos / name) for name in sorted(FILES)]
  assert [file for file, *_ in lines] == files
  expected = pj.load_run(workdir).predict(files)
  assert [label for _, label, _ in lines] == [
    str(label) for label in expected.argmax(1)
  ]
  probabilities = [float(value) for *_, value in lines]
  np.testing.assert_allclose(probabilities, expected.max(1), atol=1e-5)
  assert "photos: skipped 1 .txt; images are .bmp," in capsys.readouterr().err
  assert before == {path: path.read_bytes() for path in workdir.glob("*.json")}


def test_patterns_and_names(
  make_config, workdir, photos, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  out = str(tmp_path / "out.csv")
  for images, expected in {
    "photos/*": ["photos/a.png", "photos/b.png"],
    "photos/**/[bc].png": ["photos/b.png", "photos/more/c.png"],
    "photos/a.png": ["photos/a.png"],
  }.items():
    config = make_config(predict=dict(images=images, out=out))
    assert pj.predict(config, workdir)["file"] == out
    assert [file for file, *_ in rows(out)[1:]] == expected


def test_unreadable_images_are_all_named(
  make_config, workdir, photos, capsys, monkeypatch
):
  (photos / "empty.png").write_bytes(b"")
  whole = (photos / "a.png").read_bytes()
  (photos / "cut.png").write_bytes(whole[:60])
  (workdir / "predictions.csv").write_text("before")
  monkeypatch.setattr(finished.Run, "predict_batches", None)  # No compute.
  config = make_config(predict__images=str(photos))
  with pytest.raises(ValueError, match="but 2 of 6 files cannot be read, tho"):
    pj.predict(config, workdir)
  _, cut, empty = capsys.readouterr().err.splitlines()[-3:]
  assert cut.startswith(f"{photos}/cut.png: ")
  assert empty == f"{photos}/empty.png: empty file"
  assert (workdir / "predictions.csv").read_text() == "before"


def test_a_stop_keeps_the_file_of_before(
  make_config, workdir, photos, monkeypatch
):
  (workdir / "predictions.csv").write_text("before")

  def batches(self, images):
    yield np.ones((1, 10), np.float32)
    raise KeyboardInterrupt

  monkeypatch.setattr(finished.Run, "predict_batches", batches)
  with pytest.raises(KeyboardInterrupt):
    pj.predict(make_config(predict__images=str(photos)), workdir)
  assert (workdir / "predictions.csv").read_text() == "before"
  assert not list(workdir.glob("*.tmp"))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({}, r"predict\.images = '': expected .* add --config\.predict\.images="),
    ({"images": "absent"}, r"predict\.images = 'absent': expected a folder wi"),
    ({"images": "photos/*.txt"}, r"found none \(1 \.txt\): correct the path"),
    ({"images": "photos", "out": "no/a.csv"}, r"predict\.out = .*make the fol"),
    ({"images": "photos", "out": "result.json"}, r"expected .* ends in \.csv"),
    ({"imges": "photos"}, r"config\.predict: .*did you mean 'images'"),
  ],
)
def test_bad_input(
  make_config, workdir, photos, tmp_path, monkeypatch, fields, message
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=message):
    pj.predict(make_config(predict=fields), workdir)
  assert not os.path.exists(workdir / "predictions.csv")


def test_no_run(make_config, photos, tmp_path):
  with pytest.raises(ValueError, match="expected the folder of a search"):
    pj.predict(make_config(predict__images=str(photos)), tmp_path / "absent")
  assert not (tmp_path / "absent").exists()


def test_what_was_classified_does_not_matter_to_a_resume(make_config, workdir):
  before = pj.load_run(workdir).result["top1"]
  config = make_config(predict__images="photos")
  assert pj.search(config, workdir)["top1"] == before
