"""All options with their defaults: the published recipe for ImageNet.

The defaults are those of the options' dataclasses. Every other config begins
here and changes what differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from ml_collections import ConfigDict, FieldReference

from proxyless_jax.run.config import fields
from proxyless_jax.run.config.options import JOBS, Options
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.config.space import read_space


def get_config(variant: str = "", others: tuple[str, ...] = ()) -> ConfigDict:
  """The defaults of all options.

  Args:
    variant: 'search' or '' to search; 'train' to train the architecture that
      was found in the workdir, or --config.network; 'evaluate' to evaluate the
      weights that were trained there, or --config.weights of --config.network;
      'predict' to classify --config.predict.images by the workdir's network;
      'export' to write it as --config.export.path for another runtime;
      'measure' to measure a table of latency on the device at hand.
    others: variants of the calling config, which search.

  Raises:
    ValueError: an unknown variant.
  """
  fields.one_of("variant", variant, ("", *JOBS, *others))
  return section(Options(job=variant if variant in JOBS else "search"))


def space(family: str, **changes: Any) -> ConfigDict:
  """All arguments of a search space, `mobile_space` or `tree_space`.

  Args:
    family: 'mobile' or 'tree'.
    **changes: arguments that differ from their defaults.
  """
  return ConfigDict(read_space({"family": family, **changes}))


def cost(kind: str, reference: str, **changes: Any) -> ConfigDict:
  """All fields of a cost of the search.

  Args:
    kind: cost table, as `CostOptions` says.
    reference: quantity with its unit.
    **changes: fields that differ from their defaults.
  """
  return section(CostOptions(kind=kind, reference=reference, **changes))


def section(options: Any) -> ConfigDict:
  """A section of a config, with the fields and values of a dataclass.

  A field whose type is a union takes a value of any type; the dataclass checks
  it when the config is parsed. Others keep the type of their value.
  """
  config = ConfigDict()
  for name, hint in get_type_hints(type(options)).items():
    value = getattr(options, name)
    if dataclasses.is_dataclass(hint):
      value = section(value)
    elif isinstance(value, Mapping):
      value = ConfigDict(value)
    if fields.is_union(hint):
      value = FieldReference(value, field_type=object)
    config[name] = value
  return config


def shorten(config: ConfigDict) -> None:
  """Cuts all stages down to seconds, on generated images of 32 pixels."""
  config.data.update(source="generated", name="", workers=1)
  config.data.update(generated_classes=10, generated_images=240, image_size=32)
  config.data.update(test_fraction=0.2, arch_fraction=0.25)
  for stage in (config.search, config.search.arch, config.train):
    stage.update(batch=16, grad_accum=2)
  config.search.update(warmup_epochs=0.5, epochs=1.0)
  config.search.arch.update(every=2, after_epochs=0.0)
  config.train.update(enabled=True, epochs=1.0)
  config.evaluate.update(batch=16, recalibration_batches=2)
  config.measure.update(classes=0, calibration=4, held_out=2, max_rounds=12)
  config.run.update(log_every=2, checkpoint_every=4)


def smoke(config: ConfigDict) -> ConfigDict:
  """Cuts a config of ImageNet down to a search of two blocks in a minute."""
  shorten(config)
  config.space.update(depths=(2,), strides=(2,), head_width=64)
  config.space.widths = config.space.widths[:1]
  config.search.costs.hardware.update(kind="macs", reference="1 M MACs")
  return config
