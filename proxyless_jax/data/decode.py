"""From the bytes of an image file to a Pillow image: conventions.

Conventions: the EXIF orientation is applied; palettes become colours; alpha is
dropped, as the field's loaders do; 16-bit grey keeps its high byte; CMYK
becomes RGB. Images stay Pillow's until they are cropped and resized: each way
to an array and back would be a copy of all pixels.

Most of the time of an ImageNet batch goes into decoding, and a random crop
needs no rows below it. `EncodedImage` lets the decoder stop there.
"""

import dataclasses
import functools
import io

import numpy as np

MODES = {1: "L", 3: "RGB"}
# Below a crop: colours are interpolated from up to two rows of a half, or a
# quarter, of the height.
CONTEXT_ROWS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImage:
  """The bytes of an image file, decoded when its pixels are needed.

  Attributes:
    data: of the file.
    channels: 1 for grey, 3 for RGB.
    title: what to call it if it cannot be read.
  """

  data: bytes
  channels: int
  title: str

  @property
  def height(self):
    """In pixels, upright; decodes files that are not plain JPEG."""
    return self._frame.height if self._frame else self.decoded.height

  @property
  def width(self):
    """In pixels, upright; decodes files that are not plain JPEG."""
    return self._frame.width if self._frame else self.decoded.width

  @functools.cached_property
  def decoded(self):
    """The Pillow image; a ValueError names a file that cannot be read."""
    return self._decode(self.data)

  def crop(self, box):
    """The Pillow image of a box (left, top, right, bottom) in whole pixels."""
    height = box[3] + CONTEXT_ROWS
    if not self._frame or height >= self._frame.height:
      return self.decoded.crop(box)
    return self._decode(_shortened(self.data, self._frame, height)).crop(box)

  @functools.cached_property
  def _frame(self):
    return _plain_frame(self.data)

  def _decode(self, data):
    try:
      return decode_image(io.BytesIO(data), self.channels)
    except Exception as error:
      raise unreadable(self.title, "a JPEG or PNG image", error) from error


def unreadable(title, expected, reason):
  """The ValueError, of one line, for data that vanished or are damaged."""
  reason = " ".join(str(reason).split())
  return ValueError(
    f"{title}: expected {expected}, but it cannot be read ({reason}); restore"
    " it in data.path, and the same command goes on"
  )


def decode_image(file, channels):
  """Decodes a JPEG or PNG file.

  Args:
    file: a path or a binary file object.
    channels: 1 for grey, 3 for RGB.

  Returns:
    A Pillow image of mode L or RGB; `np.asarray` gives its uint8 pixels.

  Raises:
    Exception: whatever Pillow raises for bytes that it cannot read; the
      caller knows where they are from, and says so.
  """
  from PIL import Image, ImageOps

  with Image.open(file) as image:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return _converted(image, MODES[channels])


def as_channels(images, channels):
  """Converts uint8[..., 1 or 3] to uint8[..., channels]."""
  if images.shape[-1] == channels:
    return images
  if channels == 3:
    return np.repeat(images, 3, axis=-1)
  # ITU-R 601, as Pillow converts to grey, so that all sources agree.
  weights = np.array([19595, 38470, 7471], np.uint32)
  grey = (images @ weights + 0x8000) >> 16
  return grey[..., None].astype(np.uint8)


def _converted(image, mode):
  """A Pillow image of any mode in mode L or RGB."""
  from PIL import Image

  if image.mode.startswith("I"):
    # Pillow would clip 16 bits at 255.
    grey = np.asarray(image).astype(np.int64) >> 8
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
  elif image.mode in ("1", "LA"):
    image = image.convert("L")
  elif image.mode in ("P", "PA"):
    # Through RGBA: Pillow warns of palettes with transparency otherwise.
    image = image.convert("RGBA").convert("RGB")
  elif image.mode not in ("L", "RGB"):
    image = image.convert("RGB")
  return image if image.mode == mode else image.convert(mode)


@dataclasses.dataclass(frozen=True)
class _Frame:
  """The frame header of a JPEG: where it is, and the size that it tells."""

  offset: int
  height: int
  width: int


def _plain_frame(data):
  """The `_Frame` of an upright, sequential JPEG of one scan, or None.

  The layout is that of ITU-T T.81, annex B: segments of a marker and a length;
  SOF0 and SOF1 hold height and width, SOS begins the scan.
  """
  if data[:2] != b"\xff\xd8":
    return None
  frame, offset = None, 2
  while offset + 10 <= len(data) and data[offset] == 0xFF:
    marker, start = data[offset + 1], data[offset + 4 : offset + 10]
    if start in (b"Exif\0\0", b"MPF\0II", b"MPF\0MM"):
      return None  # It may be turned, or hold several images.
    if marker in (0xC0, 0xC1):
      height, width = (int.from_bytes(start[i : i + 2]) for i in (1, 3))
      frame, components = _Frame(offset, height, width), start[5]
    elif marker == 0xDA:
      whole = frame and frame.height and start[0] == components
      return frame if whole else None
    offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
  return None


def _shortened(data, frame, height):
  """The same file with another height: the decoder stops after these rows."""
  at = frame.offset + 5
  return data[:at] + height.to_bytes(2) + data[at + 2 :]
