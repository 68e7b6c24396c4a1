"""The command line: user errors are one line, and say what to do."""

import errno
import importlib.metadata
import os
import pathlib
import re
import shutil
import signal
import sys
import warnings

import pytest
from absl import flags
from ml_collections.config_flags import config_path

import proxyless_jax as pj
from proxyless_jax import main
from proxyless_jax.configs import mnist_variants
from proxyless_jax.run.config.named import config_names
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.exporting import export_job

ROOT = pathlib.Path(main.__file__).parents[1]
CONFIG = f"--config={ROOT}/configs/mnist.py"
RESULT = {"top1": 0.5, "images": 103, "parameters": 12345, "macs": 67890}


@pytest.fixture
def start(monkeypatch, capsys):
  """Runs the command; gives its exit code or message, and what it printed."""

  def run(*arguments):
    argv = ["main", *arguments]
    # ml_collections looks there for what is overridden.
    monkeypatch.setattr("sys.argv", argv)
    # The program changes it.
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    flags.FLAGS.unparse_flags()
    # ml_collections loads each config into the module of the one before.
    monkeypatch.delitem(sys.modules, "config_config", raising=False)
    with pytest.raises(SystemExit) as exit_:
      main.run()
    return exit_.value.code, capsys.readouterr()

  before = {name: flags.FLAGS[name].present for name in ("config", "workdir")}
  parsed = flags.FLAGS.is_parsed()
  yield run
  for name in before:
    flags.FLAGS[name].unparse()
  # Overrides of the config have become flags of their own.
  for name in list(flags.FLAGS):
    if name.startswith("config."):
      delattr(flags.FLAGS, name)
  flags.FLAGS["debug"].unparse()
  (flags.FLAGS.mark_as_parsed if parsed else flags.FLAGS.unparse_flags)()


@pytest.fixture
def jobs(monkeypatch):
  """Jobs that say what they were asked for, and do nothing."""
  calls = []

  def make(name):
    def job(config, workdir):
      calls.append((name, config, workdir))
      return RESULT

    return job

  for name in main.JOBS:
    monkeypatch.setitem(main.JOBS, name, make(name))
  return calls


def failing(error):
  def job(config, workdir):
    raise error

  return job


def test_jobs_are_the_public_functions():
  assert {
    "search": pj.search,
    "train": pj.train,
    "evaluate": pj.evaluate,
    "predict": pj.predict,
    "export": export_job,
    "random": pj.random_networks,
    "measure": pj.measure,
  } == main.JOBS


def test_a_job_gets_config_and_workdir(start, jobs):
  code, out = start(CONFIG + ":quick", "--workdir=w", "--config.search.lr=1")
  assert code is None
  ((name, config, workdir),) = jobs
  assert (name, workdir) == ("search", "w")
  assert config.search.lr == 1.0 and config.run.log_every == 10
  assert out.out == (
    "result\n"
    "  network        12,345 parameters, 67,890 MACs\n"
    "  see            w/result.json\n"
    "  next           the same command with --config.job=predict "
    "--config.predict.images=FOLDER: classifies images\n"
    "  next           the same command with --config.job=export: writes it "
    "as a file for other runtimes\n"
    "  test accuracy  50.00 % on 103 images\n"
  )


@pytest.mark.parametrize(
  "text, size",
  [("64", 64), ("(96, 160)", (96, 160)), ("96,160", (96, 160))],
)
@pytest.mark.parametrize("name", ["mnist", "cifar10", "imagenet_gpu"])
def test_images_are_squares_or_rectangles(start, jobs, name, text, size):
  config = f"--config={ROOT}/configs/{name}.py"
  start(config, "--workdir=w", f"--config.data.image_size={text}")
  ((_, config, _),) = jobs
  options = parse(config)
  assert options.data.image_size == size
  assert options.make_space(10).image_size == size


def test_the_size_of_images_is_no_word(start, jobs):
  code, _ = start(CONFIG, "--workdir=w", "--config.data.image_size=96x160")
  assert code.startswith("error: data.image_size='96x160': expected an integer")
  assert not jobs


def test_the_space_may_be_the_json_of_a_network(start, jobs, tmp_path):
  space = pj.mobile_space(image_size=28, channels=1, classes=10)
  space.to_json(tmp_path / "space.json")
  code, _ = start(
    CONFIG, "--workdir=w", f"--config.space={tmp_path}/space.json"
  )
  assert code is None
  ((_, config, _),) = jobs
  assert parse(config).make_space(10) == space


def test_an_argument_of_a_space(start, jobs):
  start(CONFIG, "--workdir=w", "--config.space.widths=(8, 16)")
  ((_, config, _),) = jobs
  assert config.space.widths == (8, 16)
  code, _ = start(CONFIG, "--workdir=w", "--config.space=3")
  assert code.startswith("error: space = 3: expected a section of fields, Netw")


@pytest.mark.parametrize(
  "given", [["--config=mnist:quick"], ["--config", "mnist:quick"]]
)
def test_configs_of_the_package_go_by_name(
  start, jobs, given, tmp_path, monkeypatch
):
  """Wherever the command is given, though a folder there has the same name."""
  (tmp_path / "mnist").mkdir()
  monkeypatch.chdir(tmp_path)
  code, _ = start(*given, "--workdir=w", "--config.search.lr=1")
  assert code is None
  ((_, config, _),) = jobs
  assert config.search.lr == 1.0 and config.run.log_every == 10


def test_configs_of_the_package_in_python():
  assert "configs" in dir(pj)
  assert pj.configs.mnist.get_config("quick").run.log_every == 10
  names = [
    name
    for name in dir(pj.configs)
    if hasattr(getattr(pj.configs, name), "get_config")
  ]
  assert names == config_names()
  with pytest.raises(AttributeError, match="no attribute 'confgs'"):
    pj.confgs  # noqa: B018


def test_what_a_measurement_prints(start, monkeypatch):
  figures = {
    "job": "measure",
    "error_mean": 0.0123,
    "spearman": 0.99,
    "held_out": 30,
    "min_cost": 10.0,
    "max_cost": 30.0,
    "unit": "ms",
  }
  monkeypatch.setitem(main.JOBS, "measure", lambda config, workdir: figures)
  code, out = start(CONFIG, "--workdir=w", "--config.job=measure")
  assert code is None
  assert out.out == (
    "mean error 1.23 % and Spearman 0.9900 on 30 networks that the table was "
    "not fitted to; see w/table.json and predicted.png\n"
    "next: a search for this device, --config.search.costs.hardware.kind="
    "w/table.json --config.search.costs.hardware.reference='20 ms'\n"
  )


def test_what_a_prediction_prints(start, monkeypatch):
  found = {"job": "predict", "images": 3, "file": "w/predictions.csv"}
  monkeypatch.setitem(main.JOBS, "predict", lambda config, workdir: found)
  code, out = start(CONFIG + ":predict", "--workdir=w")
  assert code is None
  assert out.out == "3 images classified; see w/predictions.csv\n"


def test_what_an_export_prints(start, monkeypatch):
  found = {"job": "export", "file": "w/net.onnx", "bytes": 12345}
  found |= {"runtime": "LiteRT", "checked": False, "why": "install it"}
  monkeypatch.setitem(main.JOBS, "export", lambda config, workdir: found)
  code, out = start(CONFIG + ":export", "--workdir=w")
  assert code is None
  line = "w/net.onnx: 12,345 bytes; LiteRT did not check it: install it\n"
  assert out.out == line


def test_help_is_a_screen_that_is_true(start):
  code, printed = start("--help")
  lines = printed.out.splitlines()
  assert code == 0 and len(lines) <= 36
  assert max(map(len, lines)) <= 80
  for word in (*main.JOBS, *config_names(), *mnist_variants.CHANGES):
    assert re.search(rf"\b{word}\b", printed.out), word
  for flag in ("distributed", "coordinator", "processes", "process", "debug"):
    assert f"--{flag}" in printed.out and flag in flags.FLAGS
  named = re.findall(r"^  ([a-z_.]+)  ", printed.out, re.MULTILINE)
  assert len(named) == 10
  config = pj.configs.mnist.get_config()
  for field in named:
    assert config_path.get_value(field, config) is not None


def test_warnings_are_lines(start, jobs):
  start(CONFIG, "--workdir=w", "--config.job=evaluate")
  assert warnings.formatwarning("a\nb", UserWarning, "f.py", 1) == (
    "warning: a\nb\n"
  )


def test_the_config_names_the_job(start, jobs):
  start(CONFIG, "--workdir=w", "--config.job=evaluate")
  assert [name for name, *_ in jobs] == ["evaluate"]


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--workdir=w"], "no --config: expected a config; example: python"),
    ([CONFIG], "no --workdir: expected the folder of the run; example: python"),
    ([CONFIG, "--workdir=w", "--fast=1"], "--fast: there is no such flag"),
    (
      [CONFIG, "--wokdir=w"],
      "--wokdir: there is no such flag (--help lists al",
    ),
    ([CONFIG, "--wokdir=w"], "did you mean 'workdir'?"),
    (
      [CONFIG, "--workdir=w", "--search.batch=3"],
      "no such flag (--help lists all); did you mean --config.search.batch?",
    ),
    (["--workdir=w", "--config.seed=1"], "expected --config=NAME before it"),
    (
      [CONFIG, "--workdir=w", "--processes=two"],
      "--processes=two: expected an",
    ),
    (
      [CONFIG, "--workdir=w", "--debug=maybe"],
      "--debug=maybe: expected True o",
    ),
    ([CONFIG, "--workdir=w", "fast"], "unexpected arguments ['fast']"),
    (
      [CONFIG, "--workdir=w", "--config.data.image_size", "64"],
      "unexpected arguments ['64']: expected flags alone, each as --flag=value",
    ),
    ([CONFIG + ":bad", "--workdir=w"], "variant = 'bad': expected one of (''"),
    ([CONFIG + ":quik", "--workdir=w"], "did you mean 'quick'?"),
    (["--config=no/file.py", "--workdir=w"], "no/file.py: there is no such fi"),
    ([CONFIG, "--workdir=w", "--config.job=fly"], "job = 'fly': expected one"),
    ([CONFIG, "--workdir=w", "--config.job=serch"], "did you mean 'search'?"),
  ],
)
def test_user_errors_are_one_line(start, jobs, arguments, message):
  code, out = start(*arguments)
  assert code.startswith("error: ") and message in code
  assert "\n" not in code and "Traceback" not in code + out.err
  assert not jobs


def test_home_folders(start, jobs, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  shutil.copy(ROOT / "configs" / "mnist.py", tmp_path / "my.py")
  code, _ = start("--config=~/my.py:quick", "--workdir=~/run")
  assert code is None
  ((name, config, workdir),) = jobs
  assert (name, workdir) == ("search", f"{tmp_path}/run")
  assert config.run.log_every == 10
  code, _ = start("--config=~/my.py", "--workdir=~/run", "--config.sed=1")
  assert code.endswith("; did you mean --config.seed?")


def test_a_workdir_that_cannot_be(start, jobs):
  code, _ = start(CONFIG, "--workdir=gs://bucket/run")
  assert code.startswith("error: workdir = gs://bucket/run: expected a folder")
  assert "\n" not in code and not jobs


@pytest.mark.parametrize(
  "field, message",
  [
    (
      "foo=1",
      "config has no such field; its fields are ['data', 'derive', 'dtype', '",
    ),
    ("search.foo=1", "config.search has no such field; its fields are ['"),
    ("search.batchh=3", "no such field; did you mean --config.search.batch?"),
    (
      "serch.batch=3",
      "config has no such field; did you mean --config.search.b",
    ),
    ("search.arch.bacth=3", "; did you mean --config.search.arch.batch?"),
    ("after_epochs=3", "did you mean --config.search.arch.after_epochs?"),
    ("seed.x=3", "config has no such field; did you mean --config.seed?"),
    ("search.lr=fast", "expected a number"),
    ("search.batch=abc", "expected an integer, such as 64"),
    ("search.batch=1.5", "expected an integer"),
    ("search.batch=", "expected an integer"),
    ("search.batch", "expected a value, such as --config.search.batch=64"),
    ("data.flip=maybe", "expected True or False, such as False"),
    (
      "search=3",
      "expected a value for one of the fields of this section, such",
    ),
  ],
)
def test_a_field_that_cannot_be_taken(start, jobs, field, message):
  code, out = start(CONFIG, "--workdir=w", f"--config.{field}")
  assert code.startswith(f"error: --config.{field}: ") and message in code
  assert "\n" not in code and not out.err
  assert not jobs


@pytest.mark.parametrize("field", ["space.shuffle", "search.arch.lr"])
def test_an_option_that_the_file_leaves_out(start, jobs, tmp_path, field):
  (tmp_path / "my.py").write_text(
    "from ml_collections import ConfigDict\n\n"
    "def get_config():\n"
    "  space = dict(family='tree')\n"
    "  return ConfigDict(dict(search=dict(lr=1.0), space=space))\n"
  )
  argument = f"--config.{field}=0"
  code, _ = start(f"--config={tmp_path}/my.py", "--workdir=w", argument)
  section = field.rpartition(".")[0].removesuffix(".arch")
  assert code.startswith(f"error: {argument}: config.{section} has no such")
  assert code.endswith(f"write config.{field} = VALUE in the file")
  assert "\n" not in code and not jobs


def test_the_value_may_be_an_argument_of_its_own(start, jobs):
  code, _ = start(CONFIG, "--workdir=w", "--config.search.batch", "abc")
  assert code.startswith("error: --config.search.batch=abc: expected an integ")


def test_no_arguments_at_all(start, jobs):
  code, out = start()
  usage, example, configs = code.splitlines()
  assert usage.startswith("usage: python -m proxyless_jax --config=NAME")
  assert example.endswith(" --config=mnist --workdir=runs/mnist")
  assert configs.startswith("configs: base, cifar10, imagenet_cpu, ")
  assert not out.err and not jobs


@pytest.mark.parametrize(
  "path, message",
  [
    ("configs/mnit.py:quick", "did you mean configs/mnist.py?"),
    ("configs/mnit.py", "configs there are base.py, cifar10.py, imagenet_cpu"),
    ("mnit:quick", "there is no config of this name; known are base, cifar"),
    ("mnit", "did you mean mnist?"),
    ("mnist.py", "there is no such file; known are base, cifar10, "),
    ("konfigs/mnist.py", "did you mean mnist?"),
    ("configs", "expected a config, got a folder; in "),
    ("", "there is no such file; known are base, "),
    ("README.md", "expected a Python file with a get_config(); known are ba"),
  ],
)
def test_a_missing_config(start, jobs, monkeypatch, path, message):
  monkeypatch.chdir(ROOT)
  code, out = start(f"--config={path}", "--workdir=w")
  assert code.startswith(f"error: --config={path}: ") and message in code
  assert "mnist_variants" not in code  # It has no get_config().
  assert "\n" not in code and not out.err


@pytest.mark.parametrize(
  "text, variant, message",
  [
    ("x = 1\n", "", "expected a function get_config.. in it that"),
    (
      "get_config = lambda: None\n",
      "",
      "get_config.. gave .* type NoneType: expected",
    ),
    ("get_config = lambda: 3\n", "", "get_config.. gave .* type int: expected"),
    (
      "def get_config(): pass\n",
      ":x",
      "too many positional arg.*leave out ':x'",
    ),
    ("def get_config(v): pass\n", "", "missing .*: name one after a colon"),
    (
      "import notthere\n",
      "",
      "ModuleNotFoundError: No module named 'notthere'",
    ),
    (
      "def get_config(): return dict(sed=3)\n",
      "",
      r"config: unknown fields \['sed'\]; did you mean 'seed'",
    ),
  ],
)
def test_a_config_file_that_gives_no_config(
  start, tmp_path, text, variant, message
):
  path = tmp_path / "config.py"
  path.write_text(text)
  code, out = start(f"--config={path}{variant}", f"--workdir={tmp_path}/run")
  assert code.startswith("error: ") and re.search(message, code)
  assert "\n" not in code and not out.err


def test_a_broken_config_file(start, jobs, tmp_path):
  (tmp_path / "config.py").write_text("def get_config(:\n")
  code, _ = start(f"--config={tmp_path}/config.py", "--workdir=w")
  assert code.startswith(f"error: --config={tmp_path}/config.py: SyntaxError")
  assert "\n" not in code


@pytest.mark.parametrize(
  "error", [ValueError, OSError, ImportError, FloatingPointError]
)
def test_errors_of_a_job_are_one_line(start, monkeypatch, error):
  monkeypatch.setitem(main.JOBS, "search", failing(error("no\ngood")))
  code, _ = start(CONFIG, "--workdir=w")
  assert code == "error: no good (--debug shows where)"


def test_debug_shows_where(start, monkeypatch):
  monkeypatch.setitem(main.JOBS, "search", failing(ValueError("no good")))
  with pytest.raises(ValueError, match="no good"):
    start(CONFIG, "--workdir=w", "--debug")


def test_errors_of_the_program_are_not_hidden(start, monkeypatch):
  monkeypatch.setitem(main.JOBS, "search", failing(AssertionError("a bug")))
  with pytest.raises(AssertionError, match="a bug"):
    start(CONFIG, "--workdir=w")


def test_control_c(start, monkeypatch):
  monkeypatch.setitem(main.JOBS, "search", failing(KeyboardInterrupt()))
  code, out = start(CONFIG, "--workdir=w")
  assert code == 130
  assert out.err == "interrupted: the same command continues from here\n"


def test_sigterm(start, monkeypatch):
  earlier = signal.signal(signal.SIGTERM, signal.SIG_DFL)

  def job(config, workdir):
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setitem(main.JOBS, "search", job)
  try:
    code, out = start(CONFIG, "--workdir=w")
  finally:
    signal.signal(signal.SIGTERM, earlier)
  assert code == 0
  assert out.err == "stopped by SIGTERM: the same command continues from here\n"


def test_a_full_disk(start, monkeypatch, tmp_path):
  error = OSError(errno.ENOSPC, "full", f"{tmp_path}/result.json.tmp")
  monkeypatch.setitem(main.JOBS, "search", failing(error))
  code, _ = start(CONFIG, f"--workdir={tmp_path}")
  assert code.startswith(
    f"error: workdir = {tmp_path}: No space left on device"
  )
  assert "\n" not in code


def test_the_package_runs_as_its_main_module_does():
  from proxyless_jax import __main__ as package

  assert package.run is main.run


def test_the_version_is_that_of_the_installed_package():
  try:
    installed = importlib.metadata.version("proxyless-jax")
  except importlib.metadata.PackageNotFoundError:
    pytest.skip("the package is not installed, only its checkout is there")
  assert pj.__version__ == installed
