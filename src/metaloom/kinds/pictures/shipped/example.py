"""Classify pictures with this bundle:  python example.py PICTURE…

Or let it learn classes of your own first:  python example.py --learn DIR PICTURE…   (DIR/cat/1.png, DIR/dog/1.png)
In a bundle of many tasks name the one whose classes are asked for:  python example.py --task NAME PICTURE…
Needs numpy, onnxruntime and pillow.
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

USAGE = "usage: python example.py [--learn DIR | --task NAME] PICTURE…"
HERE = Path(__file__).parent
about = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"]
SQUARES = {"pad": lambda picture, size: ImageOps.pad(picture, size, color="white"), "crop": ImageOps.fit}
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


def pixels(path, size=None):
    """One picture as a batch of raw pixels; in a given size where it is one of many."""
    picture = opened(path).convert("RGB" if about["channels"] == 3 else "L")
    if size:
        picture = SQUARES.get(about.get("fit"), Image.Image.resize)(picture, size)
    return np.asarray(picture).reshape(1, *picture.size[::-1], -1)


def learned(folder):
    """The pictures of a folder of classes as the graph takes them, and the names of the classes."""
    classes = sorted(each for each in Path(folder).glob("*") if each.is_dir() and each.name[0] != ".")
    files = [(path, way) for way, each in enumerate(classes) for path in sorted(each.glob("[!.]*"))]
    if len({way for _, way in files}) < 2 or len({way for _, way in files}) < len(classes):
        sys.exit(f"{folder} is no folder of two classes or more, each with pictures, such as {folder}/cat/1.png")
    support = np.concatenate([pixels(path, (about["image_size"],) * 2) for path, _ in files])
    return {"support_x": support, "support_y": np.array([way for _, way in files])}, [each.name for each in classes]


def shown(name):
    """A name in a line: whoever gave it may have put in what a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\xa0" else c.encode("unicode_escape").decode() for c in name)


def asked(option, value):
    """The graph to ask, its inputs beside the pictures, and the classes of its answers."""
    labels, inputs, name = json.loads((HERE / "labels.json").read_text(encoding="utf-8")), {}, "model.onnx"
    if option == "--learn":
        name, (inputs, labels) = "adapt.onnx", learned(value)
    elif isinstance(labels, dict):  # of a bundle of many tasks
        if value not in labels:
            sys.exit(f"{USAGE}\nlabels.json names the tasks, such as {shown(', '.join(list(labels)[:3]))}")
        name, inputs, labels = "fleet.onnx", {"task_id": np.array([list(labels).index(value)])}, labels[value]
    elif option:
        sys.exit("this bundle is of one task: leave out --task")
    if not (HERE / name).is_file():
        sys.exit(f"this bundle has no {name}: it cannot learn other classes")
    return onnxruntime.InferenceSession(HERE / name), inputs, labels


pictures = sys.argv[1:]
option = pictures.pop(0) if pictures[:1] in (["--learn"], ["--task"]) else None
value = pictures.pop(0) if option and pictures else None
if not pictures or pictures[0].startswith("--"):
    sys.exit(USAGE)
session, inputs, labels = asked(option, value)
(examples,) = {each.name for each in session.get_inputs()} - inputs.keys()
for path in pictures:
    probabilities, novelty = session.run(None, {**inputs, examples: pixels(path)})
    best = probabilities[0, : len(labels)].argmax()
    print(f"{shown(path)}\t{shown(labels[best])}\t{probabilities[0, best]:.3f}\tnovelty {novelty[0]:.1f}")
