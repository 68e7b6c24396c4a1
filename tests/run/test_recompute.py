"""`search.recompute`: what is asked for, and the rule."""

import jax
import pytest

from proxyless_jax.nn.networks.saved_bytes import saved_bytes
from proxyless_jax.run import recompute
from proxyless_jax.run.config.sections import ArchOptions, SearchOptions
from tests.spaces import small_space


@pytest.fixture(scope="module")
def space():
  return small_space(candidates=("mbconv2_k3", "mbconv3_k3", "zero"))


def test_what_is_asked_for_is_done(space):
  for asked in (True, False):
    search = SearchOptions(recompute=asked)
    assert recompute.recomputes(search, space, "float32") == asked


def test_maps_are_saved_where_they_have_room(space, monkeypatch):
  """By the larger of the parts that a device has in memory."""
  devices = jax.device_count()
  weights = dict(batch=8 * devices, grad_accum=2, paths=2)
  arch = ArchOptions(batch=6 * devices, grad_accum=2)
  search = SearchOptions(recompute="auto", arch=arch, **weights)
  needed = saved_bytes(space, 3, "float32")
  for room, expected in ((needed, False), (needed - 1, True)):
    monkeypatch.setattr(recompute, "_room", lambda room=room: room)
    assert recompute.recomputes(search, space, "float32") == expected


def test_the_memory_of_a_container_is_its_limit(tmp_path, monkeypatch):
  for text, limited in (("1000\n", True), ("max\n", False), (None, False)):
    path = tmp_path / str(text).strip()
    if text is not None:
      path.write_text(text)
    monkeypatch.setattr(recompute, "LIMIT", path)
    assert (recompute.host_memory() == 1000) == limited
