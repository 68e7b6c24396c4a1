"""What a GPU does with our layers and steps: one command, under 8 minutes.

    python -m experiments.on_gpu --out DIR [--parts depthwise,steps,...]

Needs JAX, Flax, Optax and SciPy; PyTorch for its side. Parts, in their order:

    steps      (b) a search's steps beside the plain network's and PyTorch's
    latency    (d) the table of latencies of the ImageNet space
    pallas     (a) depthwise convolution and its gradients by Pallas
    whole      (b) the steps of the whole ImageNet space
    depthwise  (a) the same by XLA's own, by sums over taps, and by PyTorch
    switch     (c) what `lax.switch` costs, by default and by command buffers
    graphs     (c) the steps of NAS-Bench-Macro's space by command buffers
    untimed    (b) steps with kernels that XLA does not time
    timed      (b) steps with products of matrices by Triton, which XLA times

Each part runs in units, each a process of its own, which is ended when its
share of the time is over. A unit writes `DIR/UNIT.json` after each measurement,
so that a kill keeps what is done; the same command continues with what is
missing. `DIR/on_gpu.json` has all units' rows, `DIR/latency_*.json` the tables.
`--small` runs all of it on a CPU at tiny sizes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping

from experiments.gpu.journal import Journal, text_of

ROOT = pathlib.Path(__file__).parents[1]
COMMAND_BUFFERS = (
  "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,"
  "CONDITIONAL,WHILE"
)
# By default XLA times kernels to choose from them, which takes longest for the
# products of matrices that it writes itself (by Triton).
UNTIMED = {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}
CUBLAS = {"XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false"}
COMMANDS = (
  f"--xla_gpu_enable_command_buffer={COMMAND_BUFFERS}"
  " --xla_gpu_graph_min_graph_size=1"
  " --xla_enable_command_buffers_during_profiling=true"
)
GRAPHS = {"XLA_FLAGS": COMMANDS}
NO_GRAPHS = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}
UNTIMED_GRAPHS = {"XLA_FLAGS": f"{UNTIMED['XLA_FLAGS']} {COMMANDS}"}
XLA, PALLAS = ("native", "taps", "fused"), ("native", "pallas")
# A unit that overstays its budget by so many seconds is ended.
GRACE = 15.0
# Exit code of a unit that did not finish within its budget.
TOO_LATE = 3


@dataclasses.dataclass(frozen=True)
class Unit:
  """A process.

  Attributes:
    name: name of the journal.
    part: part that the unit belongs to.
    seconds: time limit.
    module, function: what it calls, with a journal and whether it is small.
    arguments: after these.
    environment: variables of the process, besides its parent's.
  """

  name: str
  part: str
  seconds: float
  module: str
  function: str = "run"
  arguments: tuple = ()
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


UNITS = (
  Unit("steps_macro_cublas", "steps", 200, "steps", "run", ("macro",), CUBLAS),
  Unit("steps_torch", "steps", 60, "steps", "run_torch"),
  Unit(
    "steps_first_cublas", "steps", 200, "steps", "run", ("imagenet1",), CUBLAS
  ),
  Unit("latency", "latency", 150, "latency", environment=CUBLAS),
  Unit("depthwise_pallas", "pallas", 50, "depthwise", arguments=PALLAS),
  Unit("steps_whole", "whole", 400, "steps", "run", ("imagenet",), CUBLAS),
  Unit("depthwise", "depthwise", 100, "depthwise", arguments=XLA),
  Unit("depthwise_torch", "depthwise", 30, "depthwise", "run_torch"),
  Unit("switch", "switch", 25, "switch"),
  Unit("switch_graphs", "switch", 25, "switch", environment=GRAPHS),
  Unit("switch_no_graphs", "switch", 25, "switch", environment=NO_GRAPHS),
  Unit("graphs", "graphs", 80, "steps", "run", ("macro",), UNTIMED_GRAPHS),
  Unit(
    "steps_macro_untimed", "untimed", 90, "steps", "run", ("macro",), UNTIMED
  ),
  Unit(
    "steps_first_untimed",
    "untimed",
    90,
    "steps",
    "run",
    ("imagenet1",),
    UNTIMED,
  ),
  Unit("steps_macro", "timed", 400, "steps", "run", ("macro",)),
)
PARTS = tuple(dict.fromkeys(unit.part for unit in UNITS))


def run_unit(
  unit: Unit, out: pathlib.Path, seconds: float, small: bool
) -> bool:
  """Runs a unit in this process; whether it had the time for all."""
  journal = Journal(out / f"{unit.name}.json", seconds)
  try:
    if "setting" not in journal and not unit.function.endswith("torch"):
      journal.add("setting", setting())
    module = importlib.import_module(f"experiments.gpu.{unit.module}")
    arguments = (out,) if unit.module == "latency" else unit.arguments
    getattr(module, unit.function)(journal, small, *arguments)
  except Exception as error:
    journal.add("failed", {"error": text_of(error)})
    raise
  journal.log("done")
  return journal.left > 0


def setting() -> dict:
  """The device and the versions that a unit measured."""
  import jax

  flags = os.environ.get("XLA_FLAGS", "")
  device = jax.devices()[0].device_kind
  return {"device": device, "jax": jax.__version__, "XLA_FLAGS": flags}


def start(unit: Unit, args: argparse.Namespace, seconds: float) -> str:
  """Runs a unit in a process of its own; how it ended."""
  command = [sys.executable, "-u", "-m", "experiments.on_gpu"]
  command += ["--out", str(args.out), "--unit", unit.name]
  command += ["--seconds", str(seconds)] + ["--small"] * args.small
  environment = {**os.environ, **unit.environment}
  flags = (os.environ.get("XLA_FLAGS"), unit.environment.get("XLA_FLAGS"))
  environment["XLA_FLAGS"] = " ".join(filter(None, flags))
  environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(args.out / "cache"))
  if args.small:
    environment["JAX_PLATFORMS"] = "cpu"
  process = subprocess.Popen(command, env=environment, cwd=ROOT)
  try:
    code = process.wait(seconds + GRACE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
    code = TOO_LATE
  ends = {0: "done", TOO_LATE: "its time was over"}
  return ends.get(code, f"failed: exit code {code}")


def merge(out: pathlib.Path) -> None:
  """Writes what all units have so far into one file."""
  paths = {unit.name: out / f"{unit.name}.json" for unit in UNITS}
  rows = {n: json.loads(p.read_text()) for n, p in paths.items() if p.exists()}
  (out / "on_gpu.json").write_text(json.dumps(rows, indent=1) + "\n")


def parse() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--parts", default=",".join(PARTS))
  parser.add_argument("--seconds", type=float, default=460.0)
  parser.add_argument("--small", action="store_true")
  parser.add_argument("--unit", choices=[u.name for u in UNITS])
  args = parser.parse_args()
  unknown = sorted(set(args.parts.split(",")) - set(PARTS))
  if unknown:
    parser.error(f"--parts {','.join(unknown)}: expected some of {PARTS}")
  return args


def main():
  """Runs the parts within `--seconds`, or one unit in this process."""
  args = parse()
  args.out = args.out.absolute()
  args.out.mkdir(parents=True, exist_ok=True)
  if args.unit:
    (unit,) = (u for u in UNITS if u.name == args.unit)
    in_time = run_unit(unit, args.out, args.seconds, args.small)
    sys.stdout.flush()
    # At once: threads may still be compiling what nobody waits for any more.
    os._exit(0 if in_time else TOO_LATE)
  begin, path = time.perf_counter(), args.out / "units.json"
  ended = json.loads(path.read_text()) if path.exists() else {}
  for part in args.parts.split(","):
    for unit in (u for u in UNITS if u.part == part):
      left = args.seconds - (time.perf_counter() - begin)
      if ended.get(unit.name) == "done" or left < GRACE:
        continue
      ended[unit.name] = start(unit, args, min(unit.seconds, left - GRACE / 2))
      spent = time.perf_counter() - begin
      print(f"[{spent:5.0f} s] {unit.name}: {ended[unit.name]}", flush=True)
      path.write_text(json.dumps(ended, indent=1) + "\n")
      merge(args.out)


if __name__ == "__main__":
  main()
