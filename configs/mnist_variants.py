"""Variants of the config `mnist`: a quick run, those of `mnist_published`."""

from ml_collections import ConfigDict

from proxyless_jax.configs import mnist_published


def quick(config: ConfigDict) -> None:
  """Runs all stages in a few dozen steps each."""
  config.space.update(widths=(16,), depths=(2,), strides=(1,))
  config.search.warmup_epochs = 2.0
  config.search.arch.after_epochs = 0.0
  config.search.costs.hardware.reference = "1 M MACs"
  config.derive.update(paths=40, images=200, compare=10)
  config.train.update(epochs=3.0, lr_warmup_epochs=0.0)
  config.measure.update(calibration=6, held_out=3, max_rounds=20)
  config.run.update(log_every=10, checkpoint_every=20)


CHANGES = {"quick": quick, **mnist_published.CHANGES}
