"""NASNet-A, AmoebaNet-B, ENAS, DARTS: one family, genotypes as data.

The auxiliary classifiers, which are only for training, are left out; the papers
do not count their parameters either. Padding is symmetric, as everywhere in
this package; TensorFlow's, of NASNet, AmoebaNet and ENAS, is not at stride 2.
Batch norm's momentum is 0.9 in the released code for CIFAR, 0.9997 for
ImageNet.
"""

from __future__ import annotations

from proxyless_jax.space.edge import Size
from proxyless_jax.space.networks.cells import CellNetwork
from proxyless_jax.space.networks.genotype import Genotype, Style, cell_network

# Released code: tensorflow/models, research/slim/nets/nasnet/nasnet_utils.py.
# Its state 0 is the last cell's output and its state 1 that of the cell before;
# here, as in DARTS's code, it is the other way round.
NASNET_A = Genotype(
  normal="""
    sep_5:1  sep_3:0
    sep_5:0  sep_3:0
    avg_3:1  skip:0
    avg_3:0  avg_3:0
    sep_3:1  skip:1
  """,
  normal_outputs=(0, 2, 3, 4, 5, 6),
  reduction="""
    sep_5:1  sep_7:0
    max_3:1  sep_7:0
    avg_3:1  sep_5:0
    skip:3   avg_3:2
    sep_3:2  max_3:1
  """,
  reduction_outputs=(3, 4, 5, 6),
)
# tensorflow/tpu, models/official/amoeba_net/model_specs.py, with the states in
# the order of NASNET_A's comment. Its name says that the 5x5 is dilated; that
# code's network_utils.py reads the kernel out of the name, and no dilation.
AMOEBANET_B = Genotype(
  normal="""
    conv_1:0  max_3:0
    skip:0    sep_3:1
    conv_1:0  sep_3:1
    conv_1:2  skip:2
    avg_3:0   conv_1:5
  """,
  normal_outputs=(1, 3, 4, 6),
  reduction="""
    max_2:1      max_3:1
    skip:2       conv_3:0
    dil_sep_5:2  max_3:2
    skip:3       sep_3:0
    avg_3:4      conv_1:3
  """,
  reduction_outputs=(5, 6),
)
# melodyguan/enas, scripts/cifar10_micro_final.sh; the operations' numbers are
# those of src/cifar10/micro_child.py.
ENAS = Genotype(
  normal="""
    avg_3:0  sep_3:0
    skip:0   sep_5:0
    skip:0   sep_5:1
    sep_3:1  sep_5:0
    avg_3:0  sep_5:1
  """,
  normal_outputs=(2, 3, 4, 5, 6),
  reduction="""
    sep_3:1  sep_3:1
    max_3:0  avg_3:0
    sep_5:1  sep_5:3
    sep_3:1  skip:0
    max_3:0  sep_5:1
  """,
  reduction_outputs=(2, 4, 5, 6),
)
# quark0/darts, cnn/genotypes.py: DARTS_V1, released with the first version of
# the paper, and DARTS_V2, which later versions and the released weights have.
DARTS_V1 = Genotype(
  normal="""
    sep_3:1  sep_3:0
    skip:0   sep_3:1
    skip:0   sep_3:1
    sep_3:0  skip:2
  """,
  normal_outputs=(2, 3, 4, 5),
  reduction="""
    max_3:0  max_3:1
    skip:2   max_3:0
    max_3:0  skip:2
    skip:2   avg_3:0
  """,
  reduction_outputs=(2, 3, 4, 5),
)
DARTS_V2 = Genotype(
  normal="""
    sep_3:0  sep_3:1
    sep_3:0  sep_3:1
    sep_3:1  skip:0
    skip:0   dil_3:2
  """,
  normal_outputs=(2, 3, 4, 5),
  reduction="""
    max_3:0  max_3:1
    skip:2   max_3:1
    max_3:0  skip:2
    skip:2   max_3:1
  """,
  reduction_outputs=(2, 3, 4, 5),
)


def nasnet_a_mobile(
  *,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
  cells: int = 4,
  filters: int = 44,
) -> CellNetwork:
  """NASNet-A (4 @ 1056): Zoph et al., CVPR 2018, table 3: 5.3M, 564M MACs.

  5,289,978 parameters, as the released code has; 563.9M MACs.

  Args:
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
    cells: number of normal cells in each of the three stages.
    filters: width of the first stage; 1056 channels leave the last cell: 6
      states of 4 * 44.
  """
  return cell_network(
    NASNET_A,
    Style(epsilon=1e-3),
    (image_size, channels, classes),
    cells=cells,
    filters=filters,
    stem_filters=32,
    stem_reductions=2,
  )


def nasnet_a_cifar(
  *,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
  cells: int = 7,
  filters: int = 96,
) -> CellNetwork:
  """NASNet-A (7 @ 2304): Zoph et al., CVPR 2018, table 1: 27.6M parameters.

  Here 32.6M, 18 % more: read as table 1's other row, (6 @ 768), and the
  ImageNet networks are, the name means 7 cells a stage and 96 filters, since
  24 * 96 = 2304. Those agree: 3.35M here for 3.3M, and 5,289,978 and
  88,753,150 on ImageNet, to the unit. What fits 27.6M best is cells=7 with
  filters=88, 27.5M, or cells=6 with filters=96, 28.2M. The paper does not say
  what else differs.

  Args:
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
    cells: number of normal cells in each of the three stages.
    filters: width of the first stage. (6 @ 768) is cells=6, filters=32.
  """
  return cell_network(
    NASNET_A,
    Style(epsilon=1e-5),
    (image_size, channels, classes),
    cells=cells,
    filters=filters,
    stem_filters=3 * filters,
  )


def amoebanet_b(
  *,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
  cells: int = 6,
  filters: int = 128,
) -> CellNetwork:
  """AmoebaNet-B (N=6, F=128): Real et al., AAAI 2019: 34.9M parameters.

  34,874,506 here; F = 36, their smallest, has 2.84M for 2.8M.

  Args:
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
    cells: number of normal cells in each of the three stages.
    filters: width of the first stage.
  """
  return cell_network(
    AMOEBANET_B,
    Style(epsilon=1e-3),
    (image_size, channels, classes),
    cells=cells,
    filters=filters,
    stem_filters=3 * filters,
  )


def enas(
  *,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
  cells: int = 6,
  filters: int = 36,
) -> CellNetwork:
  """ENAS, micro search: Pham et al., ICML 2018, table 1: 4.6M parameters.

  4,587,382 here. The released script trains cells=5, 15 in all, which are 3.9M.
  The released code's classifier has no bias: `classes` parameters fewer.

  Args:
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
    cells: number of normal cells in each of the three stages.
    filters: width of the first stage.
  """
  return cell_network(
    ENAS,
    Style(epsilon=1e-3, strided_skip="reduce", last_convs=2, raw_first=False),
    (image_size, channels, classes),
    cells=cells,
    filters=filters,
    stem_filters=3 * filters,
  )


def darts(
  *,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
  cells: int = 6,
  filters: int = 36,
  version: int = 2,
) -> CellNetwork:
  """DARTS: Liu et al., ICLR 2019, table 1: 3.3M parameters (2.76 % error).

  3,349,342, as the released code counts. The paper's first version has 3.4M
  (2.83 %); the genotype released then, version=1, has 3.17M.

  Args:
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
    cells: number of normal cells in each of the three stages: 20 cells in all,
      with reductions.
    filters: width of the first stage.
    version: 1 or 2, of the released genotypes.

  Raises:
    ValueError: `version` is neither.
  """
  if version not in (1, 2):
    raise ValueError(f"version = {version!r}: expected 1 or 2")
  return cell_network(
    DARTS_V1 if version == 1 else DARTS_V2,
    Style(
      epsilon=1e-5,
      strided_skip="relu_reduce",
      raw_first=False,
      relu_head=False,
    ),
    (image_size, channels, classes),
    cells=cells,
    filters=filters,
    stem_filters=3 * filters,
  )
