"""Workdirs as runs leave them, without running anything."""

import json
import os

import numpy as np
import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import objective
from proxyless_jax.report import MetricsWriter
from proxyless_jax.run.architecture import keep_network
from proxyless_jax.run.reporting import keep_search
from tests.spaces import small_space

STEPS = 8


def alpha_at(space, step):
  """Logits that grow for the last candidate of each edge."""
  width = max(len(edge.ops) for edge in space.edges)
  return np.arange(width) * np.full((len(space.edges), 1), step / 2)


def write_json(workdir, name, value):
  (workdir / name).write_text(json.dumps(value))


def write_search(workdir, space=None, steps=STEPS):
  """A search that has logged `steps` times, and has no result yet."""
  space = space or small_space()
  os.makedirs(workdir, exist_ok=True)
  write_json(workdir, "config.json", {"job": "search", "seed": 0})
  table = cost_table("macs", space)
  target = (table.min_cost + table.max_cost) / 2
  form = objective.AtMost(target, 0.05)
  keep_search(workdir, space, [objective.Cost("hardware", table, form)])
  with MetricsWriter(workdir, "search", space=space) as writer:
    for step in range(1, steps + 1):
      metrics = {"loss": 1 / step, "top1": step / 10, "entropy": 1 / step}
      metrics |= {"arch_loss": 2 / step, "arch_top1": step / 20}
      metrics |= {"expected_hardware": target / step}
      writer.write(step, metrics | {"multiplier_hardware": step / 10})
      writer.write_alpha(step, alpha_at(space, step))
  entry = {"step": steps, "steps": STEPS, "batch": 4, "seconds": 65.0}
  entry |= {"seconds_compiling": 3.0, "peak_memory_mb": 512.0}
  ledger = {"environment": {"device": "cpu"}, "stages": {"search": entry}}
  write_json(workdir, "ledger.json", ledger)
  return space


def write_end(workdir, space):
  """What a search adds at its end."""
  network = space.choose([len(edge.ops) - 1 for edge in space.edges])
  keep_network(network, workdir)
  result = {"job": "search", "top1": 0.987, "images": 100, "parameters": 10}
  result |= {"macs": 20, "unfinished": "noise had a part", "device": "cpu"}
  result |= {"cost_hardware": 20.0, "unit_hardware": "MACs"}
  result |= {"met_hardware": False, "seconds_evaluate": 1.0}
  write_json(workdir, "result.json", result)
  paths = np.random.default_rng(0).integers(0, 2, (30, len(space.edges)))
  values = [[0.1] * len(edge.ops) for edge in space.edges]
  sampled = {"paths": paths.tolist(), "loss": paths.sum(1).tolist()}
  write_json(workdir, "paths.json", sampled | {"values": values})


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """The workdir of a search that has ended."""
  folder = tmp_path_factory.mktemp("run") / "a <search>"
  write_end(folder, write_search(folder))
  return folder
