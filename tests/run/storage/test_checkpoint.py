import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import warnings

import flax.struct
import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from proxyless_jax.run.storage.checkpoint import Checkpoints

# Orbax leaves futures behind when a file turns out to be damaged.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@flax.struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt_state: tuple
  key: jax.Array


def make_state(size=(3, 5)):
  return State(
    step=jnp.zeros((), jnp.int32),
    params={
      "conv/a.b": {"kernel": jnp.arange(15.0).reshape(size)},
      "half": jnp.ones((4,), jnp.bfloat16),
      "none": jnp.zeros((0, 2)),
    },
    opt_state=(None, {"count": jnp.zeros((), jnp.uint32)}, ()),
    key=jax.random.key(7),
  )


def step_of(state):
  params = jax.tree.map(lambda x: x + 1, state.params)
  return state.replace(
    step=state.step + 1,
    params=params,
    key=jax.random.fold_in(state.key, state.step),
  )


donating_step = jax.jit(step_of, donate_argnums=0)


def state_at(step, size=(3, 5)):
  state = make_state(size)
  for _ in range(step):
    state = step_of(state)
  return state


def stream(factor=1):
  return iter(
    grain.MapDataset.range(10**6).map(lambda x: x * factor).to_iter_dataset()
  )


def streams():
  return {"weights": stream(), "arch": stream(10)}


def advance(iterators, count):
  for _ in range(count):
    for iterator in iterators.values():
      next(iterator)


def assert_same(state, expected):
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
    assert a.dtype == b.dtype
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def assert_restores(directory, step):
  """Restores in a new manager, with iterators that are elsewhere."""
  iterators = streams()
  advance(iterators, 3)
  with Checkpoints(directory, keep=3) as checkpoints:
    found, state = checkpoints.restore(make_state(), iterators)
  assert found == step
  assert_same(state, state_at(step))
  assert next(iterators["weights"]) == 2 * step
  assert next(iterators["arch"]) == 20 * step


def write(directory, steps, keep=3):
  """Runs a loop in small that saves at `steps`, and moves on at once."""
  state, iterators, done = make_state(), streams(), 0
  with Checkpoints(directory, keep=keep) as checkpoints:
    for step in steps:
      while done < step:
        state, done = donating_step(state), done + 1
        advance(iterators, 2)
      checkpoints.save(step, state, iterators)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """A folder with the checkpoints of steps 2 and 4; not to be changed."""
  directory = tmp_path_factory.mktemp("written") / "checkpoints"
  write(directory, [2, 4])
  return directory


@pytest.fixture
def directory(written, tmp_path):
  shutil.copytree(written, tmp_path / "checkpoints")
  return tmp_path / "checkpoints"


def test_round_trip(directory):
  assert_restores(directory, 4)


# Orbax looks for its files by globs; one saved nothing of the arrays.
@pytest.mark.parametrize(
  "name", ["[run]", "[!x] *?{a,b}", "ü 'a' $HOME", "gs~", "s3:", "a\nb"]
)
def test_any_name_of_a_folder(tmp_path, name):
  write(tmp_path / name, [2, 4])
  assert_restores(tmp_path / name, 4)


def test_a_folder_that_is_a_pattern_of_another(tmp_path):
  for name, steps in (("run1", [2]), ("run?", [1])):
    write(tmp_path / name, steps)
    assert_restores(tmp_path / name, *steps)


def test_what_cannot_be_read_back_stops_the_run(tmp_path):
  # TensorStore takes a backslash for a slash, and Orbax saves nothing then.
  state, iterators = make_state(), streams()
  with Checkpoints(tmp_path / "a\\b", keep=2) as checkpoints:
    checkpoints.save(1, state, iterators)
    with pytest.raises(OSError, match=r"step 1 in .* cannot be read back"):
      checkpoints.save(2, state, iterators)


def test_nothing_to_restore(tmp_path):
  with Checkpoints(tmp_path / "new", keep=1) as checkpoints:
    assert checkpoints.steps() == []
    assert checkpoints.restore(make_state(), streams()) is None


def test_keeps_the_newest(tmp_path):
  write(tmp_path, [1, 2, 3, 5], keep=2)
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.steps() == [3, 5]
  assert_restores(tmp_path, 5)


def test_donated_buffers_and_iterators_that_move_on(tmp_path):
  # Large enough that writing is still under way when the steps overwrite it.
  size, steps = (1 << 20,), 6
  state = {"a": jnp.zeros(size), "b": jnp.zeros(size), "step": jnp.int32(0)}
  step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  iterator = {"data": stream()}
  with Checkpoints(tmp_path, keep=steps) as checkpoints:
    for i in range(steps):
      checkpoints.save(i, state, iterator)
      assert next(iterator["data"]) == i
      for _ in range(10):
        state = step(state)
    checkpoints.wait()
    for i in reversed(range(steps)):
      found, restored = checkpoints.restore(state, iterator)
      assert found == i
      for leaf in jax.tree.leaves(restored):
        np.testing.assert_array_equal(np.asarray(leaf), 10 * i)
      assert next(iterator["data"]) == i
      # What is restored can be donated too.
      for leaf in jax.tree.leaves(step(restored)):
        np.testing.assert_array_equal(np.asarray(leaf), 10 * i + 1)
      shutil.rmtree(tmp_path / str(i))
      checkpoints._manager.reload()


def test_numpy_leaves_may_change_after_the_call(tmp_path):
  state = {"a": np.zeros(1 << 20, np.float32)}
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(0, state, {})
    state["a"] += 1
    _, restored = checkpoints.restore(state, {})
  np.testing.assert_array_equal(restored["a"], 0)


def test_restores_to_the_shardings_of_state_like(directory):
  mesh = Mesh(np.array(jax.devices()), ("data",))
  replicated = NamedSharding(mesh, PartitionSpec())
  like = jax.device_put(make_state(), replicated)
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
  )
  for asked in (like, abstract):
    with Checkpoints(directory, keep=3) as checkpoints:
      _, state = checkpoints.restore(asked, streams())
    assert_same(state, state_at(4))
    for leaf in jax.tree.leaves(state):
      assert leaf.sharding.is_equivalent_to(replicated, leaf.ndim)


def test_is_as_committed_to_a_device_as_asked(tmp_path):
  # Metrics begin as zeros anywhere, and then go with arrays on a mesh.
  free = jnp.zeros(())
  state = {"free": free, "held": jax.device_put(free, jax.devices()[0])}
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(0, state, {})
    _, restored = checkpoints.restore(state, {})
  assert not restored["free"].committed and restored["held"].committed


def test_key_of_another_kind(tmp_path):
  state = {"key": jax.random.split(jax.random.key(1, impl="rbg"), 2)}
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(0, state, {})
    assert_same(checkpoints.restore(state, {})[1], state)
    with pytest.raises(ValueError, match=r"key<rbg>\[2\] saved, key<fry>\[2\]"):
      checkpoints.restore({"key": jax.random.split(jax.random.key(1), 2)}, {})


def flip(path):
  """Flips a bit in the middle."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(bytes(content))


def truncate(path):
  os.truncate(path, path.stat().st_size // 2)


def remove(path):
  shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
  "pattern, damages",
  [
    ("state/d/*", (flip, truncate, remove)),
    ("state/manifest.ocdbt", (flip, truncate, remove)),
    ("state/_METADATA", (flip, truncate)),
    ("manifest/metadata", (flip, truncate, remove)),
    ("state", (remove,)),
    ("manifest", (remove,)),
  ],
)
def test_falls_back_from_a_damaged_file(written, tmp_path, pattern, damages):
  for damage in damages:
    directory = tmp_path / damage.__name__
    shutil.copytree(written, directory)
    (path,) = (directory / "4").glob(pattern)
    damage(path)
    with pytest.warns(UserWarning, match=r"step 4 is damaged \(.*of step 2;"):
      assert_restores(directory, 2)
    # The step can be saved again, and is then the one that is restored.
    assert (directory / "4.damaged").is_dir()
    with Checkpoints(directory, keep=3) as checkpoints:
      assert checkpoints.steps() == [2]
    write(directory, [4])
    assert_restores(directory, 4)


def test_files_that_restoring_does_not_need(written, tmp_path):
  for pattern in ("_CHECKPOINT_METADATA", "commit_success.txt"):
    for damage in (flip, truncate, remove):
      directory = tmp_path / (pattern + damage.__name__)
      shutil.copytree(written, directory)
      for path in (directory / "4").rglob(pattern):
        damage(path)
      assert_restores(directory, 4)


def test_what_others_left_in_the_folder(directory, capfd):
  (directory / "notes").mkdir()
  (directory / "12abc").mkdir()
  (directory / "readme.txt").write_text("mine")
  (directory / "9").write_text("a file")
  assert_restores(directory, 4)
  # A folder that is called as a step is.
  (directory / "7").mkdir()
  (directory / "7" / "photo.jpg").write_text("")
  with pytest.warns(UserWarning, match=r"step 7 is damaged \(.*no manifest\)"):
    assert_restores(directory, 4)
  assert (directory / "7.damaged" / "photo.jpg").is_file()
  for name in ("notes", "12abc", "readme.txt", "9"):
    assert (directory / name).exists()
  assert "Metadata" not in capfd.readouterr().err  # Nothing of Orbax's own.


def test_bit_flips_in_arrays(tmp_path):
  # Random, so that it is stored nearly as it is, and as a file of its own.
  rng = np.random.default_rng(0)
  state = {"a": jnp.asarray(rng.normal(size=5000), jnp.float32)}
  whole = tmp_path / "whole"
  with Checkpoints(whole, keep=2) as checkpoints:
    for step in (0, 1):
      checkpoints.save(step, state, {})
  messages = []
  for part in range(1, 5):
    directory = tmp_path / str(part)
    shutil.copytree(whole, directory)
    files = [p for p in (directory / "1/state").rglob("*") if p.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) * part // 5] ^= 1
    path.write_bytes(bytes(content))
    with (
      Checkpoints(directory, keep=2) as checkpoints,
      pytest.warns(UserWarning, match="step 1 is damaged") as caught,
    ):
      step, restored = checkpoints.restore(state, {})
    assert step == 0
    assert_same(restored, state)
    messages.append(str(caught[0].message))
  # Else Orbax has learnt to notice by itself, and the checksums can go.
  assert any("the checksum of ['a'] is wrong" in text for text in messages)


def test_several_damaged(tmp_path):
  write(tmp_path, [2, 3, 4])
  remove(tmp_path / "4" / "manifest")
  remove(tmp_path / "3" / "state")
  with pytest.warns(UserWarning) as caught:
    assert_restores(tmp_path, 2)
  steps = [str(warning.message).split()[4] for warning in caught]
  assert steps == ["4", "3"]


def test_all_damaged_is_an_error_every_time(directory):
  for step in ("2", "4"):
    remove(directory / step / "state")
  for _ in range(2):
    with (
      Checkpoints(directory, keep=3) as checkpoints,
      pytest.raises(OSError, match=f"checkpoint in {directory} is damaged .s"),
    ):
      checkpoints.restore(make_state(), streams())


@pytest.mark.parametrize(
  "change, message",
  [
    (
      lambda s: s.replace(step=jnp.zeros((), jnp.float32)),
      r"state.step: int32\[\] saved, float32\[\] asked for",
    ),
    (
      lambda s: s.replace(params={**s.params, "half": jnp.ones((5,))}),
      r"half'\]: bfloat16\[4\] saved, float32\[5\] asked",
    ),
    (
      lambda s: s.replace(params={"new": jnp.ones(1)}),
      r"half'\]: bfloat16\[4\] saved, nothing asked for; .*new'\]: nothing",
    ),
    (
      lambda s: s.replace(params={str(i): jnp.ones(1) for i in range(20)}),
      r"; and 15 more; use another folder",
    ),
  ],
)
def test_another_structure_is_an_error(directory, change, message):
  with (
    Checkpoints(directory, keep=3) as checkpoints,
    pytest.raises(ValueError, match=message),
  ):
    checkpoints.restore(change(make_state()), streams())
  assert_restores(directory, 4)


def test_another_format_is_an_error(directory, monkeypatch):
  monkeypatch.setattr("proxyless_jax.run.storage.checkpoint.FORMAT", 4)
  with (
    Checkpoints(directory, keep=3) as checkpoints,
    pytest.raises(
      ValueError, match=r"step 4 .* has format 3: expected 4; continue"
    ),
  ):
    checkpoints.restore(make_state(), streams())


def test_positions_that_json_does_not_hold(tmp_path):
  class Iterator:
    def get_state(self):
      return {"next_index": b"1"}

  with (
    Checkpoints(tmp_path, keep=1) as checkpoints,
    pytest.raises(TypeError, match="bytes is not JSON"),
  ):
    checkpoints.save(0, make_state(), {"data": Iterator()})


def test_any_number_of_devices(tmp_path):
  # Devices are simulated once a process.
  environment = {
    **os.environ,
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    "PYTHONPATH": os.getcwd(),
  }
  folder = str(pathlib.Path(__file__).parent)
  subprocess.run(
    [sys.executable, "-c", SHARDED, folder, tmp_path],
    env=environment,
    check=True,
    timeout=600,
  )
  # And here on one.
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    step, state = checkpoints.restore(make_state(), {})
  assert step == 6
  assert_same(state, state_at(6))


SHARDED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_checkpoint
test_checkpoint.save_sharded(sys.argv[2])
"""


def save_sharded(directory):
  """Takes steps on four devices, continues on two, and then on four again."""
  for count in (4, 2, 4):
    mesh = Mesh(np.array(jax.devices()[:count]), ("data",))
    whole = NamedSharding(mesh, PartitionSpec())
    parts = NamedSharding(mesh, PartitionSpec("data"))
    state = jax.device_put(make_state(), whole)
    state.params["half"] = jax.device_put(state.params["half"], parts)
    with Checkpoints(directory, keep=1) as checkpoints:
      step, state = checkpoints.restore(state, {}) or (0, state)
      assert_same(state, state_at(step))
      assert state.params["half"].sharding.is_equivalent_to(parts, 1)
      # What is restored is donated, from wherever it came.
      for _ in range(2):
        state, step = donating_step(state), step + 1
      checkpoints.save(step, state, {})


def test_other_iterators_are_an_error(directory):
  with (
    Checkpoints(directory, keep=3) as checkpoints,
    pytest.raises(ValueError, match=r"iterators: \['arch', 'weights'\] saved"),
  ):
    checkpoints.restore(make_state(), {"weights": stream()})


def test_errors(tmp_path):
  with pytest.raises(ValueError, match="keep = 0: expected"):
    Checkpoints(tmp_path, keep=0)
  (tmp_path / "file").write_text("")
  match = "file: expected a folder of checkpoints, got a file"
  with pytest.raises(FileExistsError, match=match):
    Checkpoints(tmp_path / "file", keep=1)
  with pytest.raises(NotADirectoryError, match="a file, or a path through one"):
    Checkpoints(tmp_path / "file" / "train", keep=1)
  with Checkpoints(tmp_path / "new", keep=1) as checkpoints:
    with pytest.raises(TypeError, match=r"state\['a'\] = 1: expected a JAX"):
      checkpoints.save(0, {"a": 1}, {})
    checkpoints.save(0, {"a": jnp.ones(1)}, {})
    with pytest.raises(ValueError, match="step 0 already exists"):
      checkpoints.save(0, {"a": jnp.ones(1)}, {})


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_checkpoint as t
state, iterators, step = t.make_state(), t.streams(), 0
with t.Checkpoints(sys.argv[2], keep=3) as checkpoints:
  found = checkpoints.restore(state, iterators)
  if found:
    step, state = found
  while True:
    state, step = t.donating_step(state), step + 1
    t.advance(iterators, 2)
    checkpoints.save(step, state, iterators)
    print(step, flush=True)
"""


def kill_during_a_write(process, folder):
  """Kills a process that writes checkpoints when one is half written."""
  end = time.monotonic() + 600
  while True:
    assert time.monotonic() < end and process.poll() is None
    if list(folder.glob("*tmp*")):
      process.send_signal(signal.SIGSTOP)
      os.waitpid(process.pid, os.WUNTRACED)
      # It may have ended the write before it stopped.
      if list(folder.glob("*tmp*")):
        return process.send_signal(signal.SIGKILL)
      process.send_signal(signal.SIGCONT)
    time.sleep(0.001)


def test_killed_during_a_write(tmp_path):
  folder, last = str(pathlib.Path(__file__).parent), 0
  for _ in range(3):
    with subprocess.Popen(
      [sys.executable, "-W", "error", "-c", KILLED, folder, tmp_path],
      stdout=subprocess.PIPE,
      text=True,
    ) as process:
      for _ in range(3):
        started = int(process.stdout.readline())
      kill_during_a_write(process, tmp_path)
    # Of the saves that had started, all but the last had ended.
    assert started - 1 > last
    assert list(tmp_path.glob("*tmp*"))
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      with Checkpoints(tmp_path, keep=3) as checkpoints:
        last = checkpoints.steps()[-1]
      assert last >= started - 1
      assert_restores(tmp_path, last)
    assert not list(tmp_path.glob("*tmp*"))


def test_reading_leaves_what_another_process_is_writing(directory):
  half = directory / "6.orbax-checkpoint-tmp"
  half.mkdir()
  with Checkpoints(directory, keep=1, writes=False) as checkpoints:
    assert checkpoints.steps() == [2, 4]
  assert half.exists() and (directory / "2").exists()
