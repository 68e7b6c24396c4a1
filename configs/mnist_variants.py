"""Variants of the config `mnist`: a quick run, and other methods."""

from ml_collections import ConfigDict

from proxyless_jax.configs.mnist_plain import reinforce, tree
from proxyless_jax.configs.mnist_published import published


def quick(config: ConfigDict) -> None:
  """Runs all stages in a few hundred steps each, on three blocks."""
  config.space.update(widths=(16,), depths=(3,), strides=(2,))
  config.search.warmup_epochs = 2.0
  config.search.arch.after_epochs = 0.0
  config.search.costs.hardware.reference = "0.3 M MACs"
  config.derive.update(paths=40, images=200, compare=10)
  config.train.update(epochs=2.0, lr_warmup_epochs=0.0)
  config.measure.update(calibration=6, held_out=3, max_rounds=20)
  config.run.update(log_every=10, checkpoint_every=100)


CHANGES = {
  "quick": quick,
  "published": published,
  "tree": tree,
  "reinforce": reinforce,
}
