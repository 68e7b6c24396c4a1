"""Networks of cells, and PathLevel-EAS: counts as published."""

import pytest

import proxyless_jax as pj
from proxyless_jax.space.networks.genotype import Style, cell_network
from proxyless_jax.space.zoo.cells import NASNET_A

# Name, options, parameters in millions as published, and where.
PUBLISHED = [
  # Zoph et al., CVPR 2018, tables 3 and 1. (7 @ 2304) is below.
  ("nasnet_a_mobile", {}, 5.3),
  ("nasnet_a_cifar", {"cells": 6, "filters": 32}, 3.3),
  # Real et al., AAAI 2019.
  ("amoebanet_b", {}, 34.9),
  ("amoebanet_b", {"filters": 36}, 2.8),
  # Pham et al., ICML 2018, table 1.
  ("enas", {}, 4.6),
  # Liu et al., ICLR 2019, table 1, and its first version, arXiv 1806.09055v1.
  ("darts", {}, 3.3),
  ("darts", {}, 3.4),
  # github.com/han-cai/PathLevel-EAS, README.
  ("path_level_eas", {}, 14.3),
  ("path_level_eas", {"alpha": 84}, 5.7),
]


@pytest.mark.parametrize("name,options,millions", PUBLISHED)
def test_parameters_are_within_2_percent_of_the_paper(name, options, millions):
  count = pj.parameters(pj.zoo(name, **options))
  assert abs(count / 1e6 / millions - 1.0) < 0.02


def test_counts_are_exactly_those_of_released_code():
  # Trainable weights of keras.applications.NASNetMobile and NASNetLarge, which
  # hold the released checkpoints.
  mobile = pj.zoo("nasnet_a_mobile")
  assert pj.parameters(mobile) == 5_289_978
  assert mobile.layers[-1].features_in == 1056
  large = cell_network(
    NASNET_A,
    Style(epsilon=1e-3),
    (331, 3, 1000),
    cells=6,
    filters=168,
    stem_filters=96,
    stem_reductions=2,
  )
  assert pj.parameters(large) == 88_753_150
  # Logged by the training of github.com/quark0/darts as 3.349342 MB.
  assert pj.parameters(pj.zoo("darts")) == 3_349_342


def test_macs_are_those_of_the_paper():
  # Zoph et al., table 3: 564M.
  assert abs(pj.macs(pj.zoo("nasnet_a_mobile")) / 564e6 - 1.0) < 0.001


def test_where_nasnet_for_cifar_differs_from_its_27_million():
  """The figures of the docstring."""
  network = pj.zoo("nasnet_a_cifar")
  assert network.layers[-1].features_in == 2304
  assert pj.parameters(network) == 32_590_954
  fewer = [{"filters": 88}, {"cells": 6}]
  counts = [pj.parameters(pj.zoo("nasnet_a_cifar", **o)) for o in fewer]
  assert counts == [27_467_362, 28_213_546]


def test_the_docstrings_other_figures():
  assert pj.parameters(pj.zoo("enas")) == 4_587_382
  assert pj.parameters(pj.zoo("enas", cells=5)) == 3_894_382
  assert pj.parameters(pj.zoo("darts", version=1)) == 3_169_414
  assert pj.parameters(pj.zoo("amoebanet_b")) == 34_874_506
  assert pj.parameters(pj.zoo("path_level_eas")) == 14_273_454


def test_darts_has_20_cells():
  assert len(pj.zoo("darts").cells) == 20


@pytest.mark.parametrize("size", [33, 64])
@pytest.mark.parametrize(
  "name", ["nasnet_a_mobile", "nasnet_a_cifar", "amoebanet_b", "enas", "darts"]
)
def test_small_members_are_for_any_images(name, size):
  options = dict(image_size=size, channels=1, classes=7, cells=1, filters=8)
  network = pj.zoo(name, **options)
  assert network.layers[-1].features_out == 7


def test_what_is_wrong_is_refused():
  with pytest.raises(ValueError, match="version = 3: expected 1 or 2"):
    pj.zoo("darts", version=3)
  with pytest.raises(ValueError, match="alpha = -1: expected a number"):
    pj.zoo("path_level_eas", alpha=-1)
  with pytest.raises(ValueError, match="blocks = 0: expected a positive"):
    pj.zoo("path_level_eas", blocks=0)
