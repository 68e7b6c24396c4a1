import copy
import json
import os
import pathlib
import shutil

import pytest

BATCH = 16
# Of the 5,000 digits: no multiple of the evaluation's batch.
TEST_IMAGES = 103
WEIGHT_IMAGES, TRAIN_IMAGES = 3918, 4897
WARMUP, SEARCH, TRAIN = 4, 12, 10  # Steps.

# What differs from the defaults; `space` and `costs` are whole.
CONFIG = dict(
  dtype="float32",
  data=dict(
    source="mnist",
    name="",
    image_size=12,
    channels=1,
    mean=(0.1307,),
    std=(0.3081,),
    crop="pad",
    crop_padding=1,
    flip=False,
    brightness=0.0,
    saturation=0.0,
    test_fraction=TEST_IMAGES / 5000,
    arch_fraction=0.2,
    workers=0,
  ),
  space=dict(
    family="mobile",
    stem_width=8,
    stem_stride=2,
    first_width=0,
    widths=(8,),
    depths=(2,),
    strides=(1,),
    candidates=("mbconv1_k3", "mbconv2_k3", "zero"),
    head_width=16,
  ),
  search=dict(
    batch=BATCH,
    lr_batch=BATCH,
    warmup_epochs=WARMUP * BATCH / WEIGHT_IMAGES,
    epochs=SEARCH * BATCH / WEIGHT_IMAGES,
    lr=0.05,
    arch=dict(
      lr=0.03,
      mode="two",
      samples=4,
      baseline_decay=0.9,
      every=2,
      after_epochs=0.0,
      batch=BATCH,
    ),
    costs=dict(
      hardware=dict(
        kind="macs",
        form="at_most",
        reference="9 k MACs",
        weight=0.05,
        exponent=0.3,
      ),
    ),
  ),
  train=dict(
    enabled=True,
    batch=BATCH,
    lr_batch=BATCH,
    epochs=TRAIN * BATCH / TRAIN_IMAGES,
    lr=0.1,
    weight_decay=1e-4,
    dropout=0.1,
    ema_decay=0.9,
  ),
  evaluate=dict(batch=50, recalibration_batches=2),
  predict=dict(),
  measure=dict(
    classes=0, calibration=4, held_out=2, tolerance=0.05, max_rounds=3
  ),
  run=dict(log_every=4, checkpoint_every=3, keep=2),
)


@pytest.fixture(scope="session")
def make_config():
  """Makes a tiny config; `search__arch__mode="full"` sets one field.

  `search__costs={}` sets a whole section.
  """

  def make(**fields):
    config = copy.deepcopy(CONFIG)
    for name, value in fields.items():
      *path, last = name.split("__")
      section = config
      for part in path:
        section = section[part]
      section[last] = value
    return config

  return make


@pytest.fixture(scope="session")
def unbroken(make_config, tmp_path_factory):
  """The workdir and the result of a run that nothing stopped."""
  from proxyless_jax.run import jobs

  pytest.importorskip("mlxtend")
  workdir = tmp_path_factory.mktemp("unbroken")
  return workdir, jobs.search(make_config(), workdir)


@pytest.fixture(scope="module")
def run(unbroken):
  """The run that nothing stopped, loaded."""
  from proxyless_jax.run.finished import load_run

  return load_run(unbroken[0])


@pytest.fixture
def workdir(unbroken, tmp_path):
  """A copy of its workdir, to be changed or damaged."""
  return shutil.copytree(unbroken[0], tmp_path / "copy")


@pytest.fixture(scope="session")
def outcome():
  """Everything of a workdir that a stop must not change."""

  def read(workdir):
    workdir = pathlib.Path(workdir)
    result = json.loads((workdir / "result.json").read_text())
    files = {
      name: (workdir / name).read_bytes()
      for name in ("architecture.json", "metrics.jsonl", "alpha.jsonl")
      # A search that trains no alpha has no record of it.
      if (workdir / name).exists()
    }
    steady = {
      name: value
      for name, value in result.items()
      if not name.startswith(("seconds_", "peak_memory"))
    }
    # Of every array in the last checkpoint, and where the data are.
    checksums = {
      stage: _contents(workdir / "checkpoints" / stage)
      for stage in os.listdir(workdir / "checkpoints")
    }
    return {"files": files, "result": steady, "checkpoints": checksums}

  return read


def _contents(folder):
  step = max(int(name) for name in os.listdir(folder) if name.isdigit())
  manifest = json.loads(
    json.loads((folder / str(step) / "manifest" / "metadata").read_text())[
      "sealed"
    ].partition(" ")[2]
  )
  # The clock is part of what a stage carries.
  timeless = {k: v for k, v in manifest["crc32"].items() if k != "['seconds']"}
  return step, timeless, manifest["positions"]
