"""Compiling the kernels: when, where to, and what happens without them."""

import os
import shutil
import subprocess
import warnings

import jax
import jax.numpy as jnp
import pytest

from proxyless_jax.nn import cpu_kernels
from proxyless_jax.nn.cpu_kernels import build
from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.depthwise import depthwise_conv

uncached = build.available.__wrapped__


@pytest.fixture
def compiler(tmp_path, monkeypatch):
  """A compiler that writes an empty file, and the list of its calls."""
  log, script = tmp_path / "calls", tmp_path / "compiler"
  log.touch()
  script.write_text(
    f'#!/bin/sh\necho "$@" >> {log}\n'
    'while [ "$1" != "-o" ]; do [ $# -gt 0 ] || exit 0; shift; done\n'
    ': > "$2"\n'
  )
  script.chmod(0o755)
  monkeypatch.setenv("CXX", str(script))
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

  def compiled():
    return [line for line in log.read_text().splitlines() if "-o" in line]

  return compiled


def test_compiled_once(compiler, tmp_path):
  path = build._library()
  assert path.parent == tmp_path / "cache" / "proxyless_jax"
  assert build._library() == path
  (call,) = compiler()
  assert "depthwise.cc" in call and "batch_norm.cc" in call
  assert [own.name for own in path.parent.iterdir()] == [path.name]


def test_other_sources_or_processors_are_compiled_anew(compiler, monkeypatch):
  first = build._library()
  monkeypatch.setattr(build, "_processor", lambda: "another one")
  assert build._library() != first
  assert len(compiler()) == 2


def test_a_compiler_with_options(compiler, monkeypatch):
  monkeypatch.setenv("CXX", f"{os.environ['CXX']} -DSOME='a b'")
  build._library()
  assert "-DSOME=a b" in compiler()[0]


def test_a_compiler_that_fails_is_not_the_last_to_be_tried(
  compiler, monkeypatch
):
  good = os.environ["CXX"]
  monkeypatch.delenv("CXX")
  monkeypatch.setattr(build, "COMPILERS", ("no-such-one", "false", good))
  assert build._library().exists()


def test_a_damaged_library_is_made_anew(compiler, monkeypatch):
  build._library()
  loaded = []

  def load(path):
    loaded.append(path)
    if len(loaded) == 1:
      raise OSError("file too short")
    return path

  monkeypatch.setattr(build.ctypes, "CDLL", load)
  assert build._loaded() == loaded[1] == loaded[0]
  assert len(compiler()) == 2


@pytest.mark.parametrize("home", ["relative", ""])
def test_no_folder_in_the_working_directory(
  compiler, tmp_path, monkeypatch, home
):
  monkeypatch.setenv("XDG_CACHE_HOME", home)
  monkeypatch.setattr(os.path, "expanduser", lambda path: path)
  monkeypatch.chdir(tmp_path)
  build._library()
  assert not (tmp_path / "relative").exists() and not (tmp_path / "~").exists()


def test_without_a_place_to_keep_it(compiler, tmp_path, monkeypatch):
  (tmp_path / "file").touch()
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  assert build._library().exists()


@pytest.mark.parametrize(
  "name, reason",
  [
    ("no-such-compiler", "looked for"),
    ("false", "exit status"),
    ("g++ '", "No closing quotation"),
  ],
)
def test_without_a_compiler_a_warning_says_what_to_do(
  name, reason, tmp_path, monkeypatch
):
  monkeypatch.setenv("CXX", name)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  with pytest.warns(RuntimeWarning, match="(?s)" + reason + ".*g\\+\\+"):
    assert not uncached()
  assert not list(tmp_path.rglob("*.so"))


def test_sources_that_do_not_compile(tmp_path, monkeypatch):
  sources = tmp_path / "sources"
  sources.mkdir()
  (sources / "wrong.cc").write_text("int f( {")
  monkeypatch.setattr(build, "FOLDER", sources)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  if not any(shutil.which(name) for name in build.COMPILERS):
    pytest.skip("no C++ compiler")
  with pytest.warns(RuntimeWarning, match=r"wrong\.cc"):
    assert not uncached()
  assert not list((tmp_path / "cache").rglob("*.so"))


def test_turned_off(monkeypatch):
  monkeypatch.setenv(build.SWITCH, "0")
  monkeypatch.setattr(
    subprocess, "run", lambda *args, **_: pytest.fail("nothing to compile")
  )
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert not uncached()


def test_layers_without_kernels():
  """The same numbers, but for rounding."""
  x = jax.random.normal(jax.random.key(0), (2, 9, 9, 20))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 20))
  norm = BatchNorm("relu6")
  variables = norm.init(jax.random.key(2), x, True)

  def loss(x, kernel, params):
    own = {**variables, "params": params}
    y = depthwise_conv(x, kernel, 2, train=True)
    y, _ = norm.apply(own, y, True, mutable=["batch_stats"])
    return jnp.sum(y**2)

  run = jax.jit(lambda *args: jax.grad(loss, (0, 1, 2))(*args))

  def gradients():
    args = x, kernel, variables["params"]
    return run(*args), "proxyless_jax" in run.lower(*args).as_text()

  here, calls_kernels = gradients()
  assert calls_kernels == cpu_kernels.available()
  # The same function, which is traced anew.
  with cpu_kernels.enabled(False):
    without, calls_kernels = gradients()
  assert not calls_kernels
  for got, want in zip(jax.tree.leaves(here), jax.tree.leaves(without)):
    tolerance = 1e-4 * float(jnp.abs(want).max())
    assert jnp.allclose(got, want, rtol=1e-4, atol=tolerance)
