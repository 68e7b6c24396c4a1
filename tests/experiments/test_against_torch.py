import json

import pytest

torch = pytest.importorskip("torch")
from experiments import against_torch  # noqa: E402


@pytest.fixture
def one_thread():
  """PyTorch's threads spin, which is slow where other tests run."""
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_the_whole_of_it_at_a_tiny_size(tmp_path, capsys):
  out = tmp_path / "out.json"
  against_torch.main(
    ["--rounds", "1", "--workloads", "tiny", "--out", str(out)]
  )
  result = json.loads(out.read_text())["workloads"]["tiny"]
  assert len(result["ms"]) == 12 and min(result["ms"].values()) > 0.0
  shown = capsys.readouterr().out
  assert all(f"tiny, {step}" in shown for step in against_torch.STEPS)


def test_an_unknown_workload_is_named(capsys):
  with pytest.raises(SystemExit):
    against_torch.main(["--workloads", "tiny,huge"])
  assert "huge" in capsys.readouterr().err
