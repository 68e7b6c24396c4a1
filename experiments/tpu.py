"""Do a search's steps compile for TPUs, and what do they need? Without one.

    python -m experiments.tpu --out FILE [--programs imagenet1 imagenet ...]

Needs the extra `tpu-aot`: libtpu has the compiler that a TPU's host runs, and
compiles for chips that are only described, TPU v5e. Nothing is executed. In
bfloat16, by name, chips and images of each:

    digits     1 x 64   that of `configs/mnist_plain.py`
    imagenet1  1 x 128  that of `configs/imagenet_gpu.py`, a block a stage
    imagenet   1 x 128  the whole
    imagenet4  4 x 128  the same on four chips that share the batch
    cifar10    1 x 64   the trees of `configs/cifar10.py`, 648 edges

Of the weight step, the architecture steps and the plain network's training
step: seconds of tracing and of compiling; bytes that a chip has to hold; the
cycles that the compiler expects, along the dearest candidates; the bytes that
its instructions read and write; and the bytes that chips exchange at most. FILE
keeps what is done: a run that was stopped goes on. `--level O1` is JAX's
`jax_optimization_level`. (XLA's counts are of one turn of each loop, so that
programs with loops have no such bytes.)
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from experiments import hlo, workloads
from experiments.output import Parts
from experiments.trees import published_path
from proxyless_jax.nn import cpu_kernels
from proxyless_jax.parallel.collectives import DATA
from proxyless_jax.space import Network, tree_space

TOPOLOGY = "v5e:2x2"
HBM = 16e9  # Bytes of a chip (Cloud TPU documentation, v5e).
STEPS = ("plain", "weight", "arch two", "arch full")


@dataclasses.dataclass(frozen=True)
class Program:
  """What is compiled.

  Attributes:
    space: function that makes the search space.
    images: images of a chip.
    chips: number of chips.
    path: function from the space to the candidates of the plain network, by
      name; None for those of `workloads.path_of`.
  """

  space: Callable[[], Network]
  images: int
  chips: int = 1
  path: Callable[[Network], list[str]] | None = None


PROGRAMS = {
  "tiny": Program(workloads.tiny, 8),
  "tiny4": Program(workloads.tiny, 8, chips=4),
  "digits": Program(workloads.digits, 64),
  "imagenet1": Program(workloads.SPACES["imagenet1"], 128),
  "imagenet": Program(workloads.imagenet, 128),
  "imagenet4": Program(workloads.imagenet, 128, chips=4),
  "cifar10": Program(tree_space, 64, path=published_path),
}


def described_chips() -> list:
  """Four chips that are not there.

  Raises:
    ImportError: libtpu is not installed.
  """
  try:
    import libtpu  # noqa: F401
  except ImportError as error:
    raise ImportError(
      "compiling for TPUs needs libtpu: pip install 'proxyless_jax[tpu-aot]'"
    ) from error
  from jax.experimental import topologies

  # Else it asks for minutes which machine it is on.
  described = ("SKIP_MDS_QUERY", "1"), ("WORKER_HOSTNAMES", "localhost")
  for name, value in (*described, ("ACCELERATOR_TYPE", "v5litepod-4")):
    os.environ.setdefault(f"TPU_{name}", value)
  jax.config.update("jax_platforms", "cpu")
  found = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY)
  return list(found.devices)


def step_of(program: Program, name: str, mesh: Mesh | None) -> tuple:
  """The state and the jitted function of a step."""
  space, dtype = program.space(), jnp.bfloat16
  if name != "plain":
    search, jitted = workloads.search_steps(space, dtype, mesh=mesh)
    return search, jitted[name]
  path = None
  if program.path:
    names = program.path(space)
    path = [edge.index(op) for edge, op in zip(space.edges, names)]
  return workloads.plain_step(space, dtype, path, mesh)


def compiled(program: Program, name: str, chips: Sequence) -> dict[str, Any]:
  """The figures of a step, compiled for described chips."""
  mesh = None
  whole: Sharding = SingleDeviceSharding(chips[0])
  split = whole
  if program.chips > 1:
    mesh = Mesh(np.array(chips[: program.chips]), (DATA,))
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(DATA))
  state, step = step_of(program, name, mesh)
  images = program.images * program.chips
  batch = jax.eval_shape(
    lambda key: workloads.make_batch(program.space(), key, images),
    jax.random.key(0),
  )
  began = time.perf_counter()
  # Kernels for the host's CPU are of no use there.
  with cpu_kernels.enabled(False):
    lowered = step.lower(shapes(state, whole), shapes(batch, split))
  traced = time.perf_counter()
  done = lowered.compile()
  seconds = time.perf_counter() - traced
  text = done.as_text()
  # Turns of loops over the parts of candidates: two on nearly all edges.
  exchanged = hlo.largest(text, turns=2) if mesh else {}
  return {
    "trace_s": traced - began,
    "compile_s": seconds,
    **memory_of(done),
    "cycles": _cycles(text),
    "accessed_bytes": _accessed(done, text),
    "exchanged_bytes": hlo.total_bytes(exchanged) if mesh else 0,
    "collectives": sum(exchanged.values()),
  }


def _cycles(text: str) -> float | None:
  """The cycles that the compiler expects; None where it does not say."""
  try:
    return hlo.most_cycles(text)
  except ValueError:  # The length of a loop is not in the text.
    return None


def _accessed(done: jax.stages.Compiled, text: str) -> float | None:
  """Bytes that instructions read and write; None for a program with loops."""
  if " while(" in text or " conditional(" in text:
    return None
  return done.cost_analysis()["bytes accessed"]


def shapes(tree: Any, sharding: Sharding) -> Any:
  """A pytree's shapes and types, placed."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    tree,
  )


def memory_of(done: jax.stages.Compiled) -> dict[str, Any]:
  """Bytes of a chip's memory, and whether they fit."""
  memory = done.memory_analysis()
  sizes = {
    "arguments": memory.argument_size_in_bytes,
    "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
  }
  total = sum(sizes.values())
  return {"memory": sizes, "memory_bytes": total, "fits": total <= HBM}


def table_of(rows: dict[str, dict]) -> str:
  """In Markdown; ratios to the plain step of the same program."""
  lines = [
    "| program | step | tracing, s | compiling, s | / plain | GB of a chip | "
    "temporaries, GB | / plain | cycles / plain | exchanged, MB |",
    "|" + "---|" * 10,
  ]
  for key, row in rows.items():
    name, _, step = key.partition(": ")
    plain = rows.get(f"{name}: plain", {})
    temporaries = row["memory"]["temporaries"]

    def over(value: float | None, *names: str, plain=plain) -> str:
      base: Any = plain
      for part in names:
        base = base.get(part, {})
      return f"{value / base:.2f}" if value and base else "–"

    cells = [
      f"{row['trace_s']:.0f}",
      f"{row['compile_s']:.0f}",
      over(row["compile_s"], "compile_s"),
      f"{row['memory_bytes'] / 1e9:.3g}" + ("" if row["fits"] else " (no)"),
      f"{temporaries / 1e9:.3g}",
      over(temporaries, "memory", "temporaries"),
      over(row["cycles"], "cycles"),
      f"{row['exchanged_bytes'] / 1e6:.2f}",
    ]
    lines.append("| " + " | ".join([name, step, *cells]) + " |")
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict:
  """Compiles what is not done, and prints everything."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", required=True)
  parser.add_argument("--programs", nargs="+", choices=PROGRAMS)
  parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
  parser.add_argument("--level", choices=("O0", "O1", "O2", "O3"))
  arguments = parser.parse_args(argv)
  chips = described_chips()
  if arguments.level:
    jax.config.update("jax_optimization_level", arguments.level)
  settings = {"jax": jax.__version__, "topology": TOPOLOGY}
  settings["level"] = arguments.level
  parts = Parts(arguments.out, settings)
  names = arguments.programs or [n for n in PROGRAMS if "tiny" not in n]
  for name in names:
    for step in arguments.steps:
      # Bound now: `get` calls it at once.
      row = parts.get(
        f"{name}: {step}",
        lambda name=name, step=step: compiled(PROGRAMS[name], step, chips),
      )
      print(f"{name}: {step}: {row['compile_s']:.0f} s", flush=True)
  rows = {k: v for k, v in parts.values.items() if k != "settings"}
  print(table_of(rows))
  return rows


if __name__ == "__main__":
  main()
