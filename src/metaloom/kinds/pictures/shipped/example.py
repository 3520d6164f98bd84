"""Classify pictures with this bundle:  python example.py PICTURE…

Or let it learn classes of your own first:  python example.py --learn DIR PICTURE…   (DIR/cat/1.png, DIR/dog/1.png)
Needs numpy, onnxruntime and pillow.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
about = json.loads((HERE / "metadata.json").read_text(encoding="utf-8"))["input"]
SQUARES = {"pad": lambda picture, size: ImageOps.pad(picture, size, color="white"), "crop": ImageOps.fit}


def pixels(path, size=None):
    """One picture as a batch of raw pixels, on white, where a transparent picture's one light colour is black."""
    picture = Image.open(path).convert("RGBA")
    opacity = np.asarray(picture)[..., 3]
    seen = np.asarray(picture)[opacity > 0, :3]
    if opacity.min() < 255 and len(seen) and (seen == seen[0]).all() and seen[0].min() >= 192:
        picture = ImageOps.invert(picture.getchannel("A")).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if size:  # of one batch all pictures have one size
        picture = SQUARES.get(about.get("fit"), Image.Image.resize)(picture, size)
    return np.asarray(picture.convert("RGB" if about["channels"] == 3 else "L")).reshape(1, *picture.size[::-1], -1)


pictures, inputs, labels = sys.argv[1:], {}, json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(HERE / ("adapt.onnx" if pictures[:1] == ["--learn"] else "model.onnx"))
if pictures[:1] == ["--learn"]:
    classes, pictures = sorted(folder for folder in Path(pictures[1]).iterdir() if folder.is_dir()), pictures[2:]
    files = [(path, way) for way, folder in enumerate(classes) for path in sorted(folder.iterdir())]
    support = np.concatenate([pixels(path, (about["image_size"],) * 2) for path, _ in files])
    inputs, labels = {"support_x": support, "support_y": np.array([way for _, way in files])}, [c.name for c in classes]
for path in pictures:
    probabilities, novelty = session.run(None, {**inputs, session.get_inputs()[-1].name: pixels(path)})
    best = probabilities[0].argmax()
    print(f"{path}\t{labels[best]}\t{probabilities[0, best]:.3f}\tnovelty {novelty[0]:.1f}")
