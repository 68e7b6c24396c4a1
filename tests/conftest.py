"""What tests of several rooms share: compiled programs.

A run of the tests has one folder of compiled programs, for all workers and all
processes that tests start: what one has compiled, the others load. To keep the
folder from run to run, set JAX_COMPILATION_CACHE_DIR.
"""

import os
import shutil
import tempfile

import jax
import pytest

FOLDER = "JAX_COMPILATION_CACHE_DIR"
# Every program is kept: JAX's default is those that took a second.
SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
# Those of minutes, by themselves.
LONG_FILES = (
  *("test_eight_devices.py", "test_recipes.py", "test_hosts.py"),
  "test_notebooks.py",
)


def pytest_configure(config):
  # Workers, and processes that tests start, get the environment from here.
  if FOLDER not in os.environ:
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="proxyless_jax_compiled_")
    config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FOLDER)))
  os.environ.setdefault(SECONDS, "0")
  # JAX has read its environment before.
  jax.config.update(FOLDER.lower(), os.environ[FOLDER])
  jax.config.update(SECONDS.lower(), float(os.environ[SECONDS]))


def pytest_collection_modifyitems(items):
  # A file is one worker's, in this order: begun last, one of these would keep
  # the others waiting.
  items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.fixture
def quick_compilation():
  """Compiles without most of XLA's optimizations.

  For tests where compiling takes longer than computing, and rounding, memory
  and programs do not matter.
  """
  yield from _without_optimizations()


@pytest.fixture(scope="module")
def quick_compilation_of_module():
  """`quick_compilation` for all tests of a file, its fixtures included."""
  yield from _without_optimizations()


def _without_optimizations():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
