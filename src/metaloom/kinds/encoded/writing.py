"""From a stranger's ONNX file to the encoder that a project keeps."""

from __future__ import annotations

from pathlib import Path

from metaloom.config import EncoderSettings, ExportSettings
from metaloom.kinds.encoded.encoder import Encoder
from metaloom.kinds.encoded.file import whole
from metaloom.kinds.encoded.taking import from_pixels, named, taking_of


def packed(settings: EncoderSettings, export: ExportSettings, path: Path) -> Encoder:
    """A copy of the file with all its weights in it, which has been tried as `written` tries one.

    Args:
        settings: which name the file.
        export: for the versions of ONNX.
        path: of the copy.

    Raises:
        MetaloomError: it cannot be read, is not understood, or does not work.
    """
    whole_model = whole(str(settings.file), export.opset, export.ir_version).SerializeToString(deterministic=True)
    tried = written(settings, export, path, str(path))
    path.write_bytes(whole_model)
    return tried


def written(settings: EncoderSettings, export: ExportSettings, path: Path, file: str) -> Encoder:
    """The encoder as one file that takes packed pictures, tried on two.

    Args:
        settings: which name it.
        export: for the versions of ONNX.
        path: of the file.
        file: what the path is going to be.

    Raises:
        MetaloomError: it cannot be read, is not understood, or does not work.
    """
    model = whole(str(settings.file), export.opset, export.ir_version)
    from_pixels(model, settings, taking_of(settings, model))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return Encoder.of(path, file, named(settings))
