"""The recipes: they say what was published, and each runs as a whole."""

import itertools
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import proxyless_jax as pj
from proxyless_jax.configs import mnist_variants
from proxyless_jax.run import weights
from proxyless_jax.run.config.named import FOLDER, config_names
from proxyless_jax.run.config.options import JOBS, Options, as_json, parse
from proxyless_jax.run.costs import make_costs

IMAGENET = ("imagenet_gpu", "imagenet_cpu", "imagenet_mobile")
RECIPES = (*IMAGENET, "cifar10")


def config_of(recipe, variant=""):
  return getattr(pj.configs, recipe).get_config(variant)


@pytest.mark.parametrize(
  ("recipe", "variant"),
  [
    *itertools.product(config_names(), ["", *JOBS]),
    *((recipe, "smoke") for recipe in RECIPES),
    *(("mnist", variant) for variant in mnist_variants.CHANGES),
    *(("cifar10", variant) for variant in ("g", "r")),
  ],
)
def test_every_variant_is_a_whole_config(recipe, variant):
  config = config_of(recipe, variant)
  options = parse(config)
  assert options.job == (variant if variant in JOBS else "search")
  assert not options.make_space(classes=10).is_architecture
  assert set(as_json(options)["search"]) == set(config.search)


def test_base_has_the_defaults():
  assert parse(config_of("base")) == Options()


def test_an_unknown_variant():
  for recipe in config_names():
    message = r"variant = 'trian': expected .*; did you mean 'train'\?"
    with pytest.raises(ValueError, match=message):
      config_of(recipe, "trian")


def test_a_config_says_only_what_differs():
  for path in pathlib.Path(FOLDER).glob("*.py"):
    lines = len(path.read_text().splitlines())
    assert lines <= 40 or path.stem == "base", path.name


def test_a_function_as_a_cost_and_a_network_as_the_space():
  """Their fields take any type; all others keep theirs."""
  config = config_of("mnist", "reinforce")
  config.search.costs.hardware.kind = pj.macs
  config.space = pj.tree_space(image_size=28, channels=1, depths=(1,))
  options = parse(config.lock())
  assert options.search.costs["hardware"].kind is pj.macs
  assert options.make_space(10) == config.space
  with pytest.raises(TypeError, match="lr"):
    config.search.lr = "fast"
  with pytest.raises(AttributeError, match=r'Did you mean "epochs"'):
    config.search.epoch = 3


def test_the_cifar_recipe_searches_by_gradient_and_by_reinforce():
  of_gradient, default = (config_of("cifar10", v) for v in ("g", ""))
  assert of_gradient == default
  options = parse(config_of("cifar10", "r"))
  assert options.job == "search"
  assert options.search.arch.algorithm == "reinforce"
  assert options.data.cutout == 16 and options.train.drop_path > 0


@pytest.mark.parametrize("variant", ["", *mnist_variants.CHANGES])
def test_the_digits_recipes_have_targets_in_reach(variant):
  options = parse(config_of("mnist", variant))
  assert make_costs(options.search.costs, options.make_space(classes=10))


def test_the_digits_recipe_with_trees_has_a_target_in_reach():
  options = parse(config_of("mnist", "tree"))
  space = options.make_space(classes=10)
  assert len(space.blocks) == 2 and len(space.edges) == 24
  (cost,) = make_costs(options.search.costs, space)
  assert cost.table.min_cost < cost.form.target < cost.table.max_cost


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_search_found_is_trained_and_evaluated_in_its_workdir(recipe):
  """The three configs differ in their jobs alone, so they share a workdir."""
  configs = [config_of(recipe, v).to_dict() for v in ("", "train", "evaluate")]
  for config in configs:
    del config["job"]
  assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("recipe", IMAGENET)
def test_imagenet_has_the_published_settings(recipe):
  options = parse(config_of(recipe))
  search, train = options.search, options.train
  assert (search.warmup_epochs, search.epochs) == (40, 120)
  assert (search.warmup_lr, search.lr, search.batch) == (0.05, 0.025, 256)
  assert (search.arch.lr, search.arch.b1, search.arch.every) == (1e-3, 0, 5)
  assert (train.epochs, train.lr, train.weight_decay) == (300, 0.05, 4e-5)
  assert round(options.data.arch_fraction * 1_281_167) == 50_000
  assert len(options.make_space(classes=1000).edges) == 21


def test_the_mobile_recipe_searches_the_released_space():
  space = parse(config_of("imagenet_mobile")).make_space(classes=1000)
  assert space == pj.mobile_space()


@pytest.mark.parametrize("recipe", ("imagenet_gpu", "imagenet_cpu"))
def test_the_published_network_is_in_the_space(recipe):
  space = parse(config_of(recipe)).make_space(classes=1000)
  network = pj.zoo(recipe.replace("imagenet", "proxyless"))
  assert space.choose([edge.op.name for edge in network.edges]) == network


def test_the_cifar_recipe_searches_the_published_space():
  space = parse(config_of("cifar10")).make_space(classes=10)
  network = pj.zoo("proxyless_cifar")
  assert space.choose([edge.op.name for edge in network.edges]) == network


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_smoke_run_searches_trains_and_evaluates(recipe, tmp_path):
  result = pj.search(config_of(recipe, "smoke"), tmp_path)
  assert 0 <= result["top1"] <= 1
  assert result["seconds_search"] > 0 and result["seconds_train"] > 0


def test_a_test_part_alone_is_evaluated(tmp_path, monkeypatch):
  """No batch of the training has to fit, since nothing is trained."""
  for name in ("ant", "cat"):
    folder = tmp_path / "images" / "val" / name
    folder.mkdir(parents=True)
    for i in range(3):
      Image.new("RGB", (40, 32), (i, 0, 0)).save(folder / f"{i}.png")
  config = config_of("imagenet_mobile", "evaluate")
  config.data.update(source="folder", name="", path=str(tmp_path / "images"))
  config.data.update(image_size=32, workers=0)
  config.update(network="proxyless_mobile", weights="mobile.pth")
  network = pj.zoo("proxyless_mobile", image_size=32, classes=2)
  variables = pj.init(pj.build(network), jax.random.key(0))
  state_dict = pj.to_torch(network, variables)
  monkeypatch.setattr(weights, "read_torch", lambda path, part: state_dict)
  assert pj.evaluate(config, tmp_path / "run")["images"] == 6
  assert (tmp_path / "run" / "architecture.png").exists()


def test_weights_of_a_named_network_are_evaluated(tmp_path, monkeypatch):
  """And trained further; the file itself is another test's."""
  config = config_of("imagenet_mobile", "smoke")
  network = pj.zoo("proxyless_mobile", image_size=32, classes=10)
  variables = pj.init(pj.build(network), jax.random.key(0))
  state_dict = pj.to_torch(network, variables)
  files = {"mobile.pth": state_dict}
  monkeypatch.setattr(weights, "read_torch", lambda path, part: files[path])
  config.update(
    job="evaluate", network="proxyless_mobile", weights="mobile.pth"
  )
  result = pj.evaluate(config, tmp_path)
  assert result["parameters"] == pj.parameters(network)
  assert result["images"] == 48
  files["mobile.pth"] = {"head": np.zeros(3)} | state_dict
  message = r"(?s)weights = 'mobile.pth': .*head"
  with pytest.raises(ValueError, match=message):
    pj.evaluate(config, tmp_path / "other")


@pytest.mark.parametrize("recipe", ["mnist", "photos"])
def test_a_table_of_ones_own_images_has_their_classes(recipe):
  """Else a search refuses it: its classifier is another one."""
  assert config_of(recipe).measure.classes == 0
