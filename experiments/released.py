"""The five released networks, evaluated: python -m experiments.released.

    --weights DIR   holds proxyless_cpu.pth, ..._gpu, ..._mobile, ..._mobile_14
                    and ..._cifar.pth, as their authors released them
    --data_dir DIR  where imagenet2012 and cifar10 were prepared; default: that
                    of TFDS

Prints what this project measures beside what was published, and writes a
result.json for each under --workdir. Networks whose weights are not in the
folder are left out, and said to be; what else is missing ends in one line.
"""

import argparse
import os

import proxyless_jax as pj
from proxyless_jax.configs import cifar10, imagenet_gpu
from proxyless_jax.main import USER_ERRORS
from proxyless_jax.run.config.flags import fail

# Top-1 and top-5 in percent, with their source; None: not stated there.
MODELS = "the released models' logs"
HUB = "PyTorch Hub's page of ProxylessNAS"
PAPER = "the authors' poster"
EXPECTED = {
  "proxyless_cpu": (75.29, 92.39, MODELS),
  "proxyless_gpu": (75.08, 92.54, MODELS),
  "proxyless_mobile": (74.59, 92.20, MODELS),
  "proxyless_mobile_14": (76.7, None, HUB),
  "proxyless_cifar": (97.92, None, PAPER),
}


def config_of(name: str, weights: str, data_dir: str):
  """The config that evaluates a released network."""
  recipe = cifar10 if name == "proxyless_cifar" else imagenet_gpu
  config = recipe.get_config("evaluate")
  config.network = name
  config.weights = weights
  config.data.path = data_dir
  return config


def weights_in(folder: str) -> dict[str, str]:
  """The files in a folder of weights, by the names of their networks.

  Raises:
    ValueError: there is no such folder, or none of the files is in it.
  """
  if not os.path.isdir(folder):
    raise ValueError(f"--weights={folder}: expected a folder: correct the path")
  paths = {name: os.path.join(folder, f"{name}.pth") for name in EXPECTED}
  found = {name: path for name, path in paths.items() if os.path.isfile(path)}
  if not found:
    raise ValueError(
      f"--weights={folder}: expected at least one of "
      f"{[f'{name}.pth' for name in EXPECTED]}, found none: fetch them, or "
      "correct the path"
    )
  return found


def evaluate_all(weights: dict[str, str], data_dir: str, workdir: str) -> None:
  """Evaluates each network of which there are weights; prints a table."""
  print("network              top-1  published  top-5  published  source")
  for name, (top1, top5, source) in EXPECTED.items():
    if name not in weights:
      print(f"{name:20} left out: {name}.pth is not among the weights")
      continue
    config = config_of(name, weights[name], data_dir)
    result = pj.evaluate(config, os.path.join(workdir, name))
    published = "-" if top5 is None else f"{top5:.2f}"
    print(
      f"{name:20} {100 * result['top1']:5.2f} {top1:10.2f} "
      f"{100 * result['top5']:6.2f} {published:>10}  {source}"
    )


def main(argv: list[str] | None = None):
  """Parses the arguments; user errors end in one line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--weights", required=True)
  parser.add_argument("--data_dir", default="")
  parser.add_argument("--workdir", default="runs/released")
  args = parser.parse_args(argv)
  try:
    evaluate_all(weights_in(args.weights), args.data_dir, args.workdir)
  except USER_ERRORS as error:
    fail(str(error))


if __name__ == "__main__":
  main()
