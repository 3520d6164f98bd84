"""Classify pictures with model.plain.onnx, as on a device:  python plain.py PICTURE…

`prepared` is what has to be done there before the graph is asked; the rest is onnxruntime's. Needs numpy, onnxruntime
and pillow.
"""

import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
about = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"]
ORIENTATION = 0x0112  # of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, RuntimeError)
DAMAGED += (struct.error, zlib.error, Image.DecompressionBombError)  # what Pillow raises on damaged files


def opened(path):
    """A picture as Pillow has it: upright, 8 bits per channel, on white, where a light shape alone is drawn black."""
    try:
        picture = Image.open(io.BytesIO(Path(path).read_bytes()))
        picture.load()
    except DAMAGED as error:
        sys.exit(f"{path} cannot be read: {error}")
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except (*DAMAGED, AttributeError):  # damaged data about the picture: its pixels are whole
        turn = None
    picture = picture if turn is None else picture.transpose(turn)
    if picture.mode == "F":
        sys.exit(f"{path} has floating-point numbers as pixels: save it with 8 or 16 bits per channel")
    if picture.mode.startswith("I"):
        wide = np.asarray(picture).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if "transparency" not in picture.info and picture.mode not in ("LA", "PA", "RGBA", "La", "RGBa"):
        return picture
    picture = picture.convert("RGBA")
    opacity = np.asarray(picture)[..., 3]
    seen = np.asarray(picture)[opacity > 0, :3]
    if opacity.min() < 255 and len(seen) and (seen == seen[0]).all() and seen[0].min() >= 192:
        return ImageOps.invert(picture.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def pixels(path):
    """Raw pixels (height, width, channel)."""
    picture = opened(path).convert("RGB" if about["channels"] == 3 else "L")
    return np.asarray(picture).reshape(*picture.size[::-1], -1)


def prepared(raw):
    """Raw pixels as the graph takes them: one square picture, float32, (1, channel, height, width)."""
    size, fit, (height, width) = about["image_size"], about.get("fit"), raw.shape[:2]
    raw = 255 - raw if about.get("inverted") else raw
    down, first = (size, size), (0, 0)
    if fit == "crop":
        least = min(height, width)
        top, left = (height - least) // 2, (width - least) // 2
        raw = raw[top : top + least, left : left + least]
    if fit == "pad":
        most = max(height, width)
        down = tuple(max((2 * side * size + most) // (2 * most), 1) for side in (height, width))
        first = tuple((size - side) // 2 for side in down)
    square = np.full((1, raw.shape[2], size, size), 255, np.float32)
    rows, columns = weights(raw.shape[0], down[0]), weights(raw.shape[1], down[1])
    resized = rows @ raw.transpose(2, 0, 1).astype(np.float64) @ columns.T
    square[0, :, first[0] : first[0] + down[0], first[1] : first[1] + down[1]] = np.rint(np.clip(resized, 0, 255))
    return square


def weights(n_in, n_out):
    """Of the pixels of a side (columns) in those that they become (rows): a triangle as wide as two of the larger."""
    distance = np.abs((2 * np.arange(n_in) + 1) * n_out - (2 * np.arange(n_out)[:, None] + 1) * n_in)
    weight = np.maximum(0, 2 * max(n_in, n_out) - distance)
    total = weight.sum(axis=1, keepdims=True)
    return ((weight << 21) + total) // (2 * total) / 2.0**20


def shown(name):
    """A name in a line: whoever gave it may have put in what a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\xa0" else c.encode("unicode_escape").decode() for c in name)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python plain.py PICTURE…")
    labels = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(HERE / "model.plain.onnx")
    for path in sys.argv[1:]:
        probabilities, novelty = session.run(None, {"prepared": prepared(pixels(path))})
        best = probabilities[0].argmax()
        print(f"{shown(path)}\t{shown(labels[best])}\t{probabilities[0, best]:.3f}\tnovelty {novelty[0]:.1f}")
