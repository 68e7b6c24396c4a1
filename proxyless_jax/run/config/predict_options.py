"""The section `predict` of a config."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
  """The classification of images by the network of a run that has ended.

  Attributes:
    images: folder, whose images at any depth are classified; or a file, or a
      pattern such as 'photos/*.jpg', where ** stands for folders.
    out: path of the CSV file to write, whose name ends in .csv; a relative one
      is in the workdir.
  """

  images: str = ""
  out: str = "predictions.csv"

  def __post_init__(self) -> None:
    if not self.out.endswith(".csv"):
      raise ValueError(
        f"predict.out = {self.out!r}: expected a path that ends in .csv"
      )
