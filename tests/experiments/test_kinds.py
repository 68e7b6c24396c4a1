from collections import Counter

import pytest

from experiments.hlo import Collective
from experiments.kinds import summary


def all_reduce(source, *shapes):
  return Collective("all-reduce", shapes, source)


def test_kinds_follow_from_names_and_shapes():
  body = "jit(step)/jvp(Module)/while/body/"
  back = "jit(step)/transpose(jvp(Module))/while/body/"
  seen = {
    all_reduce(body + "bn/bn._moments/psum", "f32[2]", "f32[2]"): 3,
    all_reduce(back + "bn/bn._moments/psum", "f32[2]", "f32[2]"): 2,
    all_reduce(back + "expand_bn/psum", "f32[4]", "f32[4]"): 1,
    all_reduce(body + "cond/branch_1_fun/psum", "f32[1,10]"): 1,
    all_reduce("jit(step)/psum", "f32[]"): 1,
    # XLA merges sums that nothing separates.
    all_reduce(body + "(bn/bn._moments/psum:psum)", "f32[8]", "f32[]"): 1,
  }
  assert summary(Counter(seen)) == {
    "bytes": 48 + 32 + 32 + 40 + 4 + 36,
    "collectives": 9,
    "of_norms": 3 + 2 + 1 + 1,
    "by_kind": {
      "moments": 48 + 32,
      "other moments": 32,
      "backward": 32,
      "rest": 40,
      "scalars": 8,
    },
  }


def test_anything_but_a_sum_is_an_error():
  gathered = Collective("all-gather", ("f32[8]",), "")
  with pytest.raises(ValueError, match="expected sums alone"):
    summary(Counter({gathered: 1}))
