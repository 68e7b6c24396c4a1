"""Command line: python -m proxyless_jax --config=NAME --workdir=DIR.

    --config=mnist                a config that comes with the package
    --config=mnist:quick          a variant of it
    --config=path/to/my.py        a file of your own with a get_config()
    --config.search.epochs=5      one field changed

Run again on the same workdir, it resumes. On several hosts, each runs the
command, with --distributed where Slurm, Kubernetes, Cloud TPU, Open MPI or
torchrun starts them, else with

    --coordinator=10.0.0.1:1234 --processes=2 --process=0    and 1, ...
"""

from __future__ import annotations

import sys

from absl import app, flags, logging
from ml_collections import config_flags

import proxyless_jax as pj
from proxyless_jax.run.config.flags import (
  fail,
  parse_flags,
  rendezvous,
  show_in_help,
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
from proxyless_jax.run.result import summary
from proxyless_jax.run.storage.disk import explained
from proxyless_jax.run.storage.workdir import checked

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


def run() -> None:
  """The entry point."""
  show_in_help(__doc__)
  with handled():
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
  run()
