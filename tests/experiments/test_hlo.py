import pytest

from experiments.hlo import exchanged, most_cycles


def kinds_and_bytes(collectives):
  return {(one.kind, one.bytes): n for one, n in collectives.items()}


# ruff: noqa: E501
ASYNC = """\
HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%wrapped (p: bf16[64]) -> bf16[8] {
  %p = bf16[64]{0} parameter(0)
  ROOT %rs = bf16[8]{0} reduce-scatter(%p), dimensions={0}, to_apply=%add
}

ENTRY %main (x: f32[6], y: bf16[64], z: s4[3]) -> f32[6] {
  %x = f32[6]{0:T(128)} parameter(0)
  %y = bf16[64]{0:T(8,128)(2,1)S(1)} parameter(1)
  %z = s4[3]{0} parameter(2)
  %ar = (f32[6]{0:T(128)}, bf16[64]{0:T(8,128)(2,1)}) all-reduce-start(%x, %y), to_apply=%add
  %ar-done = (f32[6]{0}, bf16[64]{0}) all-reduce-done(%ar)
  %ag = ((f32[6]{0}, s4[3]{0}), (f32[48]{0}, s4[24]{0})) all-gather-start(%x, %z), dimensions={0}
  %ag-done = (f32[48]{0}, s4[24]{0}) all-gather-done(%ag)
  %cp = (f32[6]{0}, f32[6]{0}, u32[], u32[]) collective-permute-start(%x)
  %cp-done = f32[6]{0} collective-permute-done(%cp)
  %as = ((bf16[64]{0}), bf16[8]{0}, u32[]) async-start(%y), calls=%wrapped
  %as-done = bf16[8]{0} async-done(%as), calls=%wrapped
  ROOT %out = f32[6]{0} get-tuple-element(%ar-done), index=0
}
"""


def test_asynchronous_forms_count_once():
  assert kinds_and_bytes(exchanged(ASYNC, {})) == {
    ("all-reduce", 6 * 4 + 64 * 2): 1,
    ("all-gather", 48 * 4 + 12): 1,
    ("collective-permute", 6 * 4): 1,
    ("reduce-scatter", 64 * 2): 1,
  }


CYCLES = """\
HloModule jit_f, is_scheduled=true

%cheap (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %b = f32[8]{0} fusion(%a), kind=kLoop, calls=%f, backend_config={"window_config":{"estimated_cycles":"10"}}
}

%dear (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %b = f32[8]{0} fusion(%a), kind=kLoop, calls=%f, backend_config={"window_config":{"estimated_cycles":"70"}}
}

%body (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %i = s32[] constant(1)
  ROOT %c = f32[8]{0} conditional(%i, %a, %a), branch_computations={%cheap, %dear}
}

%condition (a: f32[8]) -> pred[] {
  %a = f32[8]{0} parameter(0)
  ROOT %p = pred[] constant(true)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%f, backend_config={"window_config":{"estimated_cycles":"5"}}
  ROOT %z = f32[8]{0} while(%y), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_cycles_are_of_all_turns_and_of_the_dearest_branch():
  assert most_cycles(CYCLES) == 5 + 3 * 70


def test_other_text_is_an_error():
  with pytest.raises(ValueError, match="no ENTRY computation"):
    exchanged("module @jit_f {}", {})
