"""CIFAR-10: searches the PyramidNet with trees, trains what was found.

Trained as in Cai et al., Path-Level Network Transformation, ICML 2018, table 1:
600 epochs with cutout and drop path; the rate of drop path is ours. What 'r'
found is trained by 'r' with --config.job=train, in the same workdir.
"""

from ml_collections import ConfigDict

from proxyless_jax.configs import base

MEAN = (0.49139968, 0.48215827, 0.44653124)
STD = (0.24703233, 0.24348505, 0.26158768)


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`; 'g' by gradient, 'r' by REINFORCE; 'smoke'."""
  config = base.get_config(variant, others=("g", "r", "smoke"))
  config.data.update(name="cifar10", image_size=32, mean=MEAN, std=STD)
  config.data.update(crop="pad", crop_padding=4, crop_min_scale=1.0, cutout=16)
  config.data.update(brightness=0.0, saturation=0.0)
  config.data.workers = min(8, config.data.workers)
  config.data.update(test_fraction=0.2, arch_fraction=0.1)
  config.space = base.space("tree")  # Published: 54 blocks of 12 edges.
  config.search.update(batch=64, lr_batch=64, label_smoothing=0.0)
  config.search.arch.batch = 64
  config.train.update(batch=64, lr_batch=64, epochs=600.0, lr=0.1)
  config.train.update(weight_decay=1e-4, kernels_only=False)
  config.train.update(label_smoothing=0.0, dropout=0.0, drop_path=0.2)
  # Whole networks of 54 blocks compile for minutes.
  config.measure.update(classes=10, calibration=12, held_out=10)
  if variant == "r":  # A baseline and ten draws tell rewards from noise.
    config.search.arch.algorithm = "reinforce"
  if variant == "smoke":
    base.shorten(config)
    config.data.update(generated_images=120, arch_fraction=0.1)
    config.space.update(alpha=8, depths=(1,))
    config.search.arch.update(batch=8, grad_accum=1)
  return config
