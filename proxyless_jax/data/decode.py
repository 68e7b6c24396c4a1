"""From the bytes of an image file to a Pillow image.

Conventions: the orientation that EXIF, or else XMP, gives is applied; palettes
become colours; alpha is dropped, as the field's loaders do; 16-bit grey keeps
its high byte; CMYK becomes RGB; of an animation, the first frame is taken.
Images stay Pillow's until they are cropped and resized: each way to an array
and back would be a copy of all pixels.

Most of the time of an ImageNet batch goes into decoding, and a random crop
needs no rows below it. `EncodedImage` lets the decoder stop there.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from PIL.Image import Image as Picture

MODES = {1: "L", 3: "RGB"}
EXIF_ORIENTATION = 0x0112
XMP_ORIENTATION = re.compile(
  rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])"""
)
EMPTY = "empty file"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes that a text of a PNG may unpack to: Pillow refuses files with more.
PNG_TEXT_LIMIT = 2**20
# Rows decoded below a crop: colours are interpolated from up to two rows of an
# image of half, or a quarter, of the height.
CONTEXT_ROWS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImage:
  """The bytes of an image file, decoded when its pixels are needed.

  Attributes:
    data: bytes of the file.
    channels: 1 for grey, 3 for RGB.
    title: name of the image in errors.
  """

  data: bytes
  channels: int
  title: str

  @property
  def height(self) -> int:
    """Height in pixels, upright; decodes files that are not plain JPEG."""
    return self._frame.height if self._frame else self.decoded.height

  @property
  def width(self) -> int:
    """Width in pixels, upright; decodes files that are not plain JPEG."""
    return self._frame.width if self._frame else self.decoded.width

  @functools.cached_property
  def decoded(self) -> Picture:
    """The Pillow image.

    Raises:
      ValueError: the file cannot be read; names it.
    """
    return self._decode(self.data)

  def crop(self, box: tuple[int, int, int, int]) -> Picture:
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
      return decode_image(data, self.channels)
    except Exception as error:
      reason = _reason(data, error)
      raise unreadable(self.title, "an image", reason) from error


def unreadable(title: object, expected: str, reason: object) -> ValueError:
  """The error, in one line, for data that have gone or are damaged.

  Args:
    title: name of the file or folder.
    expected: what it should be, such as "an image".
    reason: why it cannot be read: an error, or a text.
  """
  reason = _one_line(reason)
  return ValueError(
    f"{title}: expected {expected}, but it cannot be read ({reason}); restore"
    " it in data.path, and the same command continues"
  )


def problem(data: bytes, channels: int) -> str | None:
  """Why the bytes of a file cannot be decoded, in a few words, or None."""
  try:
    decode_image(data, channels)
  except Exception as error:
    return _reason(data, error)
  return None


def decode_image(data: bytes, channels: int) -> Picture:
  """Decodes an image file of any format that Pillow reads.

  Args:
    data: bytes of the file.
    channels: 1 for grey, 3 for RGB.

  Returns:
    A Pillow image of mode L or RGB, upright; `np.asarray` gives its uint8
    pixels.

  Raises:
    Exception: whatever Pillow raises for bytes that it cannot read; callers
      add the name of the file.
  """
  try:
    return _decoded(data, channels)
  except Exception:
    if not data.startswith(PNG_SIGNATURE):
      raise
  # Pillow refuses a PNG for chunks beside its pixels, such as a large profile.
  return _decoded(_bare_png(data), channels)


def as_channels(images: np.ndarray, channels: int) -> np.ndarray:
  """Converts uint8[..., 1 or 3] to uint8[..., channels]."""
  if images.shape[-1] == channels:
    return images
  if channels == 3:
    return np.repeat(images, 3, axis=-1)
  # ITU-R 601, as Pillow converts to grey, so that all sources agree.
  weights = np.array([19595, 38470, 7471], np.uint32)
  grey = (images @ weights + 0x8000) >> 16
  return grey[..., None].astype(np.uint8)


def _reason(data, error):
  """Why bytes are no image, for people."""
  from PIL import UnidentifiedImageError

  if not data:
    return EMPTY
  if isinstance(error, UnidentifiedImageError):
    return f"no image, or a damaged one; it begins with {data[:12]!r}"
  return _one_line(error)


def _one_line(text):
  return " ".join(str(text).split())


def _decoded(data, channels):
  from PIL import Image

  turns = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
  }
  with Image.open(io.BytesIO(data)) as image:
    image.load()
    turn = turns.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    return _converted(upright, MODES[channels])


def _orientation(image):
  """The orientation of a loaded Pillow image by EXIF's numbers; 1 is upright.

  Pillow's `exif_transpose` also writes all other tags again, fails for unusual
  ones, and does not know all forms of XMP.
  """
  if image.format == "TIFF":
    return 1  # Pillow turned it as it loaded it.
  try:
    found = image.getexif().get(EXIF_ORIENTATION)
  except Exception:  # Whatever Pillow raises for EXIF that it cannot parse.
    found = None
  if found in range(1, 9):
    return int(found)
  # The first of these keys is PNG's, and its value a str.
  xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
  return _xmp_orientation(xmp.encode() if isinstance(xmp, str) else xmp)


def _xmp_orientation(packet):
  match = XMP_ORIENTATION.search(packet)
  return int(match[1]) if match else 1


def _bare_png(data):
  """The PNG with only the chunks of its pixels and of their orientation.

  A chunk is a length, a type, the content and a checksum (the PNG
  specification, section 5.3); types of critical chunks begin with a capital.
  """
  kept, offset = [PNG_SIGNATURE], len(PNG_SIGNATURE)
  while offset < len(data):
    end = offset + 12 + int.from_bytes(data[offset : offset + 4])
    kind, content = data[offset + 4 : offset + 8], data[offset + 8 : end - 4]
    of_pixels = kind[:1].isupper() or kind in (b"tRNS", b"eXIf")
    if of_pixels or _may_turn(kind, content):
      kept.append(data[offset:end])
    offset = end
  return b"".join(kept)


def _may_turn(kind, content):
  """Whether a text chunk may hold an orientation, and Pillow accepts it."""
  keyword, _, rest = content.partition(b"\0")
  if keyword not in (b"XML:com.adobe.xmp", b"Raw profile type exif"):
    return False
  if kind == b"zTXt":
    packed = rest[1:]
  elif kind == b"iTXt" and rest[:1] == b"\1":
    packed = rest[2:].split(b"\0", 2)[-1]
  else:
    return True
  unpacking = zlib.decompressobj()
  try:
    unpacking.decompress(packed, PNG_TEXT_LIMIT)
  except zlib.error:
    return False
  return not unpacking.unconsumed_tail


def _converted(image, mode):
  """A Pillow image of any mode in mode L or RGB."""
  from PIL import Image

  if image.mode == "F":
    raise ValueError("pixels are floats: convert it to 8 or 16 bits a channel")
  if image.mode.startswith("I"):
    # Pillow would clip 16 bits at 255.
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() >= 2**16:
      raise ValueError("pixels have 32 bits: convert it to 8 or 16 a channel")
    image = Image.fromarray((grey >> 8).astype(np.uint8))
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
  """The frame header of a JPEG: its position, and the size of the image."""

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
    after = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4])
    if start in (b"Exif\0\0", b"MPF\0II", b"MPF\0MM"):
      return None  # It may be turned, or hold several images.
    if marker == 0xE1 and _xmp_orientation(data[offset:after]) != 1:
      return None
    if marker in (0xC0, 0xC1):
      height, width = (int.from_bytes(start[i : i + 2]) for i in (1, 3))
      frame, components = _Frame(offset, height, width), start[5]
    elif marker == 0xDA:
      whole = frame and frame.height and start[0] == components
      return frame if whole else None
    offset = after
  return None


def _shortened(data, frame, height):
  """The same file with another height: the decoder stops after these rows."""
  at = frame.offset + 5
  return data[:at] + height.to_bytes(2) + data[at + 2 :]
