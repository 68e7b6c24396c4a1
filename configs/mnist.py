"""A search for digits on photographs, which come with the extra `demo`.

It takes a few minutes on 2 cores: search a narrow space for at most 0.6 M MACs,
train what was found, test it on a fifth of the digits.
"""

from ml_collections import ConfigDict

from proxyless_jax.configs import base, mnist_variants


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`, and of `mnist_variants`."""
  config = base.get_config(variant, others=tuple(mnist_variants.CHANGES))
  config.dtype = "float32"
  config.data.update(source="photo_digits", name="", workers=0)
  config.data.update(image_size=28, channels=1, mean=(0.273,), std=(0.219,))
  config.data.update(crop="pad", crop_padding=2, crop_min_scale=1.0, flip=False)
  config.data.update(brightness=0.0, saturation=0.0, test_fraction=0.2)
  config.data.arch_fraction = 0.2
  config.space.update(stem_width=8, first_width=0, head_width=64)
  config.space.update(widths=(8, 16, 32), depths=(2, 3, 3), strides=(1, 2, 2))
  config.space.candidates = "mbconv3_k3", "mbconv3_k5", "mbconv3_k7", "zero"
  # Weights alone, then evolution on them: docs/searching.md says why.
  config.search.update(batch=64, lr_batch=64, paths=4)
  config.search.update(warmup_epochs=15.0, epochs=0.0)
  config.derive.update(method="evolution", paths=300, images=500, compare=50)
  config.search.arch.batch = 64
  config.search.costs.hardware = base.cost(
    "macs", "0.6 M MACs", form="at_most", weight=0.05, exponent=0.0
  )
  config.train.update(enabled=True, batch=64, lr_batch=64, epochs=2.0, lr=0.1)
  config.train.update(lr_warmup_epochs=0.25, weight_decay=1e-4)
  config.train.update(dropout=0.1, ema_decay=0.99)
  config.evaluate.update(batch=250, recalibration_batches=20)
  config.measure.classes = 0
  config.run.update(log_every=50, checkpoint_every=400)
  if variant in mnist_variants.CHANGES:
    mnist_variants.CHANGES[variant](config)
  return config
