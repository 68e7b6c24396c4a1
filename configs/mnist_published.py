"""The variant of `mnist` that trains alpha by gradient, as published."""

from ml_collections import ConfigDict


def published(config: ConfigDict) -> None:
  """Trains alpha by gradient, and derives the most probable network."""
  config.search.update(warmup_epochs=3.0, epochs="auto", lr=0.05, paths=1)
  config.search.arch.update(lr=0.03, mode="two", every=2)
  config.derive.method = "argmax"
