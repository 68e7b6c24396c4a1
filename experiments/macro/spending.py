"""What a search costs, from the costs of its steps: sums, ratios and tables.

A result is that of `experiments.search_cost`.
"""

from __future__ import annotations

import statistics

import numpy as np

# Of the table of accuracies: epochs, and images of an epoch.
EPOCHS, IMAGES = 50, 50_000
SEVERAL, SCORE = "weight, several paths", "score"


def whole_search(result: dict) -> dict[str, dict]:
  """Seconds of whole runs and of the search's parts, and their memory.

  Args:
    result: with the parts `settings`, `search`, `steps` and `derive_s`.

  Returns:
    By run or part: median seconds; the search's time over this one's, as
    median, smallest and largest over the rounds; and the largest temporaries of
    its programs in MB.
  """
  search, steps = result["search"], result["steps"]
  seconds = {name: np.array(step["seconds"]) for name, step in steps.items()}
  batch = result["settings"]["batch"]
  warm_up = search["steps"] * seconds[SEVERAL]
  scored = search["paths"] * seconds[SCORE] / search["candidates"]
  whole = warm_up + scored + result["derive_s"]
  runs = {
    "search": (whole, [SEVERAL, SCORE]),
    "warm-up": (warm_up, [SEVERAL]),
    "losses of paths": (scored, [SCORE]),
    "deriving": (np.full_like(whole, result["derive_s"]), []),
    "plain, as many steps": (search["steps"] * seconds["plain"], ["plain"]),
    "plain, 50 epochs": (
      EPOCHS * IMAGES / batch * seconds["plain"],
      ["plain"],
    ),
    "dense, as many steps": (search["steps"] * seconds["dense"], ["dense"]),
  }
  return {
    name: {
      "seconds": float(np.median(spent)),
      "search_over_it": _spread(whole / spent),
      "temporaries_mb": max(
        (steps[program]["memory"]["temp_mb"] for program in programs),
        default=0.0,
      ),
    }
    for name, (spent, programs) in runs.items()
  }


def _spread(ratios) -> list[float]:
  """Median, smallest and largest."""
  return [float(f(ratios)) for f in (np.median, np.min, np.max)]


def tables_of(result: dict) -> str:
  """The tables in Markdown."""
  search, settings = result["search"], result["settings"]
  epochs = search["steps"] * settings["batch"] / search["images"]
  return "\n".join(
    [
      f"Steps on {settings['batch']} images, beside a training step of the "
      f"network that was found ({search['arch']}, {search['macs'] / 1e6:.1f} M "
      "MACs; the mean of all networks is "
      f"{search['mean_macs'] / 1e6:.1f}): medians of {settings['rounds']} "
      "rounds, in brackets the least and the most.",
      "",
      *_steps(result),
      "",
      f"The whole search: {search['steps']} weight steps, {epochs:.1f} epochs, "
      f"and the losses of {search['paths']} paths on {settings['scored']} "
      "images. Without compiling.",
      "",
      *_whole(result, epochs),
      "",
    ]
  )


def _steps(result: dict) -> list[str]:
  steps = result["steps"]
  head = ["step", "seconds", "time / plain", "temporaries, MB", "/ plain"]
  head += ["with weights and state, MB", "a process takes, MB"]
  lines = _begin([*head, "compiling, s"])
  plain = steps["plain"]
  for name, step in steps.items():
    of_round = np.array(step["seconds"]) / np.array(plain["seconds"])
    median, least, most = _spread(of_round)
    memory, taken = step["memory"], result.get(f"resident: {name}")
    cells = [
      f"{statistics.median(step['seconds']):.3g}",
      f"{median:.2f} ({least:.2f} to {most:.2f})",
      f"{memory['temp_mb']:.0f}",
      f"{memory['temp_mb'] / plain['memory']['temp_mb']:.2f}",
      f"{memory['peak_mb']:.0f}",
      f"{taken['added']:.0f} of {taken['peak']:.0f}" if taken else "–",
      f"{step['compile_s']:.0f}",
    ]
    lines.append(_line([name, *cells]))
  return lines


def _whole(result: dict, epochs: float) -> list[str]:
  whole = result["whole"]
  names = {
    "search": "the search",
    "warm-up": "– of it the warm-up",
    "losses of paths": "– of it the losses of paths",
    "deriving": "– of it deriving",
    "plain, as many steps": f"training the network, {epochs:.1f} epochs",
    "plain, 50 epochs": f"training the network, {EPOCHS} epochs of "
    f"{IMAGES:,} images",
    "dense, as many steps": f"dense search, {epochs:.1f} epochs",
  }
  lines = _begin(["run", "minutes", "the search / it", "temporaries, MB"])
  for key, name in names.items():
    row = whole[key]
    median, least, most = row["search_over_it"]
    of_it = key in ("search", "warm-up", "losses of paths", "deriving")
    ratio = f"{median:.2f} ({least:.2f} to {most:.2f})"
    lines.append(
      _line(
        [
          name,
          f"{row['seconds'] / 60:.3g}",
          "–" if of_it else ratio,
          f"{row['temporaries_mb']:.0f}" if row["temporaries_mb"] else "–",
        ]
      )
    )
  return lines


def _begin(head: list[str]) -> list[str]:
  return [_line(head), _line(["---"] * len(head))]


def _line(cells) -> str:
  return f"| {' | '.join(cells)} |"
