"""What is given from outside is refused before any compute, by its name."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from proxyless_jax.nas import gates
from proxyless_jax.nas.optimizers import on_involved
from proxyless_jax.nas.validate import check_draw, check_optimizer, check_terms

VALID = np.array([[True, True, True], [True, True, False]])


def plain_draw(key, arch, valid, mode):
  return gates.draw(key, arch, valid, mode)


def draw_with(**changes):
  """A draw that gives some of the gates in another form."""

  def draw(*args):
    drawn = gates.draw(*args)
    return drawn._replace(**{k: f(drawn) for k, f in changes.items()})

  return draw


def refused(check, *args, message):
  with pytest.raises(ValueError, match=re.escape(message)) as error:
    check(*args)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", gates.MODES)
def test_draws_of_gates_pass(mode):
  check_draw(gates.draw, VALID, mode)
  check_draw(functools.partial(plain_draw), VALID, mode)
  check_draw(lambda k, a, v, m: plain_draw(k, a, v, m), VALID, mode)


@pytest.mark.parametrize(
  ("draw", "message"),
  [
    ("gumbel", "draw = 'gumbel': expected a function (key, arch, valid, mode)"),
    (lambda key, arch: arch, "draw: TypeError: "),
    (lambda *args: args[1], "draw gives float32[2, 3]: expected a function"),
    (lambda *args: tuple(gates.draw(*args)), "draw gives a tuple: expected"),
    (
      draw_with(index=lambda drawn: drawn.gate),
      "draw gives index = float32[2, 3]: expected int32[2]",
    ),
    (
      draw_with(probs=lambda drawn: drawn.probs[0]),
      "draw gives probs = float32[3]: expected float32[2, 3]",
    ),
    (
      draw_with(involved=lambda drawn: drawn.gate),
      "draw gives involved = float32[2, 3]: expected bool[2, 3]",
    ),
    (
      draw_with(gate=lambda drawn: None),
      "draw gives gate = a NoneType: expected float32[2, 3]",
    ),
  ],
)
def test_what_is_no_draw(draw, message):
  refused(check_draw, draw, VALID, "full", message=message)


def test_terms_that_give_a_number_pass():
  check_terms((), VALID)
  check_terms([lambda probs: jnp.sum(probs**2), lambda probs: 1.0], VALID)


@pytest.mark.parametrize(
  ("terms", "message"),
  [
    (None, "terms = None: expected a list or tuple of functions"),
    (jnp.sum, "expected a list or tuple of functions, such as terms=[my_term]"),
    (["entropy"], "terms[0] = 'entropy': expected a function from"),
    ([jnp.sum, lambda p: p.sum(-1)], "terms[1] gives float32[2]: expected a"),
    ([lambda p: None], "terms[0] gives a NoneType: expected a function from"),
    ([lambda p, q: p], "terms[0]: TypeError: "),
  ],
)
def test_what_is_no_term(terms, message):
  refused(check_terms, terms, VALID, message=message)


PARAMS = {"stem": {"kernel": jnp.ones((3, 2))}, "bank": jnp.ones((2, 3, 4))}


@pytest.mark.parametrize(
  "tx",
  [
    optax.sgd(0.1, momentum=0.9),
    optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-3)),
    optax.adamw(optax.cosine_decay_schedule(1e-2, 16)),
  ],
)
def test_optimizers_pass_and_run_nothing(tx):
  shapes = jax.eval_shape(lambda: PARAMS)
  check_optimizer("tx", tx, PARAMS)
  check_optimizer("tx", tx, shapes)


@pytest.mark.parametrize(
  ("tx", "message"),
  [
    ("adamw", "tx = 'adamw': expected an Optax transform, such as"),
    (0.1, "tx = 0.1: expected an Optax transform"),
    (optax.adam, "expected an Optax transform"),
    (optax.flatten(optax.adam(0.1)), "tx: ValueError: inner keeps state"),
    # A search wraps it by itself.
    (on_involved(optax.adam(0.1)), "tx: TypeError: "),
  ],
)
def test_what_is_no_optimizer(tx, message):
  refused(check_optimizer, "tx", tx, PARAMS, message=message)
