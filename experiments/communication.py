"""What devices that share a batch exchange in a step, from compiled programs.

    python -m experiments.communication [--out FILE]

The search of `configs/imagenet_gpu.py`, its supernet whole, on 8 simulated
devices. Of each path that takes the same candidate on every edge (and zero
where there is zero): bytes that a weight step sums over the devices, beside
those of a training step of the plain network of that path. And of architecture
steps, at most: with every candidate run on every edge, and each in as many
parts as the widest, which is why batch norm's sums count somewhat too much.

Images are 32 pixels wide: weights, their gradients and batch-norm moments do
not depend on the size of the maps, so neither does what is exchanged.
"""

from __future__ import annotations

import argparse
import functools
import math
import platform
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments import hlo
from experiments.kinds import KINDS, summary
from experiments.output import write_json
from experiments.workloads import optimizer, search_start
from proxyless_jax.configs import imagenet_gpu
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import objective, reinforce
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, cpu_kernels, init
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.kernel_sharing import kernel_groups
from proxyless_jax.nn.supernet.parts import is_bottleneck
from proxyless_jax.parallel.collectives import DATA
from proxyless_jax.parallel.mesh import jit_step, make_mesh
from proxyless_jax.run.config.options import parse
from proxyless_jax.space import Edge, Network
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step

DEVICES = 8
IMAGE_SIZE = 32
# Enough for one image a device.
BATCH = 8
SHARED = dict(label_smoothing=0.1, grad_accum=1)


def simulate_devices() -> Mesh:
  """8 devices that are threads of this process, to be asked for first."""
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", DEVICES)
  # Of machine code, which is not run: the exchanges stay the same.
  jax.config.update("jax_disable_most_optimizations", True)
  return make_mesh()


def imagenet_space(image_size: int) -> Network:
  """That of the config, for images of another size."""
  config = imagenet_gpu.get_config()
  config.data.image_size = image_size
  return parse(config).make_space(classes=1000)


def program(step, state, network: Network, mesh: Mesh) -> str:
  """The text of a step, compiled for a state that all devices hold.

  Args:
    step: function of (state, batch).
    state: state of the step, replicated on all devices.
    network: network whose images are in the batch.
    mesh: mesh of the devices.
  """

  def shape_of(leaf, spec):
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  batch = {
    "image": jnp.zeros((BATCH, *network.image_shape)),
    "label": jnp.zeros(BATCH, jnp.int32),
    "mask": jnp.ones(BATCH),
  }
  state = jax.tree.map(lambda leaf: shape_of(leaf, P()), state)
  batch = jax.tree.map(lambda leaf: shape_of(leaf, P(DATA)), batch)
  # As on an accelerator: without the kernels for CPUs.
  with cpu_kernels.enabled(False):
    return jit_step(step, mesh).lower(state, batch).compile().as_text()


def search_programs(space: Network, mesh: Mesh, names=None) -> dict[str, str]:
  """The texts of a search's steps, by their names.

  Args:
    space: space that is searched.
    mesh: mesh of the devices.
    names: names of the steps; None for all.
  """
  module = build(space)
  state, valid, tx, arch_tx = search_start(module)
  table = cost_table("macs", space)
  target = objective.AtMost(table.min_cost * 2, 0.01)
  shared = dict(SHARED, module=module, valid=valid, mesh=mesh)
  cost = objective.Cost("macs", table, target)
  arch = dict(shared, tx=arch_tx, costs=(cost,))
  bound = {
    "weight": functools.partial(weight_step, tx=tx, **shared),
    "arch full": functools.partial(arch_step, mode="full", **arch),
    "arch two": functools.partial(arch_step, mode="two", **arch),
    "reinforce": functools.partial(
      reinforce.reinforce_step,
      samples=10,
      baseline_decay=0.95,
      entropy_weight=0.0,
      **arch,
    ),
  }
  return {
    name: program(bound[name], state, space, mesh) for name in names or bound
  }


def plain_program(network: Network, mesh: Mesh) -> str:
  """The text of an architecture's training step."""
  module, tx = build(network), optimizer()
  variables = init(module, jax.random.key(1))
  state = train_state(jax.random.key(0), variables, tx)
  step = functools.partial(
    train_step,
    module=module,
    tx=tx,
    ema_decay=0.0,
    drop_rate=None,
    mesh=mesh,
    **SHARED,
  )
  return program(step, state, network, mesh)


def uniform_paths(space: Network) -> dict[str, list[int]]:
  """Paths by the candidate that every edge takes; zero where there is zero.

  An edge without that candidate takes its first.
  """
  names = list(dict.fromkeys(op.name for e in space.edges for op in e.ops))
  paths = {}
  for name in names:
    own = [[op.name for op in edge.ops] for edge in space.edges]
    paths[name] = [ops.index(name) if name in ops else 0 for ops in own]
  return paths


def branches_of(space: Network, path: list[int]) -> dict[int, int]:
  """Which branch a path takes, by a conditional's number of branches.

  Conditionals of a weight step choose among an edge's candidates, or among
  their kernel groups.

  Raises:
    ValueError: conditionals of as many branches take different ones.
  """
  branches = {}
  for edge, candidate in zip(space.edges, path, strict=True):
    groups = groups_of(edge)
    group = next(i for i, own in enumerate(groups) if candidate in own)
    for count, taken in ((len(edge.ops), candidate), (len(groups), group)):
      if count > 1 and branches.setdefault(count, taken) != taken:
        raise ValueError(
          f"path {path}: of conditionals with {count} branches some take "
          f"branch {branches[count]} and edge {edge.name} takes {taken}; "
          "expected a path that takes the same everywhere"
        )
  return branches


def groups_of(edge: Edge) -> list[tuple[int, ...]]:
  """The candidates of each kernel group of an edge."""
  options = (("bn_momentum", 0.9), ("dropout", 0.0))
  groups = kernel_groups(edge.ops, bank.nameless(edge), options, True)
  return [group.candidates for group in groups]


def parts(edge: Edge, candidate: int) -> int:
  """Number of parts in which a candidate runs, where none is too large."""
  if not is_bottleneck(edge.ops[candidate]):
    return 1
  (group,) = (own for own in groups_of(edge) if candidate in own)
  hidden = [edge.ops[i].hidden(edge) for i in group]
  return edge.ops[candidate].hidden(edge) // math.gcd(*hidden)


def parts_of(space: Network, path: list[int]) -> int:
  """Number of parts of a path's candidates: turns of their loops.

  Raises:
    ValueError: they do not all have as many.
  """
  numbers = {
    parts(edge, candidate)
    for edge, candidate in zip(space.edges, path, strict=True)
  }
  if len(numbers) > 1:
    raise ValueError(
      f"path {path}: candidates of {sorted(numbers)} parts; expected a path "
      "whose candidates all have as many"
    )
  return numbers.pop()


def compare(space: Network, path: list[int], mesh: Mesh, text: str) -> dict:
  """A weight step and a training step of the plain network of its path.

  Args:
    space: space that is searched.
    path: indices of the candidates.
    mesh: mesh of the devices.
    text: program of the weight step.
  """
  taken = branches_of(space, path), parts_of(space, path)
  own = summary(hlo.exchanged(text, *taken))
  plain = summary(hlo.exchanged(plain_program(space.choose(path), mesh), {}))
  ratio = own["bytes"] / plain["bytes"]
  return {"supernet": own, "plain": plain, "ratio": ratio}


def gates_bytes(space: Network) -> int:
  """Of a gradient of all gates."""
  most = max(len(edge.ops) for edge in space.edges)
  return 4 * most * sum(len(edge.ops) > 1 for edge in space.edges)


def print_tables(result: Mapping[str, Any]) -> None:
  """In Markdown."""
  print("| path | weight step, MB | plain network, MB | ratio |")
  print("|---|---|---|---|")
  for name, row in result["weight"].items():
    own, plain = (row[side]["bytes"] / 1e6 for side in ("supernet", "plain"))
    print(f"| {name} | {own:.3f} | {plain:.3f} | {row['ratio']:.4f} |")
  print("\n| step, at most | kB | " + " | ".join(KINDS) + " |")
  print("|---|---|" + "---|" * len(KINDS))
  for name, row in result["architecture"].items():
    cells = (row["by_kind"].get(kind, 0) / 1e3 for kind in KINDS)
    cells = " | ".join(f"{cell:.3f}" for cell in cells)
    print(f"| {name} | {row['bytes'] / 1e3:.3f} | {cells} |")


def main():
  """Compiles, counts, prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out")
  args = parser.parse_args()
  start = time.perf_counter()
  mesh = simulate_devices()
  space = imagenet_space(IMAGE_SIZE)
  texts = search_programs(space, mesh)
  paths = uniform_paths(space)
  most = max(parts_of(space, path) for path in paths.values())
  result = {
    "devices": DEVICES,
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "gates_bytes": gates_bytes(space),
    "weight": {
      name: compare(space, path, mesh, texts["weight"])
      for name, path in paths.items()
    },
    "architecture": {
      name: summary(hlo.largest(text, most))
      for name, text in texts.items()
      if name != "weight"
    },
  }
  print_tables(result)
  print(f"\n{time.perf_counter() - start:.0f} s")
  if args.out:
    write_json(args.out, result)


if __name__ == "__main__":
  main()
