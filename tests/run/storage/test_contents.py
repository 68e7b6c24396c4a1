import json

import pytest
from PIL import Image

from proxyless_jax.run import jobs, opening
from proxyless_jax.run.storage.contents import keep_contents, kept_classes

NAMES = ("ant", "cat")
TRAIN, OTHER = ({"images": 9, "digest": digest} for digest in ("a", "b"))
TEST, MORE = ({"images": n, "digest": str(n)} for n in (3, 5))
BOTH = {"train": TRAIN, "test": TEST}


def begin(workdir, stage):
  (workdir / "checkpoints" / stage / "3").mkdir(parents=True)


def test_classes_are_written_once(tmp_path):
  assert kept_classes(tmp_path) == []
  keep_contents(tmp_path, NAMES, BOTH, ["search"])
  keep_contents(tmp_path, ("x", "y"), BOTH, ["search"])
  assert kept_classes(tmp_path) == ["ant", "cat"]
  assert json.loads((tmp_path / "classes.json").read_text()) == ["ant", "cat"]
  for wrong in ("{", '{"ant": 0}', "[1, 2]"):
    (tmp_path / "classes.json").write_text(wrong)
    with pytest.raises(ValueError, match=r"classes\.json: expected"):
      kept_classes(tmp_path)


@pytest.mark.parametrize(
  "now, difference",
  [
    (OTHER, "as many, 9, but with other names"),
    ({"images": 8, "digest": "c"}, "8 images, not 9"),
  ],
)
def test_a_stage_goes_on_with_its_images_alone(tmp_path, now, difference):
  keep_contents(tmp_path, NAMES, BOTH, ["search", "train"])
  begin(tmp_path, "search")
  assert keep_contents(tmp_path, NAMES, BOTH, ["search", "train"]) == []
  before = (tmp_path / "data.json").read_text()
  with pytest.raises(
    ValueError, match=f"stage search began with, got {difference}; bring them"
  ):
    keep_contents(tmp_path, NAMES, {**BOTH, "train": now}, ["search"])
  assert (tmp_path / "data.json").read_text() == before
  # What was found may be trained on others, and that continues with those.
  other = {**BOTH, "train": OTHER}
  keep_contents(tmp_path, NAMES, other, ["train"])
  begin(tmp_path, "train")
  keep_contents(tmp_path, NAMES, other, ["train"])
  with pytest.raises(ValueError, match="stage train began with"):
    keep_contents(tmp_path, NAMES, BOTH, ["train"])


def test_without_a_checkpoint_others_may_be_taken(tmp_path):
  for contents in (BOTH, {**BOTH, "train": OTHER}):
    keep_contents(tmp_path, NAMES, contents, ["search"])
    kept = json.loads((tmp_path / "data.json").read_text())
    assert kept == {"search": contents["train"], "test": TEST}


def test_other_test_images_are_noted(tmp_path):
  keep_contents(tmp_path, NAMES, BOTH, ["train"])
  begin(tmp_path, "train")
  (note,) = keep_contents(tmp_path, NAMES, {"test": MORE}, [])
  assert note == "data: tests on other images than before: 5 images, not 3"
  assert keep_contents(tmp_path, NAMES, {"test": MORE}, []) == []


def test_a_split_of_other_images_is_not_tested_on(tmp_path):
  keep_contents(tmp_path, NAMES, {"train": TRAIN}, ["train"])
  begin(tmp_path, "train")
  keep_contents(tmp_path, NAMES, {"train": TRAIN}, [])
  # Some of them would be images that were trained on.
  with pytest.raises(ValueError, match="stage train began with"):
    keep_contents(tmp_path, NAMES, {"train": OTHER}, [])


class Stop(Exception):
  pass


@pytest.fixture
def photos(tmp_path):
  for part in ("train", "val"):
    for name in NAMES:
      folder = tmp_path / "photos" / part / name
      folder.mkdir(parents=True)
      for i in range(40):
        Image.new("L", (12, 12), i).save(folder / f"{i}.png")
  return tmp_path / "photos"


@pytest.fixture
def start(make_config, photos, tmp_path, monkeypatch):
  """Starts a search, which stops where its first step would be."""

  def run_stage(*args):
    raise Stop

  monkeypatch.setattr(jobs, "run_stage", run_stage)
  costs = make_config()["search"]["costs"]
  costs["hardware"]["reference"] = "10 k MACs"
  config = make_config(
    data__source="folder", data__path=str(photos), search__costs=costs
  )

  def run():
    with pytest.raises(Stop):
      jobs.search(config, tmp_path / "run")

  run.config, run.workdir = config, tmp_path / "run"
  return run


def test_a_renamed_class_is_refused_with_both_lists(start, photos):
  start()
  assert kept_classes(start.workdir) == ["ant", "cat"]
  start()
  for part in ("train", "val"):
    (photos / part / "cat").rename(photos / part / "bat")
  with pytest.raises(
    ValueError,
    match=r"json\), ant, cat; found ant, bat \(missing: cat; unknown: bat",
  ):
    jobs.search(start.config, start.workdir)
  evaluation = {**start.config, "job": "evaluate"}
  with pytest.raises(ValueError, match=r"missing: cat; unknown: bat"):
    jobs.evaluate(evaluation, start.workdir)


def test_classes_keep_their_labels(start):
  start()
  (start.workdir / "classes.json").write_text('["cat", "ant"]')
  _, dataset = opening.open_run(start.config, start.workdir, "search")
  assert dataset.names == ("cat", "ant")
  assert dataset.train.source[0]["label"] == 1
  start()
  assert kept_classes(start.workdir) == ["cat", "ant"]


def test_other_images_are_refused_before_any_compute(start, photos):
  start()
  begin(start.workdir, "search")
  start()
  (photos / "train/cat/7.png").unlink()
  with pytest.raises(ValueError, match="search began with, got 79 images, not"):
    jobs.search(start.config, start.workdir)


def test_a_start_that_is_refused_changes_nothing(start, photos, capsys):
  start()
  begin(start.workdir, "search")
  before = {p: p.read_text() for p in start.workdir.glob("*.json*")}
  moved = photos.rename(photos.parent / "moved")
  start.config["data"]["path"] = str(moved)
  (moved / "train/cat/7.png").unlink()
  with pytest.raises(ValueError, match="search began with, got 79 images, not"):
    jobs.search(start.config, start.workdir)
  assert before == {p: p.read_text() for p in start.workdir.glob("*.json*")}
  assert "since the last start" not in capsys.readouterr().err


def test_a_test_part_that_came_or_went_is_refused(start, photos):
  val, away = photos / "val", photos.parent / "away"
  start()
  begin(start.workdir, "search")
  val.rename(away)
  with pytest.raises(ValueError, match="train on, not 80, since a test part"):
    jobs.search(start.config, start.workdir)
  (start.workdir / "data.json").unlink()
  start()
  away.rename(val)
  with pytest.raises(ValueError, match=r"got 80 to train on, not \d+, since"):
    jobs.search(start.config, start.workdir)


def test_notes_are_printed(start, photos, capsys):
  (photos / "train/cat/notes.txt").write_text("")
  start()
  begin(start.workdir, "search")
  (photos / "val/cat/7.png").unlink()
  start()
  said = [
    line.partition(";")[0] for line in capsys.readouterr().err.splitlines()
  ]
  assert [x for x in said if "skipped" in x or "than before" in x] == [
    *(2 * [f"{photos}/train: skipped 1 .txt"]),
    "data: tests on other images than before: 79 images, not 80",
  ]


def test_a_class_that_the_search_would_not_learn(start, photos):
  for i in range(1, 40):
    (photos / f"train/cat/{i}.png").unlink()
  start.config["data"]["arch_fraction"] = 0.9
  with pytest.raises(ValueError, match=r"weights on, found none of cat, "):
    jobs.search(start.config, start.workdir)
