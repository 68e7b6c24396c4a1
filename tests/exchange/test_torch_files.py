"""Files of PyTorch: the released form, and what is refused."""

import argparse
import collections
import datetime
import types

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import proxyless_jax as pj

torch = pytest.importorskip("torch")

NETWORK = pj.tree_space(
  image_size=4, classes=3, stem_width=4, alpha=2, depths=(1,)
).choose(["sep_conv_3"] * 12)


class Runs:
  """Runs code of its own where a pickle is loaded without care."""

  def __reduce__(self):
    return print, ("ran",)


def test_a_written_file_is_read_back(tmp_path):
  variables = pj.init(pj.build(NETWORK), jax.random.key(0))
  state_dict = pj.to_torch(NETWORK, variables)
  pj.write_torch(tmp_path / "file.pth", state_dict)
  again = pj.read_torch(tmp_path / "file.pth")
  assert list(again) == list(state_dict)
  for name, array in again.items():
    assert array.dtype == state_dict[name].dtype
    assert_array_equal(array, state_dict[name])
  released = torch.load(tmp_path / "file.pth", weights_only=True)
  assert list(released) == ["state_dict"]


def test_home_folders(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  pj.write_torch("~/file.pth", {"a": np.float32([1.0, 2.0])})
  assert_array_equal(pj.read_torch("~/file.pth")["a"], [1.0, 2.0])
  with pytest.raises(ValueError, match=f"{tmp_path}/no.pth: expected a .pth"):
    pj.read_torch("~/no.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("outer", [True, False])
def test_forms_of_files(tmp_path, zipped, prefix, outer):
  data = collections.OrderedDict(
    {f"{prefix}a.weight": torch.ones(2, 3), f"{prefix}n": torch.tensor(7)}
  )
  data = {"epoch": 3, "state_dict": data} if outer else data
  path = tmp_path / "file.pth"
  torch.save(data, path, _use_new_zipfile_serialization=zipped)
  read = pj.read_torch(path)
  assert {n: a.tolist() for n, a in read.items()} == {
    "a.weight": [[1.0] * 3] * 2,
    "n": 7,
  }


def test_bfloat16_becomes_float32(tmp_path):
  torch.save({"a": torch.tensor([1.5], dtype=torch.bfloat16)}, tmp_path / "f")
  array = pj.read_torch(tmp_path / "f")["a"]
  assert array.dtype == np.float32 and array == [1.5]


def test_the_average_that_pytorch_saves_and_the_raw_weights(tmp_path):
  """As torchvision's references save them."""
  model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
  averaged = torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(model))
  averaged.update_parameters(torch.nn.DataParallel(model))
  with torch.no_grad():
    model[0].weight.zero_()
  data = {"model": model.state_dict(), "model_ema": averaged.state_dict()}
  torch.save(data, tmp_path / "both.pth")
  torch.save(averaged.state_dict(), tmp_path / "average.pth")
  average = pj.read_torch(tmp_path / "both.pth")
  assert set(average) == set(model.state_dict())
  assert average["0.weight"].all()
  raw = pj.read_torch(tmp_path / "both.pth", part="model")
  assert set(raw) == set(average) and not raw["0.weight"].any()
  again = pj.read_torch(tmp_path / "average.pth")
  assert_array_equal(again["0.weight"], average["0.weight"])


def test_weights_under_another_name_are_named(tmp_path):
  path = tmp_path / "file.pth"
  torch.save({"generator": {"a": torch.ones(2)}, "epoch": 3}, path)
  expected = r"got \['epoch', 'generator'\]: .* pass it as `part`"
  with pytest.raises(ValueError, match=expected):
    pj.read_torch(path)
  assert pj.read_torch(path, part="generator")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
  "state", [{"a": torch.ones(1), "b": Runs()}, {"a": torch.ones(1)}]
)
def test_other_objects_are_refused_and_never_run(
  tmp_path, capsys, zipped, state
):
  path = tmp_path / "file.pth"
  data = {"state_dict": state, "optimizer": Runs()}
  torch.save(data, path, _use_new_zipfile_serialization=zipped)
  with pytest.raises(
    ValueError, match=r"file\.pth: not a file of tens"
  ) as told:
    pj.read_torch(path)
  assert "ran" not in capsys.readouterr().out
  assert "print)" in str(told.value)
  # PyTorch's text is in colours, and advises to load without care.
  assert "weights_only" not in str(told.value)
  assert "\x1b" not in str(told.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_leaves_beside_the_weights_is_put_aside(tmp_path, zipped):
  path = tmp_path / "file.pth"
  data = {
    "state_dict": {"a": torch.ones(2)},
    "best_acc": np.float64(74.6),
    "epoch": np.int64(3),
    "done": np.True_,
    "losses": np.arange(5.0),
    "saved": datetime.datetime.now(),
    "took": datetime.timedelta(hours=1),
    "torch": torch.__version__,
    "options": types.SimpleNamespace(lr=0.1, day=datetime.date.today()),
    "args": argparse.Namespace(lr=0.1, seed=np.int32(1), out=path.parent),
  }
  torch.save(data, path, _use_new_zipfile_serialization=zipped)
  before = set(torch.serialization.get_safe_globals())
  assert pj.read_torch(path)["a"].tolist() == [1, 1]
  assert set(torch.serialization.get_safe_globals()) == before


def test_files_of_numpy_1_are_read(tmp_path):
  """It called its module numpy.core; the older form has no checksums."""
  path = tmp_path / "file.pth"
  data = {"state_dict": {"a": torch.ones(2)}, "best_acc": np.float64(74.6)}
  torch.save(data, path, _use_new_zipfile_serialization=False)
  content = path.read_bytes()
  assert b"numpy._core.multiarray" in content
  path.write_bytes(content.replace(b"numpy._core.m", b"numpy.core.m"))
  assert pj.read_torch(path)["a"].tolist() == [1, 1]


@pytest.mark.parametrize("data", [[1], {}, {"state_dict": 3}, {"a": [1.0]}])
def test_files_without_tensors_are_refused(tmp_path, data):
  torch.save(data, tmp_path / "file.pth")
  with pytest.raises(
    ValueError, match=r"file\.pth: expected names and tensors"
  ):
    pj.read_torch(tmp_path / "file.pth")


def saved(path, zipped=True):
  """The bytes of a file of a tensor of 100 ones, which is left there."""
  data = {"a": torch.ones(100)}
  torch.save(data, path, _use_new_zipfile_serialization=zipped)
  return path.read_bytes()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_cut_files_are_refused(tmp_path, zipped, part):
  path = tmp_path / "file.pth"
  whole = saved(path, zipped)
  path.write_bytes(whole[: int(part * len(whole))])
  with pytest.raises(ValueError, match=r"file\.pth: damaged.*: fetch it again"):
    pj.read_torch(path)


@pytest.mark.parametrize(
  "content", [b"hello", b"<!DOCTYPE html>\n", b"PK\x03\x04", b"\x80\x02}."]
)
def test_files_of_another_kind_are_refused(tmp_path, content):
  path = tmp_path / "file.pth"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"file\.pth: damaged, or not written"):
    pj.read_torch(path)


def test_a_flipped_bit_is_noticed(tmp_path):
  path = tmp_path / "file.pth"
  whole = bytearray(saved(path))
  numbers = torch.ones(100).numpy().tobytes()
  whole[whole.index(numbers) + 42] ^= 1
  path.write_bytes(whole)
  with pytest.raises(ValueError, match=r"file\.pth: damaged"):
    pj.read_torch(path)


@pytest.mark.parametrize("name", ["none.pth", ""])
def test_a_missing_file_is_named(tmp_path, name):
  path = tmp_path / name
  with pytest.raises(ValueError, match=f"^{path}: .*: correct the path"):
    pj.read_torch(path)


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
  path = tmp_path / "none" / "file.pth"
  with pytest.raises(ValueError, match=f"^{path}: .*{path.parent}, found none"):
    pj.write_torch(path, {"a": np.ones(2)})
  monkeypatch.chdir(tmp_path)
  pj.write_torch("file.pth", {"a": np.ones(2)})
  assert pj.read_torch("file.pth")["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
  "tensor",
  [torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64).conj()],
  ids=["sparse", "conjugated"],
)
def test_tensors_without_an_array_are_refused_by_name(tmp_path, tensor):
  path = tmp_path / "file.pth"
  torch.save({"a": torch.ones(2), "b.weight": tensor}, path)
  with pytest.raises(ValueError, match=r"file\.pth: b\.weight: expected dense"):
    pj.read_torch(path)
  state_dict = pj.to_torch(
    NETWORK, pj.init(pj.build(NETWORK), jax.random.key(0))
  )
  bias = torch.ones(3, dtype=tensor.dtype)
  bias = bias.to_sparse() if tensor.is_sparse else bias.conj()
  state_dict["classifier.linear.bias"] = bias
  with pytest.raises(ValueError, match=r"^classifier\.linear\.bias: expected"):
    pj.from_torch(NETWORK, state_dict)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_are_taken_as_tensors_are(dtype):
  variables = pj.init(pj.build(NETWORK), jax.random.key(0))
  tensors = {
    name: torch.from_numpy(array).to(dtype)
    for name, array in pj.to_torch(NETWORK, variables).items()
  }
  parameters = {
    name: torch.nn.Parameter(tensor) if tensor.ndim else tensor
    for name, tensor in tensors.items()
  }
  jax.tree.map(
    assert_array_equal,
    pj.from_torch(NETWORK, parameters),
    pj.from_torch(NETWORK, tensors),
  )


def test_old_versions_are_not_trusted(monkeypatch, tmp_path):
  saved(tmp_path / "file.pth")
  monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
  with pytest.raises(ImportError, match=r"expected 2\.6 or newer"):
    pj.read_torch(tmp_path / "file.pth")
