"""Quantities in the unit of a table, and what is none."""

import numpy as np
import pytest

from proxyless_jax.hardware import (
  other_scales,
  parse_quantity,
  split_quantity,
)


@pytest.mark.parametrize(
  ("text", "unit", "value"),
  [
    ("40 M MACs", "MACs", 40e6),
    ("40M", "MACs", 40e6),
    ("40MMACs", "MACs", 40e6),
    ("40 MACs", "MACs", 40.0),
    ("40 m", "m", 40.0),
    (" 0.5  G  macs ", "MACs", 5e8),
    ("3.2e6", "parameters", 3.2e6),
    ("3.2E+6 parameters", "parameters", 3.2e6),
    ("1e-3", "ms", 1e-3),
    ("5k", "parameters", 5e3),
    ("5 K", "parameters", 5e3),
    ("2.5 B", "parameters", 2.5e9),
    ("80 ms", "ms", 80.0),
    ("80ms", "ms", 80.0),
    (".5 ms", "ms", 0.5),
    ("7. mJ", "mJ", 7.0),
    ("3 MB", "MB", 3.0),
    ("0.02 s", "ms", 20.0),
    ("20 ms", "s", 0.02),
    ("1500us", "ms", 1.5),
    ("3 \u00b5s", "us", 3.0),
    ("3 \u03bcs", "ms", 3e-3),
    ("3 us", "\u03bcs", 3.0),
    ("3 \u03bcW", "\u00b5W", 3.0),
    ("2 J", "mJ", 2000.0),
    ("1.5 MB", "bytes", 1.5e6),
    ("1.5 MiB", "bytes", 1.5 * 2**20),
    ("64 KiB", "kB", 65.536),
    ("700 B", "bytes", 700.0),
    ("2 GB", "MB", 2000.0),
    ("1 (a+b)", "(a+b)", 1.0),
    (80, "ms", 80.0),
    (4e16, "MACs", 4e16),
    (np.float32(2.5), "ms", 2.5),
  ],
)
def test_quantities(text, unit, value):
  assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
  ("text", "unit"),
  [
    ("", "ms"),
    ("ms", "ms"),
    ("0", "ms"),
    ("-80", "ms"),
    ("80 S", "ms"),
    ("80 Ms", "ms"),
    ("80 MJ", "mJ"),
    ("80 M", "ms"),
    ("80 mb", "bytes"),
    ("80 ms", "bytes"),
    ("80 ms", "MACs"),
    ("40 M MACs", "ms"),
    ("40 T", "MACs"),
    ("40 MM", "MACs"),
    ("1.2.3", "ms"),
    (".", "ms"),
    ("1e999", "ms"),
    ("nan", "ms"),
    ("inf", "ms"),
    ("40,000", "MACs"),
    ("8 0", "ms"),
    (None, "ms"),
    (True, "ms"),
  ],
)
def test_invalid_quantities(text, unit):
  with pytest.raises(ValueError, match=f"expected a positive number of {unit}"):
    parse_quantity(text, unit)


def test_the_error_says_which_units_there_are():
  with pytest.raises(ValueError, match="'20 ms', in one of s, ms, us, µs"):
    parse_quantity("20 MACs", "ms")
  match = "such as '40 M MACs', in k, M or G: '{}' is none of these, and costs"
  for other in ("ms", "seconds", "M parameters"):
    with pytest.raises(ValueError, match=match.format(other)):
      parse_quantity(f"20 {other}", "MACs")
  with pytest.raises(ValueError, match=r"or G$"):
    parse_quantity("-5", "MACs")
  with pytest.raises(ValueError, match="reference = 'x': expected a positive"):
    parse_quantity("x", "MACs", field="reference")


def test_a_quantity_and_its_unit():
  assert split_quantity("20 ms") == (20.0, "ms")
  assert split_quantity("20 \u03bcJ") == (20.0, "\u00b5J")
  assert split_quantity(" 1.5e3 W h ") == (1500.0, "W h")
  for text in ("20", "ms", "0 ms", "-1 ms", ""):
    with pytest.raises(ValueError, match="a positive number and its unit"):
      split_quantity(text)


def test_what_a_number_may_have_meant():
  assert other_scales(40, "MACs")[2] == "40 M MACs"
  assert other_scales("40 G MACs", "MACs")[2] == "40 M MACs"
  assert "20 s" in other_scales("20 ms", "ms")
  assert other_scales("many", "ms") == []
