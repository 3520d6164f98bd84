"""Classify pictures with model.plain.onnx, as on a device:  python plain.py PICTURE…

`prepared` is what has to be done there before the graph is asked; the rest is onnxruntime's. Needs numpy, onnxruntime
and pillow.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
about = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"]


def pixels(path):
    """Raw pixels (height, width, channel), on white, where a transparent picture's one light colour is black."""
    picture = Image.open(path).convert("RGBA")
    opacity = np.asarray(picture)[..., 3]
    seen = np.asarray(picture)[opacity > 0, :3]
    if opacity.min() < 255 and len(seen) and (seen == seen[0]).all() and seen[0].min() >= 192:
        picture = ImageOps.invert(picture.getchannel("A")).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    colours = picture.convert("RGB" if about["channels"] == 3 else "L")
    return np.asarray(colours).reshape(*picture.size[::-1], -1)


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


if __name__ == "__main__":
    labels = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(HERE / "model.plain.onnx")
    for path in sys.argv[1:]:
        probabilities, novelty = session.run(None, {"prepared": prepared(pixels(path))})
        best = probabilities[0].argmax()
        print(f"{path}\t{labels[best]}\t{probabilities[0, best]:.3f}\tnovelty {novelty[0]:.1f}")
