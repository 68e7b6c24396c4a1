"""`python -m proxyless_jax`: the same as `python -m proxyless_jax.main`."""

from proxyless_jax.main import run

if __name__ == "__main__":
  run()
