"""The ImageNet recipe that the configs imagenet_*.py share.

Settings of Cai, Zhu, Han, ProxylessNAS, ICLR 2019, and of the search that they
released; where this project departs from them, a comment says so.
"""

import os

from ml_collections import ConfigDict, FieldReference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VARIANTS = ("", "train", "evaluate", "measure", "smoke")


def recipe(
  variant: str, *, space: dict, kind: str, reference: str, dropout: float
) -> ConfigDict:
  """The config of one hardware.

  Args:
    variant: '' searches; 'train' trains what was found in the workdir, or
      --config.network; 'evaluate' evaluates what was trained there, or
      --config.weights of --config.network; 'measure' measures a table of
      latency on the device at hand; 'smoke' goes through search, training and
      evaluation in a minute, on generated images.
    space: arguments of `mobile_space`.
    kind, reference: of the cost in the search's objective, see
      `hardware.cost_table`; a table that was measured is better than a count.
    dropout: before the classifier, in training.
  """
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r}: expected one of {VARIANTS}")
  config = ConfigDict()
  config.job = "search" if variant in ("", "smoke") else variant
  config.seed = 0
  config.dtype = "auto"
  config.network = ""
  config.weights = ""
  config.data = _data()
  config.space = ConfigDict(space)
  config.search = _search(kind, reference)
  config.train = _train(dropout)
  config.evaluate = ConfigDict(dict(batch=500, recalibration_batches=100))
  config.measure = _measure()
  config.run = ConfigDict(
    dict(log_every=100, checkpoint_every=1000, keep=3, shard_state=False)
  )
  return _smoke(config) if variant == "smoke" else config


def _data() -> ConfigDict:
  return ConfigDict(
    dict(
      source="tfds",
      path="",
      name="imagenet2012",
      generated_classes=0,
      generated_images=0,
      # An integer or (height, width): as an int it would refuse the latter.
      image_size=FieldReference(224, field_type=object),
      channels=3,
      mean=MEAN,
      std=STD,
      crop="resized",
      crop_padding=0,
      crop_min_scale=0.08,
      flip=True,
      brightness=32 / 255,
      saturation=0.5,
      cutout=0,
      test_fraction=0.1,  # Not read: ImageNet has a validation part.
      arch_fraction=50_000 / 1_281_167,
      split_seed=0,
      workers=min(32, os.cpu_count()),
    )
  )


def _search(kind: str, reference: str) -> ConfigDict:
  return ConfigDict(
    dict(
      batch=256,
      grad_accum=1,
      lr_batch=256,
      warmup_epochs=40.0,
      epochs=120.0,
      warmup_lr=0.05,
      lr=0.025,
      momentum=0.9,
      nesterov=True,
      weight_decay=4e-5,
      label_smoothing=0.1,
      path_per_device=False,
      arch=dict(
        algorithm="gradient",
        lr=1e-3,
        b1=0.0,
        b2=0.999,
        weight_decay=0.0,
        init_scale=1e-3,
        mode="full",
        samples=10,
        baseline_decay=0.95,
        entropy_weight=0.0,
        every=5,
        after_epochs=1.0,
        batch=256,
        grad_accum=1,
      ),
      costs=dict(
        hardware=dict(
          kind=kind,
          form="log",
          reference=reference,
          weight=0.2,
          exponent=0.3,
        ),
      ),
    )
  )


def _train(dropout: float) -> ConfigDict:
  return ConfigDict(
    dict(
      enabled=False,
      freeze=False,
      inherit=False,
      batch=256,
      grad_accum=1,
      lr_batch=256,
      epochs=300.0,
      lr=0.05,
      # As published at batch 256; large batches want a ramp of some epochs.
      lr_warmup_epochs=0.0,
      momentum=0.9,
      nesterov=True,
      weight_decay=4e-5,
      kernels_only=True,  # As published, and the classifier's bias too.
      label_smoothing=0.1,
      dropout=dropout,
      drop_path=0.0,
      ema_decay=0.0,
    )
  )


def _measure() -> ConfigDict:
  return ConfigDict(
    dict(
      runtime="xla",
      quantity="latency",
      batch=1,
      dtype="float32",
      classes=1000,  # So that no data are read.
      calibration=60,
      held_out=30,
      tolerance=0.004,
      max_rounds=100,
    )
  )


def _smoke(config: ConfigDict) -> ConfigDict:
  config.data.update(
    source="generated",
    name="",
    generated_classes=10,
    generated_images=240,
    image_size=32,
    test_fraction=0.2,
    arch_fraction=0.25,
    workers=1,
  )
  config.space.update(depths=(2,), strides=(2,), head_width=64)
  config.space.widths = config.space.widths[:1]
  config.search.update(batch=16, grad_accum=2, warmup_epochs=0.5, epochs=1.0)
  config.search.arch.update(batch=16, grad_accum=2, every=2, after_epochs=0.0)
  config.search.costs.hardware.update(kind="macs", reference="1 M MACs")
  config.train.update(enabled=True, batch=16, grad_accum=2, epochs=1.0)
  config.evaluate.update(batch=16, recalibration_batches=2)
  config.measure.update(classes=0, calibration=4, held_out=2, max_rounds=12)
  config.run.update(log_every=2, checkpoint_every=4)
  return config
