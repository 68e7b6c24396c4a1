"""Candidate operations: one module file per file of `space/ops`.

Importing a file registers its modules with `make`.
"""

from proxyless_jax.nn.ops import (
  cell,
  common,
  dense,
  mobile,
  path_level,
  pyramid,
  resnet,
  shake,
  shuffle,
  tree,
)
