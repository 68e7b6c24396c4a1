import math
import pathlib
import types

import jax
import pytest
from ml_collections import ConfigDict

from proxyless_jax.run.config.options import Options, as_json, parse


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
  config["search"]["costs"]["hardware"]["kind"] = "~/table.json"
  options = parse(config)
  assert options.network == "/home/me/net.json"
  assert options.weights == "/home/me/net.pth"
  assert options.data.path == "/home/me/data"
  assert options.search.costs["hardware"].kind == "/home/me/table.json"


@pytest.mark.parametrize("size", [(12, 20), [12, 20]])
def test_height_and_width_of_images(make_config, size):
  """As a tuple; or as a list, as config.json has it."""
  options = parse(ConfigDict(make_config(data__image_size=size)))
  assert options.data.image_size == (12, 20)
  space = options.make_space(10)
  assert (space.image_size, space.image_shape) == ((12, 20), (12, 20, 1))
  assert parse(make_config(data__image_size=(12, 12))) == parse(make_config())


def test_unknown_and_missing_fields_are_named(make_config):
  config = make_config(search__costs__hardware__speed=1)
  del config["search"]["costs"]["hardware"]["kind"]
  with pytest.raises(ValueError) as error:
    parse(config)
  assert str(error.value) == (
    "config.search.costs.hardware: unknown fields ['speed'], missing fields "
    "['kind']; known are ['exponent', 'form', 'kind', 'reference', 'weight']"
  )
  with pytest.raises(ValueError, match=r"config: unknown fields \['sede'\]"):
    parse(make_config(sede=1))


def test_a_number_may_take_the_place_of_auto_by_a_flag(make_config):
  """A flag has the type of the value that it changes: of 'auto', text."""
  config = make_config(search__epochs="2", search__warmup_epochs="0.5")
  search = parse(config).search
  assert (search.epochs, search.warmup_epochs) == (2.0, 0.5)


def test_what_a_config_leaves_out_has_its_default(make_config):
  """In every section, and also where a section is not there at all."""
  whole = make_config(search=as_json(Options())["search"])
  whole["search"]["arch"]["every"] = 7
  part = {"data": dict(whole["data"]), "search": {"arch": {"every": 7}}}
  options = parse(part)
  assert options.data == parse(whole).data
  assert options.search == parse(whole).search
  assert options.train == Options().train
  assert parse({}) == Options()
  message = r"config.search.arch: unknown fields \['evry'\]; did you mean"
  with pytest.raises(ValueError, match=message):
    parse({"search": {"arch": {"evry": 7}}})


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
    ({"space__width": 8}, "config.space: unknown fields ['width']"),
    ({"space__classes": 8}, "config.space: unknown fields ['classes']"),
    (
      {"space__widhts": 8},
      "config.space: unknown fields ['widhts']; did ",
    ),
    ({"space__family": "tre"}, "space.family = 'tre': expected one of"),
    ({"space": (1, 2)}, "space = (1, 2): expected a section of fields, "),
    ({"search__lr": "fast"}, "search.lr = 'fast': expected float"),
    ({"search__lr": 0.0}, "search.lr = 0.0: expected a positive number"),
    ({"search__lr": math.inf}, "search.lr = inf: expected a finite number"),
    ({"search__epochs": math.nan}, "search.epochs = nan: expected 0 or more"),
    ({"search__warmup_lr": -1}, "search.warmup_lr = -1.0: expected 0 or more"),
    ({"search__nesterov": 1}, "search.nesterov = 1: expected bool"),
    (
      {"search__label_smoothing": 1.0},
      "search.label_smoothing = 1.0: expected at least 0",
    ),
    ({"search__batch": 8.0}, "search.batch = 8.0: expected int"),
    ({"search__arch__mode": "one"}, "search.arch.mode = 'one': expected one"),
    (
      {"search__optimizer": "adamw2"},
      "search.optimizer = 'adamw2': expected one of ('sgd', 'adam', 'adamw', "
      "'lion'); did you mean 'adamw'?",
    ),
    ({"train__optimizer": ""}, "train.optimizer = '': expected one of ('sgd'"),
    (
      {"search__arch__optimizer": "sdg"},
      "search.arch.optimizer = 'sdg': expec",
    ),
    ({"search__b1": 1.0}, "search.b1 = 1.0: expected at least 0"),
    ({"train__b2": -0.1}, "train.b2 = -0.1: expected at least 0"),
    ({"search__arch__b2": 1.0}, "search.arch.b2 = 1.0: expected at least 0"),
    ({"search__arch__every": 0}, "search.arch.every = 0: expected a positive"),
    (
      {"search__costs__hardware__form": "cubic"},
      "search.costs.hardware.form = 'cubic': expected one of ('linear', 'log",
    ),
    (
      {"search__costs__hardware__weight": 0.0},
      "search.costs.hardware.weight = 0.0: expected a pos",
    ),
    (
      {"search__costs__hardware__kind": 3},
      "search.costs.hardware.kind = 3: expected str or Callable",
    ),
    (
      {"search__costs__hardware": "20 ms"},
      "search.costs.hardware = '20 ms': expected",
    ),
    ({"search__costs": "20 ms"}, "search.costs = '20 ms': expected a section"),
    (
      {"search__costs__hardware__form": "absolute"},
      "search.costs.hardware.form = 'absolute': expected one of ('linear', "
      "'log', 'at_most', 'exactly') for search.arch.algorithm = 'gradient'",
    ),
    (
      {"search__costs__hardware__kind": len},
      "search.costs.hardware.kind = <built-in function len>: expected a table",
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
      {"train__epochs": 2.0, "train__lr_warmup_epochs": 2.0},
      "train.lr_warmup_epochs = 2.0: expected below train.epochs = 2.0",
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
  cost = make_config()["search"]["costs"]["hardware"]
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
    (
      {"space__strides": (16,)},
      r"data\.image_size = 12: expected at least 31 for the strides",
    ),
    ({"space__widths": 8}, r"space\.widths = 8: expected a tuple of integers"),
    ({"space__widths": (8, 8)}, r"space\.widths = \(8, 8\), depths = \(2,"),
    ({"space__width_mult": "2"}, r"space\.width_mult = '2': expected a posit"),
    (
      {"space__candidates": ("conv",)},
      r"space\.candidates\[0\]: unknown .*; did you mean 'conv_k3'\?",
    ),
    (
      {"space__strides": (16,), "data__image_size": (99, 12)},
      r"data\.image_size = \(99, 12\): expected at least",
    ),
  ],
)
def test_a_space_that_does_not_fit(make_config, fields, message):
  options = parse(make_config(**fields))
  with pytest.raises(ValueError, match=message):
    options.make_space(10)


@pytest.mark.parametrize("devices, fitting", [(1, 12), (4, 8)])
def test_all_batches_that_do_not_fit(
  make_config, monkeypatch, devices, fitting
):
  from proxyless_jax.run import opening

  monkeypatch.setattr(jax, "device_count", lambda: devices)
  sizes = dict(train=range(16), weights=range(13), arch=range(5))
  config = make_config(
    train__batch=32, search__batch=32, search__grad_accum=2, search__epochs=9.0
  )
  with pytest.raises(ValueError) as error:
    opening.check_batches(parse(config), types.SimpleNamespace(**sizes))
  assert str(error.value) == (
    "train.batch = 32 of 16, search.batch = 32 of 13, search.arch.batch = 16 "
    "of 5 images: expected batches of at most the images of their splits: use "
    f"more images, or --config.train.batch=16 --config.search.batch={fitting} "
    f"--config.search.arch.batch={5 if devices == 1 else 4}"
  )


def test_accumulate_gives_way_where_too_few_are_left(make_config, monkeypatch):
  from proxyless_jax.run import opening

  def check(devices):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    config = make_config(job="train", train__batch=32, train__grad_accum=4)
    dataset = types.SimpleNamespace(train=range(3))
    opening.check_batches(parse(config), dataset)

  flags = "or --config.train.grad_accum=1 --config.train.batch=3"
  with pytest.raises(ValueError, match=f"{flags}$"):
    check(devices=1)
  with pytest.raises(ValueError, match="fewer images than devices: use fewer"):
    check(devices=8)


@pytest.mark.parametrize(
  "config, message",
  [
    ("configs/mnist.py", "config is the path 'configs/mnist.py': expected a"),
    (pathlib.Path("c.py"), "config is the path 'c.py': expected a ConfigDict"),
    (None, "config is of type NoneType: expected a ConfigDict"),
    ([1], "config is of type list: expected a ConfigDict"),
    (parse, "config is of type function: expected a ConfigDict"),
    ({1: 2}, r"config: unknown fields \[1\]; known are \['data'"),
  ],
)
def test_what_is_no_config(config, message):
  from proxyless_jax.run import jobs

  for job in (jobs.search, jobs.train, jobs.evaluate, jobs.measure):
    with pytest.raises(ValueError, match=message):
      job(config, "w")


@pytest.mark.parametrize(
  "workdir, got",
  [("", "= ''"), (None, "is of type NoneType"), (3, "is of type int")],
)
def test_what_is_no_workdir(make_config, workdir, got):
  from proxyless_jax.run import jobs

  for job in (jobs.search, jobs.measure):
    with pytest.raises(ValueError, match=f"workdir {got}: expected a folder"):
      job(make_config(), workdir)
