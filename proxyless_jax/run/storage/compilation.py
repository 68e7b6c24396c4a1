"""The persistent compilation cache: a second start compiles nothing again."""

from __future__ import annotations

import os

import jax


def keep_compiled() -> None:
  """Turns JAX's persistent compilation cache on, unless the user has set it.

  It is in `$XDG_CACHE_HOME/proxyless_jax`, by default `~/.cache/proxyless_jax`.
  Set JAX_COMPILATION_CACHE_DIR for another folder,
  JAX_ENABLE_COMPILATION_CACHE=0 for none. Several hosts of CPUs have none.
  """
  if jax.process_count() > 1 and jax.default_backend() == "cpu":
    # Programs from the cache run their collectives in a different order on each
    # host, and the run aborts in Gloo (jaxlib 0.10.2).
    jax.config.update("jax_enable_compilation_cache", False)
    return
  # JAX 0.10 does not declare the attributes of its options, 0.11 does.
  if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
    return
  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  folder = os.path.join(home, "proxyless_jax")
  jax.config.update("jax_compilation_cache_dir", folder)
