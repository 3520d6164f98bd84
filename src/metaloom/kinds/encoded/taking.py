"""What an encoder of pictures takes, and how it comes to take packed ones: uint8 (batch, size, size, channel)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from metaloom.config import EncoderSettings
from metaloom.errors import MetaloomError
from metaloom.kinds.encoded.encoder import EMBEDDING, PICTURES
from metaloom.kinds.encoded.file import opened
from metaloom.kinds.encoded.grafting import renamed

SIZE, CHANNELS = 224, (1, 3)  # where a file leaves its size open; channels that pictures have
LARGEST = 1024  # pixels of a side, as of encoder.size
LAYOUTS = {"NCHW": (1, 2, 3), "NHWC": (3, 1, 2)}  # places of channels, height and width


class Taking(NamedTuple):
    """What an encoder takes: the name of its input, pixels of a side, channels, and their place."""

    name: str
    size: int
    channels: int
    layout: str


def taking_of(settings: EncoderSettings, model: onnx.ModelProto | None = None) -> Taking:
    """What an encoder takes: as its file says, and the settings where the file leaves something open.

    Args:
        settings: with a file.
        model: the file's, where it has been read already.

    Raises:
        MetaloomError: it has no input for pictures.
    """
    file = str(settings.file)
    value = _only_input((model or opened(file)).graph, file)
    sizes = [each.dim_value for each in value.type.tensor_type.shape.dim]  # 0 where it is open
    layout = settings.layout or _layout(sizes)
    if len(sizes) != len(LAYOUTS) + 2 or layout is None:
        raise MetaloomError(
            f"{file}: its input {value.name} is {shape_of(value)}, which is not understood: four axes are, of which "
            "encoder.layout says which has the channels, NCHW or NHWC"
        )
    channels, height, width = (sizes[place] for place in LAYOUTS[layout])
    if max(height, width) > LARGEST or min(sizes) < 0:
        raise MetaloomError(
            f"{file}: its input {value.name} is {shape_of(value)}: pictures have 1 to {LARGEST} pixels a side"
        )
    size, channels = settings.size or height or width or SIZE, channels or CHANNELS[-1]
    if channels not in CHANNELS or {height, width} - {0, size}:
        raise MetaloomError(
            f"{file}: its input {value.name} is {shape_of(value)}, which as {layout} does not take squares of {size} "
            "pixels with 1 or 3 channels: look at encoder.layout and encoder.size"
        )
    _check_normalisation(settings, channels)
    return Taking(value.name, size, channels, layout)


def _only_input(graph: onnx.GraphProto, file: str) -> onnx.ValueInfoProto:
    found = inputs(graph)
    if len(found) != 1 or found[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        shown = ", ".join(f"{each.name} ({type_of(each)})" for each in found) or "none"
        raise MetaloomError(
            f"{file} has the inputs {shown}: an encoder of pictures has one, of float32, and one of texts has ids and "
            "a mask, of whole numbers, and its tokenizer"
        )
    return found[0]


def _check_normalisation(settings: EncoderSettings, channels: int) -> None:
    for name in ("mean", "deviation"):
        if len(getattr(settings, name)) not in (1, channels):
            raise MetaloomError(
                f"encoder.{name} has {len(getattr(settings, name))} numbers: give one for each of the "
                f"{channels} channels that {settings.file} takes, or one for all"
            )


def from_pixels(model: onnx.ModelProto, settings: EncoderSettings, taking: Taking) -> None:
    """The encoder takes packed pictures and gives `EMBEDDING`, in place.

    Raises:
        MetaloomError: it has no such output, or several.
    """
    graph, output = model.graph, output_of(model.graph, settings).name
    renamed(graph, lambda name: EMBEDDING if name == output else f"net.{name}")
    given, (factor, shift) = f"net.{taking.name}", _scaling(settings)
    graph.initializer.extend(
        [numpy_helper.from_array(factor, "pixel.factor"), numpy_helper.from_array(shift, "pixel.shift")]
    )
    channels_first = taking.layout == "NCHW"
    last = "pixel.scaled" if channels_first else given
    made = [
        helper.make_node("Cast", [PICTURES], ["pixel.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixel.float", "pixel.factor"], ["pixel.product"]),
        helper.make_node("Add", ["pixel.product", "pixel.shift"], [last]),
    ]
    if channels_first:
        made.append(helper.make_node("Transpose", [last], [given], perm=[0, 3, 1, 2]))
    nodes = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*made, *nodes])
    size = [taking.size, taking.size, taking.channels]
    graph.input.append(helper.make_tensor_value_info(PICTURES, TensorProto.UINT8, ["batch", *size]))
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", "embed"]))


def inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives: old files list their weights as well."""
    weights = {each.name for each in graph.initializer}
    return [each for each in graph.input if each.name not in weights]


def _layout(sizes: list[int]) -> str | None:
    """The one layout that has a number of channels in its place; None where both or neither have."""
    fitting = [layout for layout, (place, *_) in LAYOUTS.items() if len(sizes) > place and sizes[place] in CHANNELS]
    return fitting[0] if len(fitting) == 1 else None


def _scaling(settings: EncoderSettings) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of pixels: (pixel / 255 - mean) / deviation."""
    mean, deviation = np.array(settings.mean), np.array(settings.deviation)
    return (1 / (255 * deviation)).astype(np.float32), (-mean / deviation).astype(np.float32)


def output_of(
    graph: onnx.GraphProto, settings: EncoderSettings, axes: int | None = 2, shapes: str = "(batch, embed)"
) -> onnx.ValueInfoProto:
    """The output that is wanted: the named one, the only one, or the only one of so many axes.

    Args:
        graph: of the encoder.
        settings: which may name it.
        axes: that tell it from others; None: they do not.
        shapes: what it may be, for the message.

    Raises:
        MetaloomError: there is none, or several.
    """
    fitting = {each.name: each for each in graph.output}
    if settings.output is not None:
        fitting = {name: each for name, each in fitting.items() if name == settings.output}
    elif len(fitting) > 1:
        fitting = {name: each for name, each in fitting.items() if len(each.type.tensor_type.shape.dim) == axes}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    shown = ", ".join(f"{each.name} {shape_of(each)}" for each in graph.output)
    raise MetaloomError(f"{settings.file} has the outputs {shown}: name the one that is {shapes} in encoder.output")


def shape_of(value: onnx.ValueInfoProto) -> str:
    """The sizes of an input or output, for a message."""
    dims = value.type.tensor_type.shape.dim
    return f"({', '.join(str(each.dim_value or each.dim_param or '?') for each in dims)})"


def type_of(value: Any) -> str:
    """The type of its numbers, for a message."""
    return TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()


def named(settings: EncoderSettings) -> str:
    """The encoder's name for a person: its file's, without the ending."""
    return Path(str(settings.file)).stem
