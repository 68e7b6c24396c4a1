"""The network of a run, written for other runtimes and run by them."""

import builtins
import importlib.metadata
import json

import jax
import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.exchange import formats
from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.safetensors import from_safetensors
from proxyless_jax.run import exporting
from proxyless_jax.run.story import summary

PACKAGES = {
  ".onnx": "onnxruntime",
  ".stablehlo": "jax",
  ".tflite": "litert_converter",
  ".safetensors": "safetensors",
  ".pth": "torch",
}


@pytest.fixture
def missing(monkeypatch):
  """Makes a package one that is not installed."""
  of_python = builtins.__import__

  def hide(package):
    def without(name, *args, **kwargs):
      if name.partition(".")[0] == package:
        raise ModuleNotFoundError(f"no {package}", name=name)
      return of_python(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)

  return hide


@pytest.mark.parametrize("ending", PACKAGES)
def test_its_own_runtime_gives_our_logits(run, tmp_path, capsys, ending):
  pytest.importorskip(PACKAGES[ending])
  path = tmp_path / f"net{ending}"
  result = pj.export(run, path)
  assert result["checked"] and result["difference"] <= 1e-4
  assert result["bytes"] == path.stat().st_size
  line = capsys.readouterr().out
  assert line == summary(result, "") + "\n"
  assert f"net{ending}: {result['bytes']:,} bytes; {result['runtime']}" in line
  assert ("latency_ms" in result) == (ending not in (".safetensors", ".pth"))
  assert ("ms per image" in line) == ("latency_ms" in result)


@pytest.mark.parametrize("ending", [".onnx", ".stablehlo", ".tflite"])
def test_pixels_in(run, tmp_path, ending):
  """The file classifies pixels as the run does."""
  pytest.importorskip(PACKAGES[ending])
  path = tmp_path / f"net{ending}"
  assert pj.export(run, path, preprocess=True)["difference"] <= 1e-4
  compute = formats.FORMATS[ending].read(path.read_bytes(), run.network)
  pixels = np.random.default_rng(3).integers(0, 256, (5, 12, 12, 1), np.uint8)
  logits = compute(pixels)  # Another number of images than it was checked on.
  np.testing.assert_allclose(
    jax.nn.softmax(logits), run.predict(pixels), rtol=1e-3, atol=1e-5
  )


def test_stablehlo_needs_jax_alone(run, tmp_path):
  path = tmp_path / "net.stablehlo"
  pj.export(run, path)
  network = jax.export.deserialize(bytearray(path.read_bytes()))
  assert network.platforms == ("cpu", "cuda", "tpu")
  images = np.zeros((3, 12, 12, 1), np.float32)
  expected = pj.build(run.network).apply(run.variables, images, False)
  np.testing.assert_allclose(network.call(images), expected, rtol=1e-4)


def test_safetensors_are_the_network(run, tmp_path):
  pytest.importorskip("safetensors")
  path = tmp_path / "net.safetensors"
  pj.export(run, path)
  found = from_safetensors(path.read_bytes())
  assert found.network == json.loads(run.network.to_json())
  assert json.loads(found.metadata["classes"]) == list(run.classes)
  assert json.loads(found.metadata["mean"]) == [0.1307]
  jax.tree.map(np.testing.assert_array_equal, found.variables, run.variables)
  for data in (b"", b"no", path.read_bytes()[:-5]):
    with pytest.raises(ValueError, match=r"expected a \.safetensors file with"):
      from_safetensors(data)


@pytest.mark.parametrize("preprocess", [False, True])
def test_int8(run, tmp_path, capsys, preprocess):
  pytest.importorskip("onnxruntime")
  whole = pj.export(run, tmp_path / "whole.onnx", preprocess=preprocess)
  path = tmp_path / "int8.onnx"
  result = pj.export(run, path, preprocess=preprocess, quantize=True)
  import onnx

  kinds = {node.op_type for node in onnx.load(path).graph.node}
  assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
  before = run.result["top1"]
  assert result["images"] == 103 and result["top1_before"] == before
  assert abs(result["top1"] - before) < 0.1
  assert whole["difference"] < result["difference"]
  assert "; in int8, test accuracy " in capsys.readouterr().out


def test_as_a_job(make_config, workdir, tmp_path):
  before = {path: path.read_bytes() for path in workdir.glob("*.*")}
  config = make_config(export=dict(path="net.stablehlo"), data__image_size=99)
  result = exporting.export_job(config, workdir)
  assert result["file"] == str(workdir / "net.stablehlo")
  other = dict(path=str(tmp_path / "other.stablehlo"), preprocess=True)
  second = exporting.export_job(make_config(export=other), workdir)
  kept = json.loads((workdir / "export.json").read_text())
  assert kept == {"net.stablehlo": result, "../other.stablehlo": second}
  assert before == {path: path.read_bytes() for path in before}
  # What was exported does not matter to a resume.
  assert pj.search(config | {"data": make_config()["data"]}, workdir)


def test_without_the_runtime(run, tmp_path, missing, capsys):
  pytest.importorskip("onnx")
  missing("onnxruntime")
  result = pj.export(run, tmp_path / "net.onnx")
  assert not result["checked"] and (tmp_path / "net.onnx").exists()
  expected = "did not check it: install proxyless-jax[onnx]"
  assert expected in capsys.readouterr().out
  with pytest.raises(ImportError, match=r"int8 needs .* proxyless-jax\[onnx\]"):
    pj.export(run, tmp_path / "int8.onnx", quantize=True)


def test_a_runtime_by_another_name(run, tmp_path, monkeypatch):
  """As onnxruntime-gpu has it: the same module, from another distribution."""

  def absent(package):
    raise importlib.metadata.PackageNotFoundError(package)

  monkeypatch.setattr(importlib.metadata, "version", absent)
  result = pj.export(run, tmp_path / "net.stablehlo")
  assert result["checked"] and result["runtime"] == "JAX"


@pytest.mark.parametrize(
  "ending, package, extra",
  [
    (".onnx", "onnx", "onnx"),
    (".tflite", "litert_converter", "litert"),
    (".safetensors", "safetensors", "export"),
    (".pth", "torch", "torch"),
  ],
)
def test_without_the_converter(run, tmp_path, missing, ending, package, extra):
  missing(package)
  with pytest.raises(ImportError, match=rf"proxyless-jax\[{extra}\]"):
    pj.export(run, tmp_path / f"net{ending}")
  assert not list(tmp_path.iterdir())


def test_a_wrong_file_is_not_written(run, tmp_path, monkeypatch):
  kind = formats.FORMATS[".stablehlo"]

  def wrong(data, network):
    compute = kind.read(data, network)
    return lambda images: compute(images) + 1

  changed = {".stablehlo": formats.dataclasses.replace(kind, read=wrong)}
  monkeypatch.setattr(exporting, "FORMATS", changed)
  with pytest.raises(ValueError, match=r"differ by .*: expected at most 1e-04"):
    pj.export(run, tmp_path / "net.stablehlo")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "path, options, message",
  [
    ("net", {}, r"path = 'net': .* ends in one of \.onnx, \.stablehlo, \.tfl"),
    ("net.pt", {}, r"path = 'net\.pt': expected a name that ends in one of"),
    ("no/net.onnx", {}, r"path = .*no/net\.onnx': .* make the folder"),
    ("net.pth", {"quantize": True}, "quantize = True with path = 'net.pth': e"),
    ("net.pth", {"preprocess": True}, "preprocess = True with path = .*weight"),
  ],
)
def test_bad_input(
  run, make_config, workdir, monkeypatch, path, options, message
):
  monkeypatch.chdir(workdir)
  monkeypatch.setattr(exporting, "FORMATS", None)  # No compute.
  with pytest.raises(ValueError, match="^" + message):
    pj.export(run, path, **options)
  config = make_config(export=dict(path=path, **options))
  with pytest.raises(ValueError, match=rf"^export\.{message}"):
    exporting.export_job(config, workdir)
  assert not (workdir / "export.json").exists()


def test_wrong_arguments(run):
  with pytest.raises(
    ValueError, match=r"run = 'runs/mnist': expected what pj\.lo"
  ):
    pj.export("runs/mnist", "net.onnx")
  with pytest.raises(
    ValueError, match="path = None: expected the path of a fi"
  ):
    pj.export(run, None)


def test_no_run(make_config, tmp_path):
  config = make_config(export=dict(path="net.onnx"))
  with pytest.raises(ValueError, match="expected the folder of a search"):
    exporting.export_job(config, tmp_path / "absent")


def test_the_normalisation_is_the_run_s(run):
  pixels = np.arange(144, dtype=np.uint8).reshape(1, 12, 12, 1)
  own = Normalisation(run.data.mean, run.data.std).normalise(pixels)
  logits = pj.build(run.network).apply(run.variables, own, False)
  np.testing.assert_allclose(
    jax.nn.softmax(logits), run.predict(pixels), rtol=1e-4, atol=1e-6
  )
