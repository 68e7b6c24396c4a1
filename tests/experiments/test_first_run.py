"""The experiment on a newcomer's first run, in a form of seconds."""

import statistics

import pytest

from experiments import first_run
from proxyless_jax.configs import base, mnist
from proxyless_jax.run import jobs
from proxyless_jax.run.random_networks import random_networks

RESULT = {
  "entropy_start": 1.9,
  "entropy_end": 1.9,
  "top1": 0.9,
  "macs": 100,
  "parameters": 10,
  "compared": 50,
  "compared_better": 0,
  "seconds_search": 100.0,
}
COMPARED = {"top1": [0.5, 0.8]}
TOP1 = [0.81, 0.85]
NETWORKS = [{"top1": top1} for top1 in TOP1]
RANDOM = {"near": NETWORKS, "within": [{"top1": 0.1}, {"top1": 0.3}]}


def test_what_is_judged():
  """Each seed against the random networks of all of them."""
  entry = first_run.entry(0, (200.0, 250.0), RESULT, COMPARED, RANDOM)
  worse = RESULT | {"entropy_end": 1.0, "top1": 0.83}
  other = first_run.entry(1, (301.0, None), worse, {"top1": [0.6]}, RANDOM)
  found = first_run.summary([entry, other])
  near = found["random"]["near"]
  assert near["count"] == 4 and near["top1_mean"] == pytest.approx(0.83)
  assert near["top1_std"] == pytest.approx(statistics.stdev(TOP1 * 2))
  assert found["random"]["within"]["top1_mean"] == pytest.approx(0.2)
  one, two = found["seeds"]
  assert one["met"] == {
    "seconds": True,
    "supernet": True,
    "entropy": None,
    "within": True,
    "near": True,
  }
  assert one["z"]["near"] == pytest.approx(0.07 / near["top1_std"])
  assert [bar for bar, met in two["met"].items() if met] == ["within"]
  assert two["entropy"] == pytest.approx(1.0 / 1.9)
  assert found["met"]["near"] == 1 and found["met"]["entropy"] is None
  assert found["means"]["top1"] == pytest.approx(0.865)


def tiny_config():
  """A config whose stages take some steps each, on generated images."""
  config = mnist.get_config()
  base.shorten(config)
  config.search.epochs = 0.0
  config.search.costs.hardware.reference = "80 k MACs"
  config.space.update(widths=(8,), depths=(2,), strides=(2,), head_width=16)
  config.space.candidates = ("mbconv1_k3", "mbconv2_k3", "zero")
  config.derive.update(paths=3, images=40, compare=2)
  config.train.update(epochs=0.1, lr_warmup_epochs=0.0)
  config.random.update(count=2, near=0.5)
  return config


@pytest.mark.usefixtures("quick_compilation")
def test_a_seed_is_run_once(tmp_path, monkeypatch):
  started = []
  tiny = tiny_config()

  def run(config, workdir, flags):
    """The same in this process, on a tiny space."""
    started.append((config, *flags))
    job = random_networks if "--config.job=random" in flags else jobs.search
    job(tiny, workdir)

  monkeypatch.setattr(first_run, "run", run)
  monkeypatch.setattr(first_run, "processor_seconds", lambda: 7.0)
  argv = ["--out", str(tmp_path), "--seeds", "3", "--count", "2", "--", "--a=1"]
  found = first_run.main(argv)
  assert started == [
    (first_run.CONFIG, "--config.seed=3", "--a=1"),
    (
      *(first_run.CONFIG, "--config.seed=3", "--a=1"),
      *("--config.random.count=2", "--config.job=random"),
    ),
    (
      *(first_run.CONFIG, "--config.seed=3", "--a=1"),
      *("--config.random.count=2", "--config.job=random"),
      "--config.random.near=0.0",
    ),
  ]
  assert found["of"] == 1 and found["seeds"][0]["entropy"] is None
  assert found["seeds"][0]["processor_seconds"] == 0.0
  assert first_run.main(argv) == found
  assert len(started) == 3
  assert (tmp_path / "first_run.json").exists()


def test_one_random_network_has_no_spread(tmp_path):
  flags = ["--out", str(tmp_path / "runs"), "--seeds", "0", "--count", "1"]
  with pytest.raises(ValueError, match="expected 2 random networks or more"):
    first_run.main(flags)
  assert not (tmp_path / "runs").exists()
