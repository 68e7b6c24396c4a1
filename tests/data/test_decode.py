import io
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from proxyless_jax.data.augment import pixels
from proxyless_jax.data.decode import EncodedImage, as_channels, decode_image

GRADIENT = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
NOISE = np.random.default_rng(0).integers(0, 256, (75, 101, 3), np.uint8)


def decoded(data, channels):
  return pixels(decode_image(data, channels))


def encoded(image, form="PNG", **kwargs):
  file = io.BytesIO()
  image.save(file, form, **kwargs)
  return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  ("mode", "form"),
  [
    ("1", "PNG"),
    ("L", "PNG"),
    ("LA", "PNG"),
    ("P", "PNG"),
    ("RGB", "PNG"),
    ("RGBA", "PNG"),
    ("L", "JPEG"),
    ("RGB", "JPEG"),
    ("CMYK", "JPEG"),
    ("RGB", "BMP"),
    ("RGBA", "BMP"),
    ("RGB", "GIF"),
    ("CMYK", "TIFF"),
    ("RGBA", "TIFF"),
    ("L", "TIFF"),
    ("RGB", "WEBP"),
    ("RGBA", "WEBP"),
  ],
)
def test_every_mode_becomes_the_channels(mode, form, channels):
  image = Image.fromarray(GRADIENT).convert(mode)
  options = {"lossless": True} if form == "WEBP" else {"quality": 100}
  values = decoded(encoded(image, form, **options), channels)
  assert values.shape == (8, 6, channels)
  assert values.dtype == np.uint8
  if mode not in ("1", "P") and form != "GIF":
    wanted = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    difference = values.astype(int) - wanted.reshape(values.shape)
    assert np.abs(difference).max() <= (8 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_keeps_the_high_byte(form):
  grey = (np.arange(48, dtype=np.uint16) * 1300).reshape(6, 8)
  values = decoded(encoded(Image.fromarray(grey), form), 3)
  np.testing.assert_array_equal(values[..., 0], grey >> 8)
  np.testing.assert_array_equal(values[..., 2], grey >> 8)


@pytest.mark.parametrize(
  ("array", "match"),
  [
    (np.linspace(0, 1, 12, dtype=np.float32), "pixels are floats: convert"),
    (np.arange(12, dtype=np.int32) * 9999, "pixels have 32 bits: convert"),
  ],
)
def test_pixels_of_unknown_range_are_refused(array, match):
  # Of floats in 0..1, Pillow would make black.
  data = encoded(Image.fromarray(array.reshape(3, 4)), "TIFF")
  with pytest.raises(ValueError, match=match):
    decoded(data, 3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(form):
  first, second = (Image.new("RGB", (6, 5), (v, 0, 0)) for v in (200, 90))
  options = {"lossless": True} if form == "WEBP" else {}
  data = encoded(first, form, save_all=True, append_images=[second], **options)
  assert (decoded(data, 3)[..., 0] == 200).all()


def test_palette_with_transparency(recwarn):
  image = Image.fromarray(GRADIENT).quantize(8)
  file = encoded(image, transparency=bytes(range(8)))
  values = decoded(file, 3)
  np.testing.assert_array_equal(values, np.asarray(image.convert("RGB")))
  assert not recwarn


# What each orientation of EXIF asks for, of arrays [h, w, c].
UPRIGHT = {
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: x[::-1].swapaxes(0, 1),
  7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
  8: lambda x: x[:, ::-1].swapaxes(0, 1),
}
XMP_FORMS = {
  "attribute": b'<rdf:Description tiff:Orientation="%d"/>',
  "single quotes": b"<rdf:Description tiff:Orientation = '%d'/>",
  "element": b"<tiff:Orientation>%d</tiff:Orientation>",
}
RATIONAL = struct.pack(">ii", -1, 1)


def app1(content):
  """A segment of a JPEG."""
  return b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content


def with_segments(jpeg, *segments):
  return jpeg[:2] + b"".join(segments) + jpeg[2:]


def xmp_packet(form, orientation):
  return b"<x:xmpmeta>" + XMP_FORMS[form] % orientation + b"</x:xmpmeta>"


def exif_content(*entries):
  """EXIF of (tag, type, count, value), as cameras write it and Pillow not."""
  values, at = b"", 8 + 2 + 12 * len(entries) + 4
  directory = struct.pack(">H", len(entries))
  for tag, kind, count, value in entries:
    if len(value) > 4:
      values, value = values + value, struct.pack(">I", at + len(values))
    directory += struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0")
  head = b"Exif\0\0MM\0*" + (8).to_bytes(4, "big")
  return head + directory + bytes(4) + values


def exif_orientation(orientation):
  return (0x0112, 3, 1, struct.pack(">H", orientation))


def check_turned(data, orientation, form="JPEG"):
  """That sizes, crops and pixels are those of the image turned upright."""
  plain = decode_image(encoded(Image.fromarray(NOISE), form), 3)
  wanted = UPRIGHT[orientation](np.asarray(plain))
  image = EncodedImage(data, 3, "photo 7")
  assert (image.height, image.width) == wanted.shape[:2]
  np.testing.assert_array_equal(pixels(image.decoded), wanted)
  image = EncodedImage(data, 3, "photo 7")
  crop = pixels(image.crop((5, 6, 60, 40)))
  np.testing.assert_array_equal(crop, wanted[6:40, 5:60])


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", XMP_FORMS)
def test_orientation_of_xmp(form, orientation):
  jpeg = encoded(Image.fromarray(NOISE), "JPEG")
  packet = xmp_packet(form, orientation)
  header = b"http://ns.adobe.com/xap/1.0/\0"
  data = with_segments(jpeg, app1(header + packet))
  check_turned(data, orientation)
  # An upright photo keeps its quick crops, whatever else is in its XMP.
  plain = EncodedImage(data, 3, "photo 7")._frame is not None
  assert plain == (orientation == 1)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_exif(orientation):
  jpeg = encoded(Image.fromarray(NOISE), "JPEG")
  segment = app1(exif_content(exif_orientation(orientation)))
  check_turned(with_segments(jpeg, segment), orientation)
  # EXIF is before XMP, as in browsers.
  xmp = app1(b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet("element", 3))
  check_turned(with_segments(jpeg, segment, xmp), orientation)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_in_other_formats(form, orientation):
  options = {"lossless": True} if form == "WEBP" else {}
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encoded(Image.fromarray(NOISE), form, exif=exif, **options)
  check_turned(data, orientation, "PNG")


def test_orientation_of_xmp_in_a_png():
  info = PngImagePlugin.PngInfo()
  packet = xmp_packet("attribute", 8).decode()
  info.add_itxt("XML:com.adobe.xmp", packet)
  data = encoded(Image.fromarray(NOISE), pnginfo=info)
  check_turned(data, 8, "PNG")


@pytest.mark.parametrize(
  "odd",
  [
    (0x011A, 10, 1, RATIONAL),  # XResolution of -1/1.
    (0x0100, 2, 5, b"4000\0"),  # ImageWidth as text.
    (0x8769, 2, 3, b"no\0"),  # The place of the next directory as text.
    (0x0132, 9, 1, b"\xff\xff\xff\xff"),  # DateTime as -1.
  ],
)
def test_odd_exif_beside_an_orientation(odd):
  entries = sorted([exif_orientation(6), odd])
  jpeg = encoded(Image.fromarray(NOISE), "JPEG")
  check_turned(with_segments(jpeg, app1(exif_content(*entries))), 6)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
  "content", [b"Exif\0\0", b"Exif\0\0nonsense", exif_content()[:12]]
)
def test_exif_that_cannot_be_parsed_leaves_xmp(content):
  jpeg = encoded(Image.fromarray(NOISE), "JPEG")
  check_turned(with_segments(jpeg, app1(content)), 1)
  xmp = app1(b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet("element", 6))
  check_turned(with_segments(jpeg, app1(content), xmp), 6)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_unknown_orientation_is_upright(value):
  jpeg = encoded(Image.fromarray(NOISE), "JPEG")
  segment = app1(exif_content(exif_orientation(value)))
  check_turned(with_segments(jpeg, segment), 1)


@pytest.mark.parametrize("kind", ["icc", "zTXt", "iTXt", "iTXt of XMP"])
def test_png_with_more_than_1_mb_beside_its_pixels(kind):
  info, text, options = PngImagePlugin.PngInfo(), "x" * 2**21, {}
  # The orientation, which stands in a short text beside it, stays.
  packet = xmp_packet("attribute", 6).decode()
  info.add_itxt("XML:com.adobe.xmp", packet, zip=True)
  if kind == "icc":
    options["icc_profile"] = NOISE.tobytes() * 60
  elif kind == "zTXt":
    info.add_text("Comment", text, zip=True)
  else:
    keyword = "XML:com.adobe.xmp" if kind.endswith("XMP") else "Comment"
    info.add_itxt(keyword, text, zip=True)
  data = encoded(Image.fromarray(NOISE), pnginfo=info, **options)
  check_turned(data, 6, "PNG")


def test_png_with_a_damaged_text():
  info = PngImagePlugin.PngInfo()
  info.add_text("Comment", "abc")
  data = encoded(Image.fromarray(NOISE), pnginfo=info)
  np.testing.assert_array_equal(decoded(data.replace(b"abc", b"abd"), 3), NOISE)
  with pytest.raises(Exception, match=r"broken|truncated"):
    decoded(data[:-3000], 3)


def test_as_channels_agrees_with_pillow():
  images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), np.uint8)
  grey = as_channels(images, 1)
  wanted = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
  np.testing.assert_array_equal(grey[..., 0], wanted)
  np.testing.assert_array_equal(as_channels(grey, 3)[..., 1], grey[..., 0])
  assert as_channels(images, 3) is images


def encoded_image(mode="RGB", form="JPEG", channels=3, **kwargs):
  image = Image.fromarray(NOISE).convert(mode)
  data = encoded(image, form, **kwargs)
  return EncodedImage(data, channels, "photo 7")


@pytest.mark.parametrize(
  ("kwargs", "plain"),
  [
    ({"subsampling": 0}, True),
    ({"subsampling": 1}, True),
    ({"subsampling": 2}, True),
    ({"subsampling": 2, "restart_marker_rows": 1}, True),
    ({"subsampling": 2, "quality": 100, "optimize": True}, True),
    ({"mode": "L"}, True),
    ({"mode": "L", "channels": 1}, True),
    ({"channels": 1}, True),
    ({"mode": "CMYK"}, True),
    ({"progressive": True}, False),
    ({"form": "PNG"}, False),
    ({"mode": "LA", "form": "PNG"}, False),
  ],
)
def test_a_crop_is_that_of_the_whole_image(kwargs, plain):
  image = encoded_image(**kwargs)
  assert (image._frame is not None) == plain
  assert (image.height, image.width) == (75, 101)
  whole = decode_image(image.data, image.channels)
  for bottom in range(2, 76):
    box = (bottom % 7, bottom // 3, 101 - bottom % 5, bottom)
    cropped = encoded_image(**kwargs).crop(box)
    assert cropped.mode == whole.mode
    np.testing.assert_array_equal(cropped, whole.crop(box))


def test_rows_below_a_crop_are_not_decoded(monkeypatch):
  image = encoded_image()
  sizes = []
  load = Image.Image.crop
  monkeypatch.setattr(
    Image.Image, "crop", lambda i, box: (sizes.append(i.size), load(i, box))[1]
  )
  image.crop((0, 0, 50, 30))
  image.crop((0, 0, 50, 70))
  assert sizes == [(101, 38), (101, 75)]


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 20, 160, 400, 640])
def test_damaged_files_are_named(kept):
  image = encoded_image()
  damaged = EncodedImage(image.data[:kept], 3, "photo 7")
  reason = ".*" if kept else r", but it cannot be read \(empty file\)"
  match = rf"^photo 7: expected an image{reason}; restore it in data\.path,"
  with pytest.raises(ValueError, match=match):
    damaged.crop((0, 0, 20, 30))
  with pytest.raises(ValueError, match=match):
    _ = damaged.decoded


def test_what_is_no_image_is_shown_and_no_object():
  image = EncodedImage(b"<html>not found", 3, "photo 7")
  with pytest.raises(
    ValueError, match="it begins with b'<html>not fo'"
  ) as error:
    _ = image.decoded
  assert "BytesIO" not in str(error.value)
