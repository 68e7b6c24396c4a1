"""How much a path per device lowers the variance of the gradient of alpha.

    python -m experiments.own_paths [--draws 150] [--batch 256] [--out FILE]

A search on the plain digits (`configs/mnist_plain.py`) on 8 simulated devices,
its weights trained for some epochs, then held: gradients of alpha on random
batches of held-out images, with one path for all devices, and with a path for
each. Both see the same batches. Prints the variance (summed over all alpha) of
one over that of the other, for both modes of gates, and whether the means
agree: they need not quite, since each device's batch norm sees its share alone.
"""

import argparse
import functools
import json
import os

DEVICES = 8
os.environ["JAX_NUM_CPU_DEVICES"] = str(DEVICES)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from experiments.output import write_json  # noqa: E402
from proxyless_jax.configs import mnist, mnist_plain  # noqa: E402
from proxyless_jax.data import load, train_batches  # noqa: E402
from proxyless_jax.nas import gates as gates_lib  # noqa: E402
from proxyless_jax.nas.arch_step import arch_step  # noqa: E402
from proxyless_jax.nas.state import search_state  # noqa: E402
from proxyless_jax.nas.weight_step import weight_step  # noqa: E402
from proxyless_jax.nn import build, init  # noqa: E402
from proxyless_jax.parallel.mesh import (  # noqa: E402
  jit_step,
  make_mesh,
  place,
  to_devices,
)
from proxyless_jax.run.config.options import parse  # noqa: E402
from proxyless_jax.training.optimizers import train_schedule, weight_optimizer  # noqa: E402

# The change of alpha is then the gradient, its sign aside.
DESCENT = optax.with_extra_args_support(optax.sgd(1.0))


def prepare(options, dataset, epochs):
  """The module, the candidates, and a state with trained weights on a mesh."""
  space, mesh = options.make_space(dataset.classes), make_mesh()
  module, valid = build(space), gates_lib.valid_candidates(space)
  search = options.search
  count = round(epochs * len(dataset.weights) / search.batch)
  tx = weight_optimizer(
    train_schedule(search.lr, count, 0),
    momentum=search.momentum,
    nesterov=search.nesterov,
    weight_decay=search.weight_decay,
    kernels_only=False,
  )
  current = search_state(
    jax.random.key(0),
    init(module, jax.random.key(1)),
    valid,
    tx,
    DESCENT,
    search.arch.init_scale,
    costs=0,
  )
  current = place(current, mesh)
  step = functools.partial(
    weight_step,
    module=module,
    valid=valid,
    tx=tx,
    label_smoothing=search.label_smoothing,
    grad_accum=1,
    mesh=mesh,
  )
  jitted = jit_step(step, mesh)
  batches = train_batches(
    dataset.weights, options.data, batch=search.batch, seed=0
  )
  for _, batch in zip(range(count), batches):
    current, metrics = jitted(current, to_devices(batch, mesh))
  batches.close()
  print(f"weights: {count} steps, loss {metrics['loss'].total:.2f} in sum")
  return module, valid, mesh, current


def gradients(step, options, dataset, current, mesh, draws, batch):
  """Of alpha, f[draws, e, k], by an architecture step."""
  jitted = jax.jit(lambda now, batch: step(now, batch)[0].arch)
  batches = train_batches(
    dataset.arch,
    options.data,
    batch=batch,
    seed=1,
    augmented=False,
  )
  seen = []
  for i, batch in zip(range(draws), batches):
    now = current.replace(step=place(jnp.int32(10_000 + i), mesh))
    after = jitted(now, to_devices(batch, mesh))
    seen.append(np.asarray(current.arch - after))
  batches.close()
  return np.stack(seen)


def compare(one, many):
  """Variances in sum, their ratio, and how far the means are apart."""
  variances = [g.var(0, ddof=1).sum() for g in (one, many)]
  halves = [g.mean(0) for g in (one, many)]
  apart = np.sqrt(np.sum((halves[0] - halves[1]) ** 2))
  error = np.sqrt(sum(v / len(one) for v in variances))
  return {
    "variance, one path": float(variances[0]),
    "variance, a path per device": float(variances[1]),
    "ratio": float(variances[1] / variances[0]),
    "distance of the means over its standard error": float(apart / error),
  }


def parse_arguments() -> argparse.Namespace:
  """The arguments of the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--draws", type=int, default=150)
  parser.add_argument("--batch", type=int, default=256)
  parser.add_argument("--epochs", type=float, default=3.0)
  parser.add_argument("--out")
  return parser.parse_args()


def main():
  """Measures and prints."""
  args = parse_arguments()
  config = mnist.get_config()
  mnist_plain.plain(config)
  options = parse(config)
  dataset = load(options.data)
  module, valid, mesh, current = prepare(options, dataset, args.epochs)
  result = {
    "devices": DEVICES,
    "draws": args.draws,
    "images per gradient": args.batch,
  }
  for mode in gates_lib.MODES:
    seen = [
      gradients(
        functools.partial(
          arch_step,
          module=module,
          valid=valid,
          tx=DESCENT,
          costs=(),
          mode=mode,
          label_smoothing=options.search.label_smoothing,
          grad_accum=1,
          mesh=mesh,
          path_per_device=path_per_device,
        ),
        options,
        dataset,
        current,
        mesh,
        args.draws,
        args.batch,
      )
      for path_per_device in (False, True)
    ]
    result[mode] = compare(*seen)
  print(json.dumps(result, indent=1))
  if args.out:
    write_json(args.out, result)


if __name__ == "__main__":
  main()
