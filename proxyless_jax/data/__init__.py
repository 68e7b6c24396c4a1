"""Images and labels: `DataOptions` in, batches of a Grain iterator out.

`load(options)` finds the images and splits them into the part that trains a
search's weights, the part that trains its architecture, and the test part.
`train_batches` streams a part endlessly, augmented; `eval_batches` passes over
it once, in order; several hosts may share the batches. `python -m
proxyless_jax.data.prepare` writes a dataset of TensorFlow Datasets, once, for
random access. The package imports nothing else of proxyless_jax.
"""

from proxyless_jax.data.dataset import check_search, load
from proxyless_jax.data.options import DataOptions
from proxyless_jax.data.pipeline import eval_batches, train_batches
