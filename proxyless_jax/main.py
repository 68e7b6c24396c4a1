"""python -m proxyless_jax --config=NAME[:VARIANT] --workdir=DIR [--config...]

Searches a neural network for your images and your hardware. The same command
on the same workdir resumes a run. An example, which takes a few minutes:

    python -m proxyless_jax --config=mnist --workdir=runs/mnist

--config=NAME       base, cifar10, imagenet_cpu, imagenet_gpu, imagenet_mobile,
                    mnist, photos; or path/to/my.py with your own get_config()
--config=NAME:JOB   another job than to search; or a variant, of mnist quick,
                    published, tree, reinforce, of cifar10, imagenet_... smoke
--config.job=JOB    search    finds a network, and trains it if train.enabled
                    train     trains the network that was found
                    evaluate  tests the trained weights
                    predict   classifies the images of predict.images
                    export    writes the network for other runtimes
                    random    trains random networks, as a baseline
                    measure   measures a table of costs on this device
--config.FIELD=VALUE changes a field, such as
  data.path                        folder of images, with data.source=folder
  data.image_size                  64, or '(96, 160)'
  search.costs.hardware.kind       macs, parameters, or runs/table/table.json
  search.costs.hardware.reference  the target: '0.6 M MACs', '20 ms'
  search.warmup_epochs             length of the search: weights alone,
  search.epochs                    then with the architecture
  search.batch                     images per step; also search.arch.batch
  train.enabled                    whether a search trains what it found
  train.epochs                     length of the training
  seed                             0, 1, ...
--debug             shows where an error arose
Several hosts, with the command on each: --distributed where Slurm, Kubernetes,
Cloud TPU, Open MPI or torchrun starts them, else
  --coordinator=10.0.0.1:1234 --processes=2 --process=0    and 1, ...
"""

from __future__ import annotations

import functools
import sys
import warnings

from absl import app, flags, logging
from ml_collections import config_flags

import proxyless_jax as pj
from proxyless_jax.run.config.flags import (
  fail,
  parse_flags,
  rendezvous,
)
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.exporting import export_job
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.hosts.preemption import (
  INTERRUPTED,
  INTERRUPTED_CODE,
  Interrupted,
  handled,
)
from proxyless_jax.run.storage.disk import explained
from proxyless_jax.run.storage.workdir import checked
from proxyless_jax.run.story import summary

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Name or file of the config, with an optional :variant.",
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", "", "The folder of the run.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show where an error arose.")

JOBS = {
  "search": pj.search,
  "train": pj.train,
  "evaluate": pj.evaluate,
  "predict": pj.predict,
  "export": export_job,
  "random": pj.random_networks,
  "measure": pj.measure,
}
# What a user can cause: bad input, a missing extra, a folder, a diverging run.
USER_ERRORS = (ValueError, ImportError, OSError, FloatingPointError)


@hosts.leaving()
def main(argv: list[str]) -> None:
  """Runs the config's job; user errors end in one line."""
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(
      logging.WARNING
    )  # Orbax logs each file that it writes.
  try:
    if len(argv) > 1:
      raise ValueError(
        f"unexpected arguments {argv[1:]}: expected flags alone, each as "
        "--flag=value"
      )
    job = parse(_CONFIG.value).job  # What is wrong is said before hosts join.
    workdir = checked(_WORKDIR.value)
    hosts.start(rendezvous())
    if not _DEBUG.value:
      warnings.formatwarning = _in_a_line
    with explained(workdir):
      result = JOBS[job](_CONFIG.value, workdir)
  except USER_ERRORS as error:
    if _DEBUG.value:
      raise
    fail(f"{error} (--debug shows where)")
  except Interrupted:
    raise
  except KeyboardInterrupt:
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(INTERRUPTED_CODE)
  if hosts.first():
    print(summary(result, workdir))


def _in_a_line(
  message: Warning | str,
  category: type[Warning],
  filename: str,
  lineno: int,
  line: str | None = None,
) -> str:
  """A warning for users, without the line of code that gives it."""
  del category, filename, lineno, line
  return f"warning: {message}\n"


def run() -> None:
  """The entry point."""
  assert __doc__ is not None
  with handled():
    app.run(main, flags_parser=functools.partial(parse_flags, text=__doc__))


if __name__ == "__main__":
  run()
