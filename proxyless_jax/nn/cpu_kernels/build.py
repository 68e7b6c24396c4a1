"""Compiles the kernels for this very processor, and tells XLA of them.

The library is kept in `$XDG_CACHE_HOME/proxyless_jax`, by default
`~/.cache/proxyless_jax`, under a name that says what it was made of: another
version of the sources, of jaxlib or of the compiler, or another processor, has
one of its own.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings

import jax
import jaxlib

SWITCH = "PROXYLESS_JAX_CPU_KERNELS"
COMPILERS = ("g++", "clang++", "c++")
FLAGS = (
  "-std=c++17",
  "-O3",
  "-march=native",
  "-ffp-contract=fast",
  "-fPIC",
  "-shared",
  "-w",
)
FOLDER = pathlib.Path(__file__).resolve().parent
TARGETS = (
  "proxyless_jax_depthwise",
  "proxyless_jax_depthwise_input_gradient",
  "proxyless_jax_depthwise_kernel_gradient",
  "proxyless_jax_moments",
  "proxyless_jax_norm_depthwise",
  "proxyless_jax_norm_depthwise_kernel_gradient",
  "proxyless_jax_norm_gradient_sums",
  "proxyless_jax_norm_input_gradient",
  "proxyless_jax_normalise",
)

# Inside `with enabled(False)`, functions are traced without the kernels, such
# as a training step that is to be exported. A backward pass counts where it is
# traced.
enabled = jax.make_user_context(default_value=True)


@functools.cache
def available() -> bool:
  """Whether this process has the kernels; the first call may compile them.

  They are for processes whose default backend is the CPU. The environment
  variable PROXYLESS_JAX_CPU_KERNELS=0 turns them off; CXX names the compiler.
  Where none works a warning says why, and layers use XLA's own operations.
  """
  if os.environ.get(SWITCH) == "0" or jax.default_backend() != "cpu":
    return False
  try:
    library = _loaded()
  except (OSError, ValueError, subprocess.CalledProcessError) as error:
    reason = getattr(error, "stderr", None) or str(error)
    warnings.warn(
      "the kernels for CPUs could not be compiled or loaded, so training on "
      f"this CPU takes about twice as long: {reason.strip()[-2000:]}\n"
      "Install a C++ compiler, such as Debian's g++, or name one in CXX; or "
      f"set {SWITCH}=0 to do without.",
      RuntimeWarning,
      stacklevel=2,
    )
    return False
  for name in TARGETS:
    handler = jax.ffi.pycapsule(getattr(library, name))
    jax.ffi.register_ffi_target(name, handler, platform="cpu")
  return True


def _loaded() -> ctypes.CDLL:
  path = _library()
  try:
    return ctypes.CDLL(str(path))
  except OSError:  # Damaged, by a full disk for example.
    path.unlink()
    return ctypes.CDLL(str(_library()))


def _library() -> pathlib.Path:
  """The compiled kernels, from the cache if they are there.

  Raises:
    OSError: no compiler was found.
    CalledProcessError: none of those found can compile them.
  """
  problem: Exception = FileNotFoundError(
    f"no C++ compiler: looked for {', '.join(c[0] for c in _compilers())}"
  )
  for name, *options in _compilers():
    if found := shutil.which(name):
      try:
        return _compiled([found, *options, *FLAGS])
      except subprocess.CalledProcessError as error:
        problem = error
  raise problem


def _compilers() -> list[list[str]]:
  """The compilers to try, each with its options."""
  own = shlex.split(os.environ.get("CXX", ""))
  return [own] if own else [[name] for name in COMPILERS]


def _compiled(command: list[str]) -> pathlib.Path:
  """The library that a command makes of the sources."""
  command = [*command, "-I", jax.ffi.include_dir()]
  sources = sorted(FOLDER.glob("*.cc"))
  parts = [*sources, *sorted(FOLDER.glob("*.h"))]
  version = _run([command[0], "--version"])
  made_of = [*command, version, jaxlib.__version__, _processor()]
  made_of += [part.read_text(encoding="utf-8") for part in parts]
  name = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
  path = _folder() / f"kernels-{name}.so"
  if not path.exists():
    # Renamed when it is whole: another process may compile at the same time.
    handle, own = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
      _run([*command, *map(str, sources), "-o", own])
      os.chmod(own, 0o755)
      with open(own, "rb") as file:
        os.fsync(file.fileno())
      os.replace(own, path)
    finally:
      pathlib.Path(own).unlink(missing_ok=True)
  return path


def _run(command: list[str]) -> str:
  """What a command prints."""
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return done.stdout


def _processor() -> str:
  """What -march=native depends on."""
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:  # Not Linux.
    return platform.platform() + platform.processor()
  # The first processor's: its model, and the instructions that it has.
  lines = text.split("\n\n")[0].splitlines()
  kept = ("model name", "flags", "Features", "CPU")
  return "\n".join(line for line in lines if line.startswith(kept))


def _folder() -> pathlib.Path:
  """The cache, or a folder of this process where nothing can be written."""
  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  folder = pathlib.Path(home) / "proxyless_jax"
  try:
    if not folder.is_absolute():
      raise OSError(f"{folder}: of a user without a home")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      return folder
  except OSError:
    own = tempfile.mkdtemp(prefix="proxyless_jax")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return pathlib.Path(own)
