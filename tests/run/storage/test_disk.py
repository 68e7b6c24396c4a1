"""What a workdir that cannot be written makes a run say, and what is kept."""

import errno
import subprocess
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from proxyless_jax.run.config.options import RunOptions
from proxyless_jax.run.loop import Stage, run_stage
from proxyless_jax.run.storage.disk import explained
from proxyless_jax.training.metrics import Mean

# Orbax leaves futures behind when a write fails.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)
OPTIONS = RunOptions(log_every=2, checkpoint_every=2, keep=2, shard_state=False)


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 2 MB, where a test may mount one."""
  folder = tmp_path / "disk"
  folder.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
  try:
    subprocess.run(command, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("a file system cannot be mounted here")
  yield folder
  subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder, options, check=True):
  """Whether a file system could be given other options."""
  command = ["mount", "-o", f"remount,{options}", folder]
  done = subprocess.run(command, check=check, capture_output=not check)
  return done.returncode == 0


def wait_until(condition):
  end = time.monotonic() + 600
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


def make_stage(before_step=lambda step: None):
  """Its checkpoint takes 0.7 MB, and no two are alike."""

  @jax.jit
  def step_of(key):
    key, sub = jax.random.split(jax.random.wrap_key_data(key))
    return jax.random.key_data(key), jax.random.bits(sub, (175_000,))

  def advance(state, step):
    before_step(step)
    key, bits = step_of(state["key"])
    loss = Mean(jnp.float32(bits[0]), jnp.float32(1))
    return {"key": key, "bits": bits}, {"loss": loss}

  return Stage(
    name="search",
    steps=8,
    batch=1,
    init=lambda: {
      "key": jax.random.key_data(jax.random.key(0)),
      "bits": jnp.zeros(175_000, jnp.uint32),
    },
    iterators={},
    metrics=("loss",),
    advance=advance,
  )


def goes_on(folder, unbroken):
  state, _ = run_stage(make_stage(), folder, OPTIONS)
  whole, _ = run_stage(make_stage(), unbroken, OPTIONS)
  assert jax.tree.all(jax.tree.map(jnp.array_equal, state, whole))
  assert (folder / "metrics.jsonl").read_bytes() == (
    unbroken / "metrics.jsonl"
  ).read_bytes()
  steps = {int(path.name) for path in (folder / "checkpoints/search").iterdir()}
  assert steps == {6, 8}


def test_full(small_disk, tmp_path):
  with pytest.raises(OSError) as error:
    run_stage(make_stage(), small_disk, OPTIONS)
  message = str(error.value)
  assert message.startswith(
    f"workdir = {small_disk}: No space left on device: free some, enough for"
  )
  # How many checkpoints fit depends on how Orbax's writes overlap.
  kept = [p.name for p in (small_disk / "checkpoints/search").glob("[246]")]
  goes_on_from = (
    f"continues from step {max(kept)} of search"
    if kept
    else "starts from the beginning"
  )
  assert message.endswith(f"; the same command then {goes_on_from}")
  remount(small_disk, "size=8m")
  goes_on(small_disk, tmp_path / "unbroken")


def test_read_only_from_the_middle(small_disk, tmp_path):
  remount(small_disk, "size=8m")
  workdir = tmp_path / "run"
  workdir.mkdir()
  # A file system with a file open for writing cannot be made read-only.
  (workdir / "checkpoints").symlink_to(small_disk)

  def before_step(step):
    if step == 3:
      wait_until((small_disk / "search" / "2").exists)
      # Not as long as Orbax has a file open for writing.
      wait_until(lambda: remount(small_disk, "ro", check=False))

  before = threading.enumerate()
  with pytest.raises(OSError) as error:
    run_stage(make_stage(before_step), workdir, OPTIONS)
  # Those that wait for a folder would keep the program from ending.
  for thread in set(threading.enumerate()) - set(before):
    thread.join(0.0 if thread.daemon else 30.0)
    assert thread.daemon or not thread.is_alive()
  message = str(error.value)
  assert message.startswith(f"workdir = {workdir}: Read-only file system: make")
  assert message.endswith("command then continues from step 2 of search")
  remount(small_disk, "rw")
  goes_on(workdir, tmp_path / "unbroken")


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Quota exceeded", "WORKDIR/metrics.jsonl"),
    PermissionError(errno.EACCES, "Permission denied", "WORKDIR/result.json"),
    ValueError("a write to WORKDIR/1 failed [os_error_code='28']\n  more"),
  ],
)
def test_writes_that_fail(error, tmp_path):
  if isinstance(error, OSError) and error.filename:
    error.filename = error.filename.replace("WORKDIR", str(tmp_path))
  elif isinstance(error, ValueError):
    error = ValueError(str(error).replace("WORKDIR", str(tmp_path)))
  with pytest.raises(OSError) as caught, explained(tmp_path):
    raise error
  message = str(caught.value)
  assert message.startswith(f"workdir = {tmp_path}: ") and "\n" not in message
  assert message.endswith("the same command then starts from the beginning")
  assert caught.value.__cause__ is error
  # Explained once is enough.
  with pytest.raises(OSError) as again, explained(tmp_path):
    raise caught.value
  assert again.value is caught.value


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.ENOSPC, "No space left on device", "/elsewhere/file"),
    PermissionError(errno.EACCES, "Permission denied", "/data/images"),
    FileNotFoundError(errno.ENOENT, "No such file", "WORKDIR/metrics.jsonl"),
    ValueError("wrong"),
  ],
)
def test_other_errors_stay(error, tmp_path):
  with pytest.raises(type(error)) as caught, explained(tmp_path):
    raise error
  assert caught.value is error
