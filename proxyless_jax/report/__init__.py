"""SEEING it: metrics on disk, progress on the terminal, figures, report.html.

matplotlib and tensorboardX are imported where they are used, so that
importing the package stays cheap.
"""

from proxyless_jax.report.figure import draw_architecture
from proxyless_jax.report.metrics import MetricsWriter, read_metrics
from proxyless_jax.report.progress import (
  Progress,
  format_seconds,
  format_value,
)
