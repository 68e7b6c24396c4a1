import glob
import json
import os
import signal
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from proxyless_jax.report import MetricsWriter, read_metrics


def run(workdir, stage, start_step, steps):
  """Writes a training and an evaluation line a step; a loop in small."""
  with MetricsWriter(workdir, stage, start_step) as writer:
    for step in range(start_step + 1, steps + 1):
      writer.write(step, {"loss": 1.0 / step, "accuracy": step / 100})
      writer.write(step, {"eval_top1": step / 200})


def text(workdir):
  return (workdir / "metrics.jsonl").read_text()


def events(folder):
  """The events in the order in which TensorBoard reads the files."""
  found = []
  for path in sorted(glob.glob(os.path.join(folder, "events.*"))):
    with open(path, "rb") as file:
      while header := file.read(12):
        (length,) = struct.unpack("<Q", header[:8])
        found.append(Event.FromString(file.read(length)))
        file.read(4)
  return found


def test_lines_are_flat_json(tmp_path):
  with MetricsWriter(tmp_path / "new" / "run", "search") as writer:
    writer.write(
      np.int64(3),
      {
        "loss": jnp.float32(0.5),
        "seen": 256,
        "half": jnp.ones((1,), jnp.bfloat16),
        "nan": float("nan"),
        "worst": np.float32("-inf"),
      },
    )
  (line,) = text(tmp_path / "new" / "run").splitlines()
  assert json.loads(line) == {
    "stage": "search",
    "step": 3,
    "loss": 0.5,
    "seen": 256,
    "half": 1.0,
    "nan": "nan",
    "worst": "-inf",
  }


def test_each_line_is_on_disk_as_it_is_written(tmp_path):
  with MetricsWriter(tmp_path, "train") as writer:
    for step in (1, 2):
      writer.write(step, {"loss": 1.0})
      assert len(read_metrics(tmp_path)) == step


@pytest.mark.parametrize("torn", ["", '{"stage": "se', '{"stage": "search"}'])
def test_resume_leaves_the_file_of_an_unbroken_run(tmp_path, torn):
  run(tmp_path / "whole", "search", 0, 10)
  run(tmp_path / "whole", "train", 0, 6)

  run(tmp_path / "broken", "search", 0, 8)
  with open(tmp_path / "broken" / "metrics.jsonl", "a") as file:
    file.write(torn)
  run(tmp_path / "broken", "search", 5, 10)
  run(tmp_path / "broken", "train", 0, 3)
  with open(tmp_path / "broken" / "metrics.jsonl", "a") as file:
    file.write(torn)
  run(tmp_path / "broken", "train", 2, 6)
  assert text(tmp_path / "broken") == text(tmp_path / "whole")
  assert os.listdir(tmp_path / "broken").count("metrics.jsonl.tmp") == 0


def test_a_stage_that_starts_afresh_has_no_lines_before(tmp_path):
  run(tmp_path, "search", 0, 4)
  with MetricsWriter(tmp_path, "train") as writer:
    writer.write(0, {"eval_top1": 0.1})
  with MetricsWriter(tmp_path, "train") as writer:
    writer.write(0, {"eval_top1": 0.1})
  lines = read_metrics(tmp_path)
  assert [line["stage"] for line in lines] == ["search"] * 8 + ["train"]


def test_resume_of_an_early_stage_keeps_the_later_ones(tmp_path):
  """They may be at their end, and are then not written again."""
  run(tmp_path, "search", 0, 4)
  run(tmp_path, "train", 0, 1)
  run(tmp_path, "search", 3, 4)
  assert [(x["stage"], x["step"]) for x in read_metrics(tmp_path)] == [
    *(("search", step) for step in (1, 1, 2, 2, 3, 3)),
    *(("train", 1), ("train", 1), ("search", 4), ("search", 4)),
  ]


def test_a_kill_leaves_whole_lines(tmp_path):
  script = f"""
import itertools
from proxyless_jax.report import MetricsWriter
writer = MetricsWriter({str(tmp_path)!r}, "search")
for step in itertools.count(1):
  writer.write(step, {{f"metric{{i}}": step / 7 for i in range(50)}})
  if step == 20:
    print("ready", flush=True)
"""
  process = subprocess.Popen(
    [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == "ready\n"
  process.send_signal(signal.SIGKILL)
  process.wait()
  process.stdout.close()
  lines = read_metrics(tmp_path)
  assert len(lines) >= 20
  assert all(len(line) == 52 for line in lines)
  with MetricsWriter(tmp_path, "search", 15) as writer:
    writer.write(16, {"loss": 1.0})
  assert [x["step"] for x in read_metrics(tmp_path)] == list(range(1, 17))


def test_a_kill_while_the_file_is_rewritten_loses_nothing(
  tmp_path, monkeypatch
):
  run(tmp_path, "search", 0, 4)
  before = text(tmp_path)

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
      MetricsWriter(tmp_path, "search", 2)
  assert text(tmp_path) == before
  run(tmp_path, "search", 2, 4)
  assert text(tmp_path) == before


def test_tensorboard_has_the_scalars_and_purges_what_is_run_again(tmp_path):
  run(tmp_path, "search", 0, 4)
  run(tmp_path, "search", 2, 3)
  found = events(tmp_path / "tensorboard" / "search")
  starts = [e.step for e in found if e.HasField("session_log")]
  assert starts == [0, 3]
  assert all(
    e.session_log.status == SessionLog.START
    for e in found
    if e.HasField("session_log")
  )
  losses = [
    (event.step, value.simple_value)
    for event in found
    for value in event.summary.value
    if value.tag == "search/loss"
  ]
  assert [step for step, _ in losses] == [1, 2, 3, 4, 3]
  np.testing.assert_allclose([x for _, x in losses][:2], [1.0, 0.5])


@pytest.mark.parametrize("folder", ["gs:run", "s3:run", "[run]", "a:b"])
def test_folders_that_look_like_protocols(tmp_path, monkeypatch, folder):
  monkeypatch.chdir(tmp_path)
  run(folder, "search", 0, 1)
  assert events(glob.escape(str(tmp_path / folder / "tensorboard" / "search")))


def test_errors_name_the_field(tmp_path):
  with pytest.raises(ValueError, match="stage = 'fit': expected one of"):
    MetricsWriter(tmp_path, "fit")
  with pytest.raises(ValueError, match="start_step = -1"):
    MetricsWriter(tmp_path, "train", -1)
  with MetricsWriter(tmp_path, "train", 7) as writer:
    with pytest.raises(ValueError, match="step = 6"):
      writer.write(6, {})
    with pytest.raises(ValueError, match="metric 'step': the name is taken"):
      writer.write(8, {"step": 1})
    for value in (np.ones(2), "high", None, 1j):
      with pytest.raises(TypeError, match="metric 'loss'"):
        writer.write(8, {"loss": value})


def test_a_file_that_is_not_metrics_is_left_alone(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"stage": "search", "st\n{}\n')
  with pytest.raises(ValueError, match=r"metrics.jsonl, line 1"):
    MetricsWriter(tmp_path, "search")


FULL = """
import sys
from proxyless_jax.report import MetricsWriter

writer = MetricsWriter(sys.argv[1], "search")
events = writer._events.file_writer.event_writer._ev_writer
def flush():
  raise OSError(28, "No space left on device")
writer.write(1, {"loss": 1.0})
events.flush = events._py_recordio_writer.flush = flush
try:
  writer.close()
except OSError as error:
  print(error.strerror, file=sys.stderr)
"""


def test_a_writer_on_a_full_disk_fails_once(tmp_path):
  """Not again at the exit, after the error that explains it."""
  done = subprocess.run(
    [sys.executable, "-c", FULL, str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.stderr.splitlines()[-1] == "No space left on device", done.stderr
  assert "atexit" not in done.stderr
