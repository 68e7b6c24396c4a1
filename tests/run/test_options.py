import math

import pytest
from ml_collections import ConfigDict

from proxyless_jax.run.options import Options, parse


def test_a_config_dict_and_dicts_are_the_same(make_config):
  options = parse(make_config())
  assert isinstance(options, Options)
  assert parse(ConfigDict(make_config())) == options
  assert options.search.arch.every == 2
  assert options.data.mean == (0.1307,)


def test_integers_are_floats_and_lists_are_tuples(make_config):
  options = parse(make_config(search__epochs=1, data__mean=[0.5]))
  assert isinstance(options.search.epochs, float)
  assert options.data.mean == (0.5,)


def test_home_folders_in_paths(make_config, monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  config = make_config(
    job="train", network="~/net.json", weights="~/net.pth", data__path="~/data"
  )
  config["data"]["source"] = "folder"
  config["search"]["costs"]["macs"]["kind"] = "~/table.json"
  options = parse(config)
  assert options.network == "/home/me/net.json"
  assert options.weights == "/home/me/net.pth"
  assert options.data.path == "/home/me/data"
  assert options.search.costs["macs"].kind == "/home/me/table.json"


@pytest.mark.parametrize("size", [(12, 20), [12, 20]])
def test_height_and_width_of_images(make_config, size):
  """As a tuple; or as a list, as config.json has it."""
  options = parse(ConfigDict(make_config(data__image_size=size)))
  assert options.data.image_size == (12, 20)
  space = options.make_space(10)
  assert (space.image_size, space.image_shape) == ((12, 20), (12, 20, 1))
  assert parse(make_config(data__image_size=(12, 12))) == parse(make_config())


def test_unknown_and_missing_fields_are_named(make_config):
  config = make_config(search__arch__speed=1, search__arch__lr=0.1)
  del config["search"]["arch"]["every"]
  with pytest.raises(ValueError) as error:
    parse(config)
  assert str(error.value).startswith(
    "config.search.arch: unknown fields ['speed'], missing fields ['every']; "
    "known are ['accumulate', 'after_epochs', 'algorithm', 'b1'"
  )
  with pytest.raises(ValueError, match=r"config: unknown fields \['sede'\]"):
    parse(make_config(sede=1))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"job": "fly"}, "job = 'fly': expected one of"),
    ({"dtype": "float16"}, "dtype = 'float16': expected one of"),
    ({"seed": -1}, "seed = -1: expected 0 to"),
    ({"network": "resnet_34"}, "network = 'resnet_34': expected '' for job"),
    ({"seed": 2**32}, "seed = 4294967296: expected 0 to"),
    ({"seed": True}, "seed = True: expected int"),
    ({"search": 3}, "search = 3: expected a section"),
    ({"space": (1, 2)}, "space = (1, 2): expected a section"),
    ({"search__lr": "fast"}, "search.lr = 'fast': expected float"),
    ({"search__lr": 0.0}, "search.lr = 0.0: expected a positive number"),
    ({"search__lr": math.inf}, "search.lr = inf: expected a finite number"),
    ({"search__epochs": math.nan}, "search.epochs = nan: expected a finite"),
    ({"search__warmup_lr": -1}, "search.warmup_lr = -1.0: expected 0 or more"),
    ({"search__nesterov": 1}, "search.nesterov = 1: expected bool"),
    ({"search__smoothing": 1.0}, "search.smoothing = 1.0: expected at least 0"),
    ({"search__batch": 8.0}, "search.batch = 8.0: expected int"),
    ({"search__arch__mode": "one"}, "search.arch.mode = 'one': expected one"),
    ({"search__arch__b2": 1.0}, "search.arch.b2 = 1.0: expected at least 0"),
    ({"search__arch__every": 0}, "search.arch.every = 0: expected a positive"),
    (
      {"search__costs__macs__form": "cubic"},
      "search.costs.macs.form = 'cubic': expected one of ('linear', 'log', ",
    ),
    (
      {"search__costs__macs__weight": 0.0},
      "search.costs.macs.weight = 0.0: expected a pos",
    ),
    (
      {"search__costs__macs__kind": 3},
      "search.costs.macs.kind = 3: expected str",
    ),
    ({"search__costs__macs": "20 ms"}, "search.costs.macs = '20 ms': expected"),
    ({"search__costs": "20 ms"}, "search.costs = '20 ms': expected a section"),
    (
      {"search__costs__macs__form": "absolute"},
      "search.costs.macs.form = 'absolute': expected one of ('linear', 'log', "
      "'at_most', 'exactly') for search.arch.algorithm = 'gradient'",
    ),
    (
      {"search__costs__macs__kind": len},
      "search.costs.macs.kind = <built-in function len>: expected a table",
    ),
    (
      {"search__arch__algorithm": "evolution"},
      "search.arch.algorithm = 'evolution': expected one of ('gradient', 'rei",
    ),
    ({"search__arch__samples": 0}, "search.arch.samples = 0: expected a pos"),
    (
      {"search__arch__baseline_decay": 1.0},
      "search.arch.baseline_decay = 1.0: expected at least 0",
    ),
    (
      {"search__arch__entropy_weight": -1.0},
      "search.arch.entropy_weight = -1.0: expected 0 or more",
    ),
    ({"train__dropout": 1.0}, "train.dropout = 1.0: expected at least 0"),
    (
      {"train__epochs": 2.0, "train__linear_epochs": 2.0},
      "train.linear_epochs = 2.0: expected below train.epochs = 2.0",
    ),
    ({"job": "train", "train__inherit": True}, "train.inherit = True"),
    ({"evaluate__batch": 0}, "evaluate.batch = 0: expected a positive"),
    ({"run__keep": 0}, "run.keep = 0: expected a positive"),
    ({"data__channels": 2}, "data.channels=2: expected 1 (grey) or 3 (RGB)"),
    ({"data__mean": 0.1}, "data.mean=0.1: expected a tuple"),
    ({"data__image_size": 12.0}, "data.image_size=12.0: expected an integer"),
    ({"data__image_size": [12]}, "data.image_size=(12,): expected an integer"),
    ({"data__image_size": "12"}, "data.image_size='12': expected an integer"),
  ],
)
def test_wrong_fields_are_named(make_config, fields, message):
  with pytest.raises(ValueError) as error:
    parse(make_config(**fields))
  assert str(error.value).startswith(message)


def test_names_of_costs(make_config):
  config = make_config(search__costs={})
  assert parse(config).search.costs == {}
  cost = make_config()["search"]["costs"]["macs"]
  config = make_config(search__costs={"on the phone": cost})
  with pytest.raises(ValueError, match="has the name 'on the phone': expected"):
    parse(config)


def test_space(make_config):
  space = parse(make_config()).make_space(10)
  assert (space.image_size, space.channels, space.classes) == (12, 1, 10)
  assert [len(edge.ops) for edge in space.edges] == [3, 3]


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"space__width": 8}, r"config.space: unknown fields \['width'\]"),
    ({"space__classes": 8}, r"config.space: unknown fields \['classes'\]"),
    (
      {"space__strides": (16,)},
      r"space \(with data.image_size = 12\): image_size = 12: expected at",
    ),
    (
      {"space__strides": (16,), "data__image_size": (99, 12)},
      r"space \(with data.image_size = \(99, 12\)\): image_size = \(99, 12\): ",
    ),
    ({"space__widths": 8}, r"space \(with data.image_size = 12\)"),
    ({"space__widths": (8, 8)}, r"space \(with data.image_size = 12\)"),
    ({"space__candidates": ("conv",)}, r"space \(with data.image_size = 12\)"),
  ],
)
def test_a_space_that_does_not_fit(make_config, fields, message):
  options = parse(make_config(**fields))
  with pytest.raises(ValueError, match=message):
    options.make_space(10)


def test_a_batch_fits_its_split(make_config, tmp_path):
  from proxyless_jax.run import loop

  for field, name in (
    ("search__batch", "search.batch"),
    ("search__arch__batch", "search.arch.batch"),
    ("train__batch", "train.batch"),
  ):
    config = make_config(**{field: 10**5})
    config["search"].update(epochs=50.0)
    with pytest.raises(ValueError, match=f"{name} = 100000: expected at most"):
      loop.search(config, tmp_path)
