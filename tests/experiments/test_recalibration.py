"""Statistics of batch norm: the loop over ways, on made-up scores."""

import types

import numpy as np

from experiments import recalibration
from experiments.nas_bench_macro import Experiment


class MadeUp:
  """An experiment whose losses rank networks truly but for the averages."""

  def __init__(self, arguments):
    self.arguments = arguments
    self.table = types.SimpleNamespace(
      accuracy=np.arange(9.0),
      macs=1e6 * np.arange(9.0),
      rows=lambda paths: paths[:, 0],
    )
    self.net = self

  compare = Experiment.compare

  def supernet(self, seed):
    return {}, np.arange(9)[:, None], None

  def score(self, variables, paths, images, batch, running):
    sign = -1.0 if running else 1.0
    return sign * paths[:, 0], -sign * paths[:, 0]


def test_each_way_is_ranked_and_kept(tmp_path, monkeypatch):
  monkeypatch.setattr(recalibration, "Experiment", MadeUp)
  flags = ["--out", str(tmp_path), "--seeds", "0", "1"]
  flags += ["--score-images", "100", "--score-batch", "100"]
  found = recalibration.main(flags)
  ways = ("batches of 100", "batches of 25", recalibration.AVERAGES)
  assert list(found)[1:] == [f"{s}: {way}" for s in (0, 1) for way in ways]
  tau = {name: of["by_loss"]["tau"] for name, of in list(found.items())[1:]}
  assert all(
    value == (-1.0 if name.endswith(recalibration.AVERAGES) else 1.0)
    for name, value in tau.items()
  )
  assert recalibration.main(flags) == found
