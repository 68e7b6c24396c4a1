"""The configs: a file each, whose get_config() gives a ConfigDict.

    import proxyless_jax as pj
    config = pj.configs.mnist.get_config("quick")

On the command line they go by name: --config=mnist:quick.
"""

from proxyless_jax.configs import (
  base,
  cifar10,
  imagenet_cpu,
  imagenet_gpu,
  imagenet_mobile,
  mnist,
  photos,
)
