import pytest

from proxyless_jax.data import DataOptions

MNIST = {
  "source": "mnist",
  "path": "",
  "name": "",
  "generated_classes": 0,
  "generated_images": 0,
  "image_size": 28,
  "channels": 1,
  "mean": (0.13,),
  "std": (0.31,),
  "crop": "pad",
  "crop_padding": 2,
  "crop_min_scale": 0.08,
  "flip": False,
  "brightness": 0.0,
  "saturation": 0.0,
  "cutout": 0,
  "test_fraction": 0.2,
  "arch_fraction": 0.5,
  "split_seed": 0,
  "workers": 0,
}


@pytest.fixture
def mnist_fields():
  """A dict of valid fields; `DataOptions(**fields)` succeeds."""
  return dict(MNIST)


@pytest.fixture
def make_options():
  """Makes options of the fields given, the others as for MNIST."""

  def make(**fields):
    channels = fields.get("channels", 1)
    normal = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    return DataOptions(**{**MNIST, **normal, **fields})

  return make


@pytest.fixture
def make_photos(make_options):
  """Options of everything that is done to ImageNet's and CIFAR's images."""

  def make(**fields):
    return make_options(
      **{
        "source": "generated",
        "generated_classes": 3,
        "generated_images": 60,
        "image_size": 24,
        "channels": 3,
        "crop": "resized",
        "flip": True,
        "brightness": 32 / 255,
        "saturation": 0.5,
        "cutout": 8,
        **fields,
      }
    )

  return make
