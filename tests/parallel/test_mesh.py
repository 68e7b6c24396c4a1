"""Devices that a run asks for."""

import jax
import pytest

from proxyless_jax.parallel.mesh import check_devices


@pytest.mark.parametrize(
  "error, message",
  [
    (AssertionError(), "JAX_PLATFORMS = 'cuda': .*, found none: install"),
    (
      RuntimeError("Unable to initialize backend 'tpu': no libtpu\nmore"),
      r"found none \(Unable to initialize backend 'tpu': no libtpu\): install",
    ),
  ],
)
def test_missing_devices(monkeypatch, error, message):
  def devices():
    raise error

  monkeypatch.setattr(jax, "devices", devices)
  before = jax.config.jax_platforms
  jax.config.update("jax_platforms", "cuda")
  try:
    with pytest.raises(ValueError, match=message):
      check_devices()
    jax.config.update("jax_platforms", "")  # Then it is not the user's choice.
    with pytest.raises(type(error)):
      check_devices()
  finally:
    jax.config.update("jax_platforms", before)
