"""Counts of operations against loops over shapes; names; what they refuse."""

import itertools
import math
from fractions import Fraction

import pytest

from proxyless_jax.space import (
  Classifier,
  ConvBN,
  Edge,
  Identity,
  MBConv,
  Op,
  Zero,
  parse_op,
)
from proxyless_jax.space.ops import names


def _edge(op, features_in=3, features_out=5, stride=1, size=4, **fields):
  return Edge("edge", (op,), features_in, features_out, stride, size, **fields)


def _outputs(size, kernel, stride):
  """Window positions over an input padded by kernel // 2 on each side."""
  padded = size + 2 * (kernel // 2)
  return len(range(0, padded - kernel + 1, stride))


def _conv(size, kernel, stride, inputs, outputs, groups=1):
  """Weights and multiply-accumulates of one convolution, one at a time."""
  positions = [_outputs(side, kernel, stride) for side in size]
  shape = (
    range(kernel),
    range(kernel),
    range(inputs // groups),
    range(outputs),
  )
  weights = sum(1 for _ in itertools.product(*shape))
  count = 0
  for _ in itertools.product(*map(range, positions)):
    count += weights
  return weights, count, positions


def _mbconv(op, edge):
  hidden = int(op.expand * edge.features_in)
  convs = [
    (1, 1, edge.features_in, hidden, 1),
    (op.kernel, edge.stride, hidden, hidden, hidden),
    (1, 1, hidden, edge.features_out, 1),
  ]
  parameters, count, size = 0, 0, edge.shape_in[:2]
  for kernel, stride, inputs, outputs, groups in convs[op.expand == 1 :]:
    weights, here, size = _conv(size, kernel, stride, inputs, outputs, groups)
    scale_and_bias = 2 * outputs
    parameters += weights + scale_and_bias
    count += here
  return parameters, count


@pytest.mark.parametrize("expand", [1, 2, 6, Fraction(5, 3), Fraction(1, 3)])
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize(
  ("stride", "size"), [(1, 4), (2, 4), (2, 5), (3, 7), (2, (5, 8))]
)
def test_mbconv_counts_are_those_of_loops(expand, kernel, stride, size):
  op = MBConv(expand, kernel)
  edge = _edge(op, stride=stride, size=size)
  assert (op.parameters(edge), op.macs(edge)) == _mbconv(op, edge)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (5, 2)])
def test_conv_counts_are_those_of_loops(kernel, stride):
  op = ConvBN(kernel)
  edge = _edge(op, stride=stride, size=9)
  weights, count, size = _conv((9, 9), kernel, stride, 3, 5)
  assert op.parameters(edge) == weights + 2 * 5
  assert op.macs(edge) == count
  assert [edge.size_out] * 2 == size


def test_counts_by_hand():
  edge = _edge(MBConv(6, 3), features_in=32, features_out=16, size=112)
  assert edge.op.parameters(edge) == 32 * 192 + 9 * 192 + 192 * 16 + 2 * 400
  assert edge.op.macs(edge) == 112**2 * (32 * 192 + 9 * 192 + 192 * 16)
  classifier = _edge(Classifier(), features_in=1280, features_out=1000, size=7)
  assert classifier.op.parameters(classifier) == 1_281_000
  assert classifier.op.macs(classifier) == 1_280_000
  dropped = _edge(Zero(), features_out=3, shortcut=True)
  assert dropped.op.parameters(dropped) == dropped.op.macs(dropped) == 0


def test_counts_are_python_integers_beyond_32_bits():
  edge = _edge(MBConv(6, 7), 2048, 2048, size=224)
  assert type(edge.op.macs(edge)) is int
  assert math.log2(edge.op.macs(edge)) > 40


@pytest.mark.parametrize(
  "op",
  [
    *(Zero(), Classifier(), ConvBN(1), MBConv(1, 3), MBConv(12, 11)),
    *(MBConv(Fraction(5, 2), 3), MBConv(Fraction(1, 2), 3, 4, "relu")),
  ],
)
def test_a_name_gives_its_operation(op):
  assert parse_op(op.name) == op
  assert hash(parse_op(op.name)) == hash(op)


def test_names():
  assert MBConv(6, 5).name == "mbconv6_k5"
  assert ConvBN(3).name == "conv_k3"
  assert MBConv(Fraction(8, 3), 7).name == "mbconv8over3_k7"


@pytest.mark.parametrize(
  "name", ["", "Zero", "mbconv_k3", "mbconv6_k3 ", "mbconv-6_k3", "conv3"]
)
def test_an_unknown_name_is_refused(name):
  with pytest.raises(ValueError, match="unknown operation") as error:
    parse_op(name)
  assert repr(name) in str(error.value)
  assert len(str(error.value)) < 200  # Not the whole grammar.


@pytest.mark.parametrize(
  ("name", "meant"),
  [
    ("MBConv6_k5", "mbconv6_k5"),
    ("mbcnv6_k5", "mbconv6_k5"),
    ("mbconv6k5", "mbconv6_k5"),
    ("zeros", "zero"),
    ("sep_conv_3x3", "sep_conv_3"),
    ("identty", "identity"),
    ("own_3", "own_k3"),
  ],
)
def test_the_nearest_name_is_suggested(name, meant):
  class Own(Identity):
    name = "own_k3"

  with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
    parse_op(name, ops=iter([Own()]))


def test_the_names_of_errors_are_names_of_operations():
  for name in names._examples("any3"):
    assert parse_op(name).name == name


@pytest.mark.parametrize("name", [None, 3, ["zero"]])
def test_a_name_is_text(name):
  with pytest.raises(ValueError, match="expected its name, as text"):
    parse_op(name)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: MBConv(0, 3), "expand = 0: expected a positive integer"),
    (lambda: MBConv(1.5, 3), "expand = 1.5: expected a positive integer"),
    (lambda: MBConv("6", 3), "expand = '6': expected a positive integer"),
    (lambda: MBConv(6, 4), "kernel = 4: expected an odd positive integer"),
    (lambda: MBConv(6, 3.0), "kernel = 3.0: expected an odd"),
    (lambda: ConvBN(-1), "kernel = -1: expected an odd positive integer"),
    (lambda: parse_op("mbconv0_k3"), "operation 'mbconv0_k3': expand = 0"),
    (lambda: parse_op("conv_k2"), "operation 'conv_k2': kernel = 2"),
    (lambda: MBConv(Fraction(3), 3), r"expand = Fraction\(3, 1\): expected"),
    (lambda: MBConv(True, 3), "expand = True: expected a positive integer"),
    (lambda: parse_op("mbconv6over4_k3"), "expand = 0"),
    (lambda: parse_op("mbconv6over0_k3"), "expand = 0"),
    (
      lambda: _edge(MBConv(Fraction(5, 2), 3), features_in=15),
      "'mbconv5over2_k3' has 5/2 times the 15 channels of its input",
    ),
  ],
)
def test_impossible_operations_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_zero_needs_a_shortcut():
  with pytest.raises(ValueError, match="'edge': 'zero' would cut"):
    _edge(Zero(), features_out=3)


@pytest.mark.parametrize(
  "fields", [{"stride": 2}, {"features_out": 3, "shortcut": True}]
)
def test_a_classifier_gives_no_image(fields):
  with pytest.raises(ValueError, match="'classifier' gives no image"):
    _edge(Classifier(), **fields)


def test_an_operation_says_what_it_counts():
  class Nameless(Op):
    pass

  with pytest.raises(TypeError, match="abstract"):
    Nameless()
