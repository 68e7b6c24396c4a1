"""PyTorch's .pth files: reading and writing a state dict. Both need PyTorch.

A .pth file is a pickle, which could run code. PyTorch's safe loader accepts
only tensors and plain values; other objects that training leaves beside the
weights are ignored unread where they are known, and refused otherwise.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxyless_jax.exchange.containers import find_state_dict, outline
from proxyless_jax.exchange.torch import as_array

# Older versions could run code in spite of weights_only: CVE-2025-32434.
OLDEST = (2, 6)
# Start of the zipped form; the older form is pickles in a row, then numbers.
ZIP_START = b"PK\x03\x04"
PICKLES = 5
# The name of a refused object in the message of PyTorch's loader.
REFUSED = re.compile(r"GLOBAL ([\w.]+)")
# Objects that training often saves beside the weights; NumPy's have two names.
LEFTOVERS = (
  "argparse.Namespace",
  "types.SimpleNamespace",
  *(f"datetime.{kind}" for kind in ("date", "datetime", "timedelta")),
  "torch.torch_version.TorchVersion",  # torch.__version__ is one.
  "pathlib.PosixPath",
  "pathlib.WindowsPath",
  "pathlib._local.PosixPath",  # Python 3.13's name of it.
  "pathlib._local.WindowsPath",
  "numpy.dtype",
  "numpy.ndarray",
  *(
    f"numpy.{core}.multiarray.{function}"
    for core in ("core", "_core")
    for function in ("_reconstruct", "scalar")
  ),
)


class _Leftover:
  """Stands in for an object of `LEFTOVERS`, and keeps nothing of it.

  NumPy's own are not safe: a dtype takes any state from a file.
  """

  def __init__(self, *args: object) -> None:
    pass

  def __setstate__(self, state: object) -> None:
    pass


def read_torch(
  path: str | os.PathLike, part: str = ""
) -> dict[str, np.ndarray]:
  """The state dict in a .pth file, as arrays.

  Only tensors are loaded; other objects in the pickle are never run. The file
  has a bare state dict, or one under a usual name, such as `state_dict`,
  `model` or `net`. Prefixes of wrappers, such as `module.` and `_orig_mod.`,
  are dropped. Of raw and averaged weights the averaged ones are read, and a
  line is logged.

  Args:
    path: path of the file.
    part: name of the weights in the file, or names joined by dots, such as
      'state_dict' or 'state_dict.model'; '' for the usual names.

  Raises:
    ValueError: there is no such file or part, or the file is damaged, or has
      other contents, or a tensor without an equivalent in NumPy.
    ImportError: PyTorch is missing, or too old to be trusted with files.
  """
  where = _path(path)
  if not os.path.isfile(where):
    found = "a folder" if os.path.isdir(where) else "none"
    raise ValueError(
      f"{where}: expected a .pth file, found {found}: correct the path"
    )
  torch = _import_torch()
  _check_whole(where)
  data = _load(torch, where)
  is_dict = isinstance(data, Mapping)
  state_dict = find_state_dict(where, data, part) if is_dict else {}
  is_state = all(isinstance(v, torch.Tensor) for v in state_dict.values())
  if not is_state or not state_dict:
    got = outline(data) if is_dict else f"a {type(data).__name__}"
    raise ValueError(
      f"{where}: expected names and tensors, or {{'state_dict': ...}} with "
      f"them, got {got}: where they are under another name, pass it as `part`"
    )
  return {
    name: as_array(f"{where}: {name}", tensor)
    for name, tensor in state_dict.items()
  }


def write_torch(
  path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]
) -> None:
  """Writes a .pth file in the released form, {'state_dict': ...}.

  Args:
    path: path of the file.
    state_dict: arrays by name, such as `to_torch` returns.

  Raises:
    ValueError: the folder does not exist.
    ImportError: PyTorch is missing.
  """
  where = _path(path)
  folder = os.path.dirname(where) or "."
  if not os.path.isdir(folder):
    raise ValueError(
      f"{where}: expected a folder {folder}, found none: make it, or correct "
      "the path"
    )
  torch = _import_torch()
  # Copies: PyTorch warns about read-only arrays.
  tensors = {n: torch.from_numpy(np.array(a)) for n, a in state_dict.items()}
  torch.save({"state_dict": tensors}, where)


def _path(path: object) -> str:
  if not isinstance(path, str | os.PathLike):
    raise ValueError(
      f"path is a {type(path).__name__}: expected the path of a .pth file"
    )
  return os.path.expanduser(path)


def _import_torch() -> Any:
  advice = "pip install 'proxyless-jax[torch]'"
  try:
    import torch
  except ImportError as error:
    raise ImportError(f".pth files need PyTorch: {advice}") from error
  version = tuple(int(part) for part in torch.__version__.split(".")[:2])
  if version < OLDEST:
    raise ImportError(
      f"PyTorch {torch.__version__} can be made to run code by .pth files: "
      f"expected {'.'.join(map(str, OLDEST))} or newer: {advice}"
    )
  return torch


def _check_whole(path: str) -> None:
  """Raises a ValueError for a file that is cut, changed or no .pth at all.

  PyTorch ignores the checksums. The older form has none: changed numbers in it
  cannot be detected.
  """
  try:
    with open(path, "rb") as file:
      zipped = file.read(len(ZIP_START)) == ZIP_START
      file.seek(0)
      if not zipped:
        for _ in range(PICKLES):
          for _ in pickletools.genops(file):  # Parses; runs nothing.
            pass
        return
      with zipfile.ZipFile(file) as archive:
        changed = archive.testzip()
  except OSError:
    raise
  except Exception as error:  # A damaged file raises any type.
    raise _damaged(path) from error
  if changed:
    raise _damaged(path)


def _load(torch: Any, path: str) -> Any:
  leftovers = [(_Leftover, name) for name in LEFTOVERS]
  try:
    with torch.serialization.safe_globals(leftovers):
      return torch.load(path, map_location="cpu", weights_only=True)
  except OSError:
    raise
  # None of these keeps PyTorch's text, which advises loading without checks.
  except pickle.UnpicklingError as error:
    name = REFUSED.search(str(error))
    found = f" (it has {name[1]})" if name else ""
    raise ValueError(
      f"{path}: not a file of tensors and plain values alone{found}, so it was "
      "not loaded, since other objects could run code: save its state dict by "
      "itself with torch.save({'state_dict': model.state_dict()}, path)"
    ) from None
  except Exception:
    raise _damaged(path) from None


def _damaged(path: str) -> ValueError:
  return ValueError(
    f"{path}: damaged, or not written by torch.save: fetch it again"
  )
