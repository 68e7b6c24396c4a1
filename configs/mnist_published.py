"""Variants of `mnist` that train alpha as published: by gradient, REINFORCE."""

from ml_collections import ConfigDict

from proxyless_jax.configs import base


def published(config: ConfigDict) -> None:
  """Trains alpha by gradient, and derives the most probable network."""
  config.search.update(warmup_epochs=3.0, epochs=9.0, paths=1)
  config.derive.method = "argmax"


def tree(config: ConfigDict) -> None:
  """Searches a small member of the CIFAR-10 space's family."""
  published(config)
  config.data.update(image_size=16, crop_padding=1)  # Enough for two blocks.
  config.space = base.space("tree", depths=(1, 1), alpha=8)
  config.search.update(warmup_epochs=3.0, epochs=5.0)
  # So short a search prefers what needs no training: not "at_most".
  config.search.costs.hardware.update(form="exactly", reference="4.5 M MACs")
  config.train.update(epochs=12.0, dropout=0.0, drop_path=0.1)


def reinforce(config: ConfigDict) -> None:
  """Searches by REINFORCE, in a space of half as many blocks."""
  published(config)
  config.space.update(widths=(16, 24), depths=(2, 2))
  config.search.update(warmup_epochs=2.0, epochs=5.0)
  config.search.arch.update(algorithm="reinforce", lr=0.05, every=4)
  # In units of accuracy: 1 % off the target costs 0.3 %.
  hardware = config.search.costs.hardware
  hardware.update(form="absolute", reference="1.5 M MACs", weight=0.3)
  config.train.epochs = 8.0


CHANGES = {"published": published, "tree": tree, "reinforce": reinforce}
