"""From a stranger's ONNX file to the encoder that a project keeps."""

from __future__ import annotations

from pathlib import Path

import onnx

from metaloom.config import EncoderSettings, ExportSettings
from metaloom.kinds.encoded.encoder import Encoder
from metaloom.kinds.encoded.file import whole
from metaloom.kinds.encoded.taking import from_pixels, named, taking_of
from metaloom.kinds.encoded.taking_ids import from_ids, ids_taking_of
from metaloom.kinds.encoded.tokens import TextEncoder, filling, opened_tokenizer, tokenizer_of


def packed(kind: str, settings: EncoderSettings, export: ExportSettings, path: Path) -> Encoder:
    """A copy of the file with all its weights in it, which has been tried as `written` tries one.

    Args:
        kind: of the examples that it sees.
        settings: which name the file.
        export: for the versions of ONNX.
        path: of the copy.

    Raises:
        MetaloomError: it cannot be read, is not understood, or does not work.
    """
    whole_model = whole(str(settings.file), export.opset, export.ir_version).SerializeToString(deterministic=True)
    tried = written(kind, settings, export, path, str(path))
    path.write_bytes(whole_model)
    return tried


def written(kind: str, settings: EncoderSettings, export: ExportSettings, path: Path, file: str) -> Encoder:
    """The encoder as one file that takes packed pictures, or ids of tokens, tried on two.

    Args:
        kind: of the examples that it sees.
        settings: which name it.
        export: for the versions of ONNX.
        path: of the file.
        file: what the path is going to be.

    Raises:
        MetaloomError: it cannot be read, is not understood, or does not work.
    """
    model = whole(str(settings.file), export.opset, export.ir_version)
    return (_of_texts if kind == "text" else _of_pictures)(model, settings, path, file)


def _of_pictures(model: onnx.ModelProto, settings: EncoderSettings, path: Path, file: str) -> Encoder:
    from_pixels(model, settings, taking_of(settings, model))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return Encoder.of(path, file, named(settings))


def _of_texts(model: onnx.ModelProto, settings: EncoderSettings, path: Path, file: str) -> Encoder:
    taking, tokenizer = ids_taking_of(settings, model), tokenizer_of(settings)
    from_ids(model, settings, taking, filling(opened_tokenizer(tokenizer)))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return TextEncoder.tried(path, file, named(settings), tokenizer, settings)
