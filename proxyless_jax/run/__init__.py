"""RUNNING it: the only place with side effects."""

from proxyless_jax.run.loop import evaluate, search, train
