"""A run is loaded from its workdir, and classifies as its evaluation did."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import proxyless_jax as pj
from proxyless_jax.data import load
from proxyless_jax.nn import build, init
from proxyless_jax.run import finished, jobs
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.loop import newest_state
from proxyless_jax.run.train_stage import train_stage
from proxyless_jax.training.steps import predict_step


def split(options):
  """The test images of a run, and their labels."""
  test = load(options.data).test
  records = [test.source[i] for i in test.indices.tolist()]
  labels = np.array([record["label"] for record in records])
  return [record["image"] for record in records], labels


def assert_evaluated(probabilities, labels, result):
  """Accuracy and loss are those of an evaluation, which counts in float32."""
  hits = np.sum(probabilities.argmax(1) == labels)
  assert result["top1"] == float(np.float32(hits) / np.float32(len(labels)))
  of_label = probabilities[np.arange(len(labels)), labels]
  np.testing.assert_allclose(
    -np.log(of_label).mean(), result["loss"], rtol=1e-5
  )


def same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_is_loaded_was_evaluated(make_config, unbroken, run):
  workdir, result = unbroken
  assert run.result == result
  assert run.network == pj.load_network(workdir / "architecture.json")
  assert run.classes == tuple("0123456789")
  assert run.config == json.loads((workdir / "config.json").read_text())
  options = parse(make_config())
  stage = train_stage(options, load(options.data), run.network, None)
  same(run.variables, newest_state(stage, workdir, options.run)[1].ema)
  size = os.path.getsize(workdir / "variables.npz")
  floats = sum(leaf.size for leaf in jax.tree.leaves(run.variables))
  assert size < 4 * floats + 30_000
  text = f"Run(10 classes, {result['parameters']:,} parameters, test accuracy "
  assert repr(run).startswith(text)


def test_it_classifies_as_the_evaluation_did(make_config, run, monkeypatch):
  traces = []

  def traced(*args, **kwargs):
    traces.append(args)
    return predict_step(*args, **kwargs)

  monkeypatch.setattr(finished, "predict_step", traced)
  images, labels = split(parse(make_config()))
  probabilities = run.predict(np.stack(images))
  assert probabilities.shape == (103, 10)
  assert probabilities.dtype == np.float32
  np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
  assert_evaluated(probabilities, labels, run.result)
  one_by_one = run.predict(images)  # As a list.
  np.testing.assert_array_equal(one_by_one, probabilities)
  assert len(traces) == 1
  # A few images do not cost a batch of 50.
  few = run.predict(images[:3])
  np.testing.assert_allclose(few, probabilities[:3], rtol=1e-4, atol=1e-6)
  assert [run.batch(n) for n in (1, 3, 64, 1000)] == [1, 4, 50, 50]
  assert run.predict([]).shape == (0, 10)


@pytest.mark.usefixtures("quick_compilation")
def test_a_search_without_a_training(make_config, tmp_path):
  """Its inherited weights are kept; photos are cropped as for it."""
  photos = dict(source="generated", generated_classes=3, generated_images=120)
  photos |= dict(image_size=(12, 20), channels=3, mean=(0.5,) * 3)
  photos |= dict(std=(0.25,) * 3, crop="resized", crop_min_scale=0.3)
  photos |= dict(flip=True, test_fraction=0.3)
  config = make_config(search__warmup_epochs=0.3, search__epochs=0.8)
  config["data"].update(photos)
  config["train"]["enabled"] = False
  config["evaluate"]["batch"] = 20
  config["search"]["costs"] = {}
  result = pj.search(config, tmp_path)
  run = pj.load_run(tmp_path)
  images, labels = split(parse(config))
  assert len({image.shape for image in images}) > 1
  assert_evaluated(run.predict(images), labels, result)
  grey = images[0][..., 0]
  as_grey, as_colours = run.predict([grey, np.repeat(grey[..., None], 3, -1)])
  np.testing.assert_array_equal(as_grey, as_colours)
  before = (tmp_path / "variables.npz").read_bytes()
  assert pj.search(config, tmp_path)["top1"] == result["top1"]
  assert (tmp_path / "variables.npz").read_bytes() == before


def test_each_job_keeps_what_it_evaluated(make_config, unbroken, tmp_path, run):
  network = tmp_path / "network.json"
  run.network.to_json(network)
  weights = pj.init(pj.build(run.network), jax.random.key(5))
  pytest.importorskip("torch")
  pj.write_torch(tmp_path / "w.pth", pj.to_torch(run.network, weights))
  config = make_config(job="evaluate", network=str(network))
  config["weights"] = str(tmp_path / "w.pth")
  result = pj.evaluate(config, tmp_path / "run")
  loaded = pj.load_run(tmp_path / "run")
  same(loaded.variables, weights)
  assert loaded.result == result


class TestImages:
  """Arrays and files, grey and coloured, upright or not."""

  def test_grey_and_colours(self, run, tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (28, 20), np.uint8)
    colours = np.repeat(grey[..., None], 3, -1)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    images = [grey, grey[..., None], colours, tmp_path / "colours.png"]
    probabilities = run.predict(images)
    for row in probabilities[1:]:
      np.testing.assert_array_equal(row, probabilities[0])
    alone = run.predict(str(tmp_path / "colours.png"))
    np.testing.assert_allclose(alone, probabilities[:1], rtol=1e-4, atol=1e-6)

  def test_files_are_turned_upright(self, run, tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (28, 20), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees, clockwise.
    path = tmp_path / "turned.png"
    Image.fromarray(np.rot90(pixels)).save(path, exif=exif)
    turned, upright = run.predict([path, pixels])
    np.testing.assert_array_equal(turned, upright)

  @pytest.mark.parametrize(
    "images, message",
    [
      (np.zeros((12, 12, 1), np.uint8), r"got uint8\[12, 12, 1\].*images\[Non"),
      (np.zeros((2, 12, 12, 1)), r"images\[0\]: expected pixels uint8 .*float"),
      (np.zeros((2, 12, 12, 4), np.uint8), r"1 or 3 channels, got uint8\[12, "),
      (np.zeros((2, 3, 12, 12), np.uint8), r"first image\.transpose\(1, 2, 0"),
      ([np.zeros((0, 3), np.uint8)], r"images\[0\]: expected uint8\[h, w, c\]"),
      (["absent.png"], r"images\[0\] = 'absent.png': .*: no such file"),
      ([os.curdir], r"images\[0\] = '.': expected an image file: a folder"),
      ([Image.new("L", (3, 3))], r"images\[0\] is of type Image: .*convert\("),
      (Image.new("L", (3, 3)), r"got Image: for a Pillow image .*convert\("),
      (3, "expected an array .* got int"),
    ],
  )
  def test_bad_images(self, run, images, message):
    with pytest.raises(ValueError, match=message):
      run.predict(images)

  def test_a_file_that_is_no_image(self, run, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(
      ValueError, match=r"a\.jpg: expected an image, but it c"
    ):
      run.predict([tmp_path / "a.jpg"])


class TestBadWorkdir:
  """What cannot be loaded, and what to do."""

  def test_no_workdir(self, tmp_path):
    with pytest.raises(
      ValueError, match=r"/no: .*there is no such folder: name"
    ):
      pj.load_run(tmp_path / "no")
    with pytest.raises(ValueError, match=r"got one without config\.json: name"):
      pj.load_run(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="evaluation, got a file: name"):
      pj.load_run(tmp_path / "result.json")
    with pytest.raises(ValueError, match="such as that of a measurement: name"):
      pj.load_run(tmp_path)

  def test_a_run_that_has_not_ended(self, workdir):
    (workdir / "result.json").unlink()
    (workdir / "variables.npz").unlink()
    expected = "reached step 16 of search, step 10 of train: run the same co"
    with pytest.raises(ValueError, match=expected):
      pj.load_run(workdir)
    shutil.rmtree(workdir / "checkpoints" / "train")
    with pytest.raises(ValueError, match="reached step 16 of search: run the"):
      pj.load_run(workdir)
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(ValueError, match="has reached no checkpoint: run the"):
      pj.load_run(workdir)

  def test_a_run_of_an_earlier_release(self, workdir):
    (workdir / "variables.npz").unlink()
    expected = "expected variables.npz beside result.json, found none, as .*aga"
    with pytest.raises(ValueError, match=expected):
      pj.load_run(workdir)

  def test_weights_of_another_network(self, make_config, workdir):
    space = parse(make_config()).make_space(10)
    found = pj.load_network(workdir / "architecture.json")
    others = (space.choose([i, j]) for i in range(3) for j in range(3))
    other = next(network for network in others if network != found)
    other.to_json(workdir / "architecture.json")
    expected = "weights of another network than architecture.json.*run the same"
    with pytest.raises(ValueError, match=expected):
      pj.load_run(workdir)

  def test_stopped_before_the_result(self, make_config, workdir, monkeypatch):
    """The weights of one evaluation, the result of another."""
    network = pj.load_network(workdir / "architecture.json")
    fresh = init(build(network), jax.random.key(3))
    monkeypatch.setattr(jobs, "trained", lambda *args: (10, fresh))

    def fail(*args, **kwargs):
      raise KeyboardInterrupt

    with monkeypatch.context() as patch:
      patch.setattr(jobs, "write_result", fail)
      with pytest.raises(KeyboardInterrupt):
        pj.evaluate(make_config(), workdir)
    with pytest.raises(
      ValueError, match=r"other weights than .*result\.json des"
    ):
      pj.load_run(workdir)
    pj.evaluate(make_config(), workdir)
    same(pj.load_run(workdir).variables, fresh)

  @pytest.mark.parametrize("damage", ["flipped", "cut", "text"])
  def test_damaged_weights(self, workdir, damage):
    path = workdir / "variables.npz"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
      data[len(data) // 2] ^= 1
    path.write_bytes(
      {"flipped": data, "cut": data[:-100], "text": b"no"}[damage]
    )
    with pytest.raises(ValueError, match=r"cannot be read \(.*same command ag"):
      pj.load_run(workdir)

  def test_classes_of_another_network(self, workdir):
    (workdir / "classes.json").write_text('["a", "b"]')
    expected = "expected the names of 10 classes, .* got 2: restore"
    with pytest.raises(ValueError, match=expected):
      pj.load_run(workdir)
