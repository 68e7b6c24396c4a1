"""The ImageNet space: its blocks and widths, and parts that do not fit."""

import dataclasses
import math
import re

import pytest

from proxyless_jax.space import MBConv, Zero, macs, mobile_space, parameters
from proxyless_jax.space.spaces.mobile import CANDIDATES, round_width


def test_the_space_of_the_paper():
  space = mobile_space()
  assert len(space.edges) == 21
  counts = [len(edge.ops) for edge in space.edges]
  assert (counts.count(6), counts.count(7)) == (6, 15)
  assert 10**space.log10_size == pytest.approx(6**6 * 7**15)
  assert 10**space.log10_size == pytest.approx(2.2e17, rel=0.02)
  widths = [edge.features_out for edge in space.edges]
  assert widths[::4] == [24, 40, 80, 96, 192, 320]
  assert widths[3::4] == [24, 40, 80, 96, 192]
  sizes = [edge.size_out for edge in space.edges]
  assert sizes == [56] * 4 + [28] * 4 + [14] * 8 + [7] * 5
  assert [edge.name for edge in space.before] == ["stem", "block00"]
  assert space.before[1].op == MBConv(1, 3)
  assert [edge.features_out for edge in space.before] == [32, 16]
  assert [edge.features_out for edge in space.after] == [1280, 1000]


def test_zero_is_a_candidate_where_a_shortcut_is():
  for edge in mobile_space().edges:
    assert edge.shortcut == edge.keeps_shape == (Zero() in edge.ops)
    assert tuple(op.name for op in edge.ops) == CANDIDATES[: len(edge.ops)]


def test_the_largest_and_the_smallest_network():
  space = mobile_space()
  largest = space.choose(["mbconv6_k7"] * 21)
  names = ["zero" if edge.shortcut else "mbconv3_k3" for edge in space.edges]
  smallest = space.choose(names)
  assert parameters(smallest) < parameters(largest)
  assert macs(smallest) < macs(largest)


@pytest.mark.parametrize(
  ("width", "rounded"),
  [
    (1, 8),
    (8, 8),
    (8.8, 8),
    (8.9, 16),
    (11.9, 16),
    (12, 16),
    (17.7, 16),
    (17.8, 24),
    (20, 24),
    (32 * 1.4, 48),
    (16 * 1.4, 24),
    (24 * 1.4, 32),
    (40 * 1.4, 56),
    (80 * 1.4, 112),
    (96 * 1.4, 136),
    (192 * 1.4, 272),
    (320 * 1.4, 448),
    (1280 * 1.4, 1792),
  ],
)
def test_rounded_widths(width, rounded):
  assert round_width(width) == rounded


def test_widths_never_lose_over_a_tenth():
  for tenths in range(1, 5000):
    width = tenths / 10
    rounded = round_width(width)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * width
    nearest = max(8, math.floor(width / 8 + 0.5) * 8)
    assert rounded == nearest or (
      nearest < 0.9 * width and rounded == nearest + 8
    )


def test_the_head_grows_but_does_not_shrink():
  wide = mobile_space(width_mult=1.4)
  assert [e.features_out for e in wide.before] == [48, 24]
  assert wide.after[0].features_out == 1792
  narrow = mobile_space(width_mult=0.5)
  assert narrow.after[0].features_out == 1280
  assert narrow.edges[0].features_out == 16


def test_parts():
  space = mobile_space(
    image_size=9,
    channels=1,
    classes=4,
    stem_width=8,
    stem_stride=1,
    first_width=0,
    widths=(16, 24),
    depths=(1, 2),
    strides=(2, 1),
    candidates=("mbconv2_k3", MBConv(4, 5)),
    head_width=40,
  )
  assert (space.image_size, space.channels, space.classes) == (9, 1, 4)
  assert [edge.name for edge in space.before] == ["stem"]
  shapes = [(e.features_in, e.features_out, e.size) for e in space.edges]
  assert shapes == [(8, 16, 9), (16, 24, 5), (24, 24, 5)]
  assert all(e.ops == (MBConv(2, 3), MBConv(4, 5)) for e in space.edges)


def test_the_first_block_is_a_parameter():
  space = mobile_space(first_width=24, first_expand=3, first_kernel=5)
  assert space.before[1].op == MBConv(3, 5)
  assert space.edges[0].shortcut is False


def test_images_are_as_small_as_the_strides_allow():
  assert mobile_space(image_size=17).edges[-1].size == 1
  for image_size in (1, 16):
    message = f"image_size = {image_size}: expected at least 17 for the strides"
    with pytest.raises(ValueError, match=message):
      mobile_space(image_size=image_size)


@pytest.mark.parametrize(
  "strides", [(1,), (2,), (3, 1), (2, 3), (3, 2), (1, 4)]
)
@pytest.mark.parametrize("stem_stride", [1, 2, 3])
def test_the_smallest_image_is_exact(strides, stem_stride):
  parts = {"stem_stride": stem_stride, "strides": strides}
  parts |= {"widths": (8,) * len(strides), "depths": (1,) * len(strides)}
  for size in range(1, 30):
    sizes = [size]
    for stride in (stem_stride, *strides):
      sizes.append(math.ceil(sizes[-1] / stride))
    if all(n >= s for n, s in zip(sizes, (stem_stride, *strides))):
      break
  mobile_space(image_size=size, **parts)
  if size > 1:
    with pytest.raises(ValueError, match=f"expected at least {size} for"):
      mobile_space(image_size=size - 1, **parts)


@pytest.mark.parametrize(
  ("parts", "message"),
  [
    ({"widths": (8,)}, "widths = (8,), depths = (4, 4, 4, 4, 4, 1), strides"),
    ({"depths": (1, 1)}, "expected one entry per stage in each"),
    ({"strides": ()}, "expected one entry per stage in each"),
    (
      {"widths": (), "depths": (), "strides": ()},
      "expected one entry per stage in each",
    ),
    ({"widths": (8, 0, 8, 8, 8, 8)}, "widths[1] = 0: expected a positive"),
    ({"widths": (-8, 8, 8, 8, 8, 8)}, "widths[0] = -8: expected a positive"),
    ({"depths": (4, 4, 4, 4, 4, 0)}, "depths[5] = 0: expected a positive"),
    ({"strides": (2, 2, 0, 1, 1, 1)}, "strides[2] = 0: expected a positive"),
    ({"strides": (2, 2, 1.5, 1, 1, 1)}, "strides[2] = 1.5: expected a pos"),
    ({"width_mult": 0.0}, "width_mult = 0.0: expected a positive number"),
    ({"width_mult": -1}, "width_mult = -1: expected a positive number"),
    ({"width_mult": math.nan}, "width_mult = nan: expected a positive"),
    ({"width_mult": math.inf}, "width_mult = inf: expected a positive"),
    ({"image_size": 0}, "image_size = 0: expected a positive integer"),
    ({"image_size": (96,)}, "image_size = (96,): expected a positive integer"),
    ({"image_size": (96, -1)}, "image_size = (96, -1): expected a positive"),
    ({"image_size": (96, 16)}, "image_size = (96, 16): expected at least 17"),
    ({"image_size": 224.0}, "image_size = 224.0: expected a positive"),
    ({"channels": 0}, "channels = 0: expected a positive integer"),
    ({"classes": 0}, "classes = 0: expected a positive integer"),
    ({"classes": "10"}, "classes = '10': expected a positive integer"),
    ({"stem_width": -32}, "stem_width = -32: expected a positive integer"),
    ({"stem_stride": 0}, "stem_stride = 0: expected a positive integer"),
    ({"first_width": -16}, "first_width = -16: expected an integer of 0 or"),
    ({"first_width": None}, "first_width = None: expected an integer of 0 or"),
    ({"first_expand": 0}, "first_expand = 0: expected a positive integer"),
    ({"first_kernel": 2}, "first_kernel = 2: expected an odd positive integer"),
    (
      {"widths": 16},
      "widths = 16: expected a tuple of integers, one per stage",
    ),
    ({"depths": None}, "depths = None: expected a tuple of integers"),
    ({"strides": "22"}, "strides = '22': expected a tuple of integers"),
    ({"width_mult": "1"}, "width_mult = '1': expected a positive number"),
    ({"width_mult": None}, "width_mult = None: expected a positive number"),
    ({"head_width": 0}, "head_width = 0: expected a positive integer"),
    ({"candidates": ()}, "candidates = []: expected different operations"),
    ({"candidates": ("zero",)}, "candidates = ['zero']: expected different"),
    (
      {"candidates": ("mbconv3_k3", MBConv(3, 3))},
      "candidates = ['mbconv3_k3', 'mbconv3_k3']: expected different",
    ),
    ({"candidates": "zero"}, "candidates = 'zero': expected a tuple of names"),
    ({"candidates": None}, "candidates = None: expected a tuple of names"),
    ({"candidates": 3}, "candidates = 3: expected a tuple of names"),
    ({"candidates": Zero()}, "candidates = Zero(): expected a tuple of names"),
    (
      {"candidates": ("mbconv3_k3", "zeros")},
      "candidates[1]: unknown operation 'zeros': expected a name such as",
    ),
    (
      {"candidates": ("mbconv3_k4",)},
      "candidates[0]: operation 'mbconv3_k4': kernel = 4: expected an odd",
    ),
    ({"candidates": (3,)}, "candidates[0]: operation 3: expected its name"),
  ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    mobile_space(**parts)


def test_an_operation_of_your_own_is_a_candidate():
  @dataclasses.dataclass(frozen=True)
  class Shift(MBConv):
    @property
    def name(self):
      return f"shift{self.expand}_k{self.kernel}"

    def macs(self, edge):
      return 7

  space = mobile_space(candidates=("mbconv3_k3", Shift(3, 3), "zero"))
  names = [op.name for op in space.edges[1].ops]
  assert names == ["mbconv3_k3", "shift3_k3", "zero"]
  none = macs(space.choose(["shift3_k3"] * 21))
  fixed = sum(e.op.macs(e) for e in (*space.before, *space.after))
  assert none == fixed + 7 * 21
