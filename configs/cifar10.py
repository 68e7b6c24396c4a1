"""CIFAR-10: searches the PyramidNet with trees, trains what was found.

The training has the settings of the family that the space is of (Cai et al.,
Path-Level Network Transformation, ICML 2018, table 1): 600 epochs with cutout
and drop path. The rate of drop path is ours: neither paper tells it.
"""

import os

from ml_collections import ConfigDict

from configs import mnist

MEAN = (0.49139968, 0.48215827, 0.44653124)
STD = (0.24703233, 0.24348505, 0.26158768)
VARIANTS = ("", "g", "r", "train", "evaluate", "measure", "smoke")


def get_config(variant: str = "") -> ConfigDict:
  """The config.

  Args:
    variant: 'g', and '' too, searches by gradient (Proxyless-G), 'r' by
      REINFORCE (Proxyless-R); 'train' trains what '' or 'g' found in the
      workdir, or --config.network; 'evaluate' evaluates what was trained there,
      or --config.weights of --config.network; 'measure' measures a table of
      latency on the device at hand; 'smoke' goes through search, training and
      evaluation in a minute, on generated images. After 'r', in its workdir,
      train and evaluate by 'r' with --config.job=train.
  """
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r}: expected one of {VARIANTS}")
  config = mnist.get_config()
  jobs = ("train", "evaluate", "measure")
  config.job = variant if variant in jobs else "search"
  config.dtype = "auto"
  config.data.update(
    source="tfds",
    name="cifar10",
    image_size=32,
    channels=3,
    mean=MEAN,
    std=STD,
    crop="pad",
    crop_padding=4,
    flip=True,
    cutout=16,
    arch_fraction=0.1,
    workers=min(8, os.cpu_count()),
  )
  # The defaults are the published space: 54 blocks of 12 searched edges.
  config.space = ConfigDict(dict(family="tree", depths=(18, 18, 18)))
  config.search.update(
    batch=64,
    lr_batch=64,
    warmup_epochs=40.0,
    epochs=120.0,
    warmup_lr=0.05,
    lr=0.025,
    label_smoothing=0.0,
  )
  config.search.arch.update(lr=1e-3, mode="full", every=5, batch=64)
  config.search.costs = ConfigDict()
  config.train.update(
    enabled=False,
    batch=64,
    lr_batch=64,
    epochs=600.0,
    lr=0.1,
    lr_warmup_epochs=0.0,
    weight_decay=1e-4,
    kernels_only=False,
    label_smoothing=0.0,
    dropout=0.0,
    drop_path=0.2,
    ema_decay=0.0,
  )
  config.evaluate.update(batch=500, recalibration_batches=100)
  # Whole networks of 54 blocks compile for minutes.
  config.measure.update(classes=10, calibration=12, held_out=10)
  config.run.update(log_every=100, checkpoint_every=1000)
  if variant == "r":
    # Rewards are accuracies: a baseline and ten draws tell them from noise.
    config.search.arch.update(
      algorithm="reinforce", samples=10, baseline_decay=0.95
    )
  return _smoke(config) if variant == "smoke" else config


def _smoke(config: ConfigDict) -> ConfigDict:
  config.data.update(
    source="generated",
    name="",
    generated_classes=10,
    generated_images=120,
    workers=1,
  )
  config.space.update(alpha=8, depths=(1,))
  config.search.update(batch=16, grad_accum=2, warmup_epochs=0.5, epochs=1.0)
  config.search.arch.update(batch=8, every=2, after_epochs=0.0)
  config.train.update(enabled=True, batch=16, grad_accum=2, epochs=1.0)
  config.evaluate.update(batch=16, recalibration_batches=2)
  config.measure.update(classes=0, calibration=4, held_out=2, max_rounds=12)
  config.run.update(log_every=2, checkpoint_every=4)
  return config
