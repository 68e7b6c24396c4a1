"""No two texts of a figure overlap, and none leaves it."""

import itertools

from matplotlib.text import Text

# Of a pixel: boxes of texts are whole pixels.
LIMIT = 0.5


def check_texts(figure):
  """Raises an AssertionError for texts that overlap, or leave the figure."""
  renderer = figure.canvas.get_renderer()
  texts = [
    (text.get_text(), text.get_window_extent(renderer))
    for text in figure.findobj(Text)
    if text.get_visible() and text.get_text().strip()
  ]
  assert texts
  for text, box in texts:
    inside = (
      min(box.x0, box.y0) > -LIMIT
      and box.x1 < figure.bbox.width + LIMIT
      and box.y1 < figure.bbox.height + LIMIT
    )
    assert inside, f"{text!r} leaves the figure"
  for (one, a), (other, b) in itertools.combinations(texts, 2):
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    assert min(wide, high) < LIMIT, f"{one!r} overlaps {other!r}"
