import pytest

from proxyless_jax.data import DataOptions


def test_valid_options_are_kept(mnist_fields):
  options = DataOptions(**mnist_fields)
  assert options.mean == (0.13,)
  assert hash(options) == hash(DataOptions(**mnist_fields))


def test_the_defaults_are_the_published_recipe_for_imagenet():
  options = DataOptions()
  assert (options.source, options.name) == ("tfds", "imagenet2012")
  assert (options.crop, options.image_size, options.flip) == (
    *("resized", 224, True),
  )
  assert round(options.arch_fraction * 1_281_167) == 50_000
  assert 1 <= options.workers <= 32


@pytest.mark.parametrize(
  ("field", "value", "expected"),
  [
    ("source", "cifar", "one of"),
    ("path", None, "a string"),
    ("path", "/data", '"" for source="mnist"'),
    ("name", 3, "a string"),
    ("name", "cifar10", '"" for source="mnist"'),
    ("image_size", 0, "an integer of 1 or more"),
    ("image_size", 28.0, "an integer of 1 or more"),
    ("image_size", True, "an integer of 1 or more"),
    ("image_size", "28", r"or a tuple of two, \(height, width\)"),
    ("image_size", (28,), "a tuple of two"),
    ("image_size", (28, 28, 3), "a tuple of two"),
    ("image_size", (28, 0), "a tuple of two"),
    ("image_size", (28.0, 28), "a tuple of two"),
    ("image_size", [20, 28], "a tuple of two"),
    ("channels", 2, "1 .* or 3"),
    ("mean", (0.5, 0.5, 0.5), "a tuple of 1 numbers"),
    ("mean", 0.5, "a tuple of 1 numbers"),
    ("mean", (33.3,), "0..1"),
    ("std", (), "a tuple of 1 numbers"),
    ("std", ("a",), "a tuple of 1 numbers"),
    ("std", (0.0,), "above 0"),
    ("std", (78.0,), "above 0"),
    ("crop", "random", "one of"),
    ("crop_padding", 0, "an integer of 1 or more"),
    ("crop_padding", -1, "an integer of 1 or more"),
    ("crop_min_scale", 0, "above 0"),
    ("crop_min_scale", 1.1, "above 0"),
    ("flip", 1, "True or False"),
    ("generated_classes", 2, '0 for source="mnist"'),
    ("generated_images", 1, '0 for source="mnist"'),
    ("generated_images", None, "an integer"),
    ("brightness", -0.1, "0 or more"),
    ("brightness", "0.1", "a number"),
    ("brightness", float("inf"), "a number"),
    ("saturation", 0.5, "0 for channels=1"),
    ("saturation", -1, "0 or more"),
    ("cutout", -1, "an integer of 0 or more"),
    ("cutout", 16.0, "an integer of 0 or more"),
    ("cutout", 28, "below the shorter side of image_size=28"),
    ("test_fraction", 0, "between 0 and 1"),
    ("test_fraction", 1.0, "between 0 and 1"),
    ("arch_fraction", "half", "between 0 and 1"),
    ("arch_fraction", float("nan"), "between 0 and 1"),
    ("split_seed", -1, "an integer of 0 or more"),
    ("split_seed", 2**32, "below"),
    ("workers", -1, "an integer of 0 or more"),
    ("workers", 1.5, "an integer of 0 or more"),
  ],
)
def test_errors_name_field_value_and_expected(
  mnist_fields, field, value, expected
):
  with pytest.raises(ValueError, match=expected) as error:
    DataOptions(**{**mnist_fields, field: value})
  assert str(error.value).startswith(f"{field}={value!r}: expected")
  assert "; " in str(error.value)


def test_a_cutout_fits_the_shorter_side(make_options):
  assert make_options(image_size=(20, 28), cutout=19).cutout == 19
  with pytest.raises(ValueError, match=r"cutout=20.* image_size=\(20, 28\)"):
    make_options(image_size=(20, 28), cutout=20)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"source": "folder"}, "path='': expected the root"),
    ({"source": "folder", "path": "x", "name": "y"}, "name='y': expected"),
    ({"source": "tfds"}, "name='': expected the name of a dataset"),
    ({"source": "generated", "path": "x"}, "path='x': expected \"\" for"),
    (
      {"source": "generated", "generated_images": 8},
      "generated_classes=0: expected an integer of 2 or more",
    ),
    (
      {"source": "generated", "generated_classes": 2},
      "generated_images=0: expected an integer of 1 or more",
    ),
  ],
)
def test_errors_of_fields_together(mnist_fields, fields, message):
  with pytest.raises(ValueError, match=message):
    DataOptions(**{**mnist_fields, **fields})


def test_fields_of_other_crops_are_free(mnist_fields):
  assert DataOptions(**{**mnist_fields, "crop": "none", "crop_padding": 0})
