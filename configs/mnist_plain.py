"""Variants of `mnist` that search on the plain digits, as published."""

from ml_collections import ConfigDict

from proxyless_jax.configs import base, mnist_published


def plain(config: ConfigDict) -> None:
  """Trains alpha by gradient, on the plain digits, in a wider space."""
  mnist_published.published(config)
  config.data.update(source="mnist", mean=(0.1307,), std=(0.3081,))
  config.space = base.space("mobile", stem_width=16, first_width=0)
  config.space.update(widths=(16, 40), depths=(3, 4), strides=(1, 2))
  config.space.head_width = 128
  config.search.update(warmup_epochs=3.0, epochs=9.0)
  config.search.costs.hardware.reference = "2.5 M MACs"
  config.train.update(epochs=25.0, lr_warmup_epochs=1.0)


def tree(config: ConfigDict) -> None:
  """Searches a small member of the CIFAR-10 space's family."""
  plain(config)
  config.data.update(image_size=16, crop_padding=1)  # Enough for two blocks.
  config.space = base.space("tree", depths=(1, 1), alpha=8)
  config.search.epochs = 5.0
  # So short a search prefers what needs no training: not "at_most".
  config.search.costs.hardware.update(form="exactly", reference="4.5 M MACs")
  config.train.update(epochs=12.0, dropout=0.0, drop_path=0.1)


def reinforce(config: ConfigDict) -> None:
  """Searches by REINFORCE, in a space of half as many blocks."""
  plain(config)
  config.space.update(widths=(16, 24), depths=(2, 2))
  config.search.update(warmup_epochs=2.0, epochs=5.0)
  config.search.arch.update(algorithm="reinforce", lr=0.05, every=4)
  # In units of accuracy: 1 % off the target costs 0.3 %.
  hardware = config.search.costs.hardware
  hardware.update(form="absolute", reference="1.5 M MACs", weight=0.3)
  config.train.epochs = 8.0
