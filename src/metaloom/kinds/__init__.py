"""Kinds of examples: how each is read, packed, normalised, augmented, shown, and taken into a graph."""

from __future__ import annotations

import shutil
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Kind, Row, Shown, Table, Tables
from metaloom.kinds.catalogue import ENCODED, KINDS
from metaloom.kinds.encoded.encoder import ENCODER, Encoder
from metaloom.kinds.encoded.tokens import TOKENIZER, TextEncoder, opened_tokenizer, tokenizer_of

if TYPE_CHECKING:  # the settings' models take longer to import than a bundle takes to answer
    from metaloom.config import EncoderSettings, ExportSettings, Settings
    from metaloom.kinds.encoded.kind import EncodedPictures
    from metaloom.kinds.encoded.texts import EncodedText

__all__ = [
    "ENCODER",
    "KINDS",
    "TOKENIZER",
    "Encoder",
    "Kind",
    "Row",
    "Shown",
    "Table",
    "Tables",
    "beside_encoder",
    "kind_from",
    "kind_of",
    "own_packing_of",
    "packed_encoder",
    "packed_for",
    "packing_of",
    "seen_by",
]


def kind_of(settings: Settings) -> Kind:
    """The kind that params name, with its section of settings; what is `auto` there is 0 until the data decide it."""
    from metaloom.config import AUTO

    own = getattr(settings, settings.kind).model_dump()
    return KINDS[settings.kind](**{name: 0 if value == AUTO else value for name, value in own.items()})


def packing_of(settings: Settings) -> Kind:
    """The kind that params name, as it packs examples: for an encoder pictures in the size and colours that it takes,
    and texts with their capitals.

    Raises:
        MetaloomError: no encoder sees such examples, or it is not understood.
    """
    from metaloom.kinds.pictures.kind import Pictures
    from metaloom.kinds.text.kind import Text

    kind, encoder = kind_of(settings), settings.encoder
    if encoder.file is None:
        return kind
    if isinstance(kind, Pictures):
        from metaloom.kinds.encoded.taking import taking_of

        taking = taking_of(encoder)
        return replace(kind, image_size=taking.size, channels=taking.channels)
    if isinstance(kind, Text):
        from metaloom.kinds.encoded.taking_ids import ids_taking_of

        ids_taking_of(encoder)
        opened_tokenizer(tokenizer_of(encoder))
        return replace(kind, cased=True)
    raise MetaloomError(
        f"encoder.file is {encoder.file}, and kind is {kind.name}: encoders see pictures and texts; set it to null"
    )


def own_packing_of(settings: Settings) -> Kind | None:
    """The kind as it packs examples for who learns without the encoder that sees them; None: as for the encoder, or
    there is no encoder."""
    kind = kind_of(settings)
    return kind if settings.encoder.file is not None and kind.name == "pictures" else None


def packed_for(kind: Kind, settings: Settings) -> bool:
    """Whether examples are packed as the encoder of these settings takes them; some of that the data have decided."""
    found, wanted = kind.described(), packing_of(settings).described()
    decided = {"inverted": False, "characters": found.get("characters")}
    return found == wanted | {name: value for name, value in decided.items() if name in wanted}


def seen_by(
    kind: Kind, settings: EncoderSettings, export: ExportSettings, folder: Path, file: str
) -> EncodedPictures | EncodedText:
    """Write the encoder as one file that takes packed examples, or their tokens, and have it tried on two.

    Args:
        kind: of the packed examples.
        settings: which name the encoder.
        export: for the versions of ONNX.
        folder: where the file is written, as `ENCODER`, and its tokenizer as `TOKENIZER`.
        file: what its path is going to be.

    Returns:
        The kind of examples that the encoder sees.

    Raises:
        MetaloomError: it sees no such examples, cannot be read, is not understood, does not work, or takes
            too much time or memory to try.
    """
    from metaloom.kinds.encoded.kind import EncodedPictures
    from metaloom.kinds.encoded.texts import EncodedText
    from metaloom.kinds.encoded.trial import tried
    from metaloom.kinds.pictures.kind import Pictures
    from metaloom.kinds.text.kind import Text

    if isinstance(kind, Pictures):
        return EncodedPictures.by(tried("written", kind.name, settings, export, folder / ENCODER, file), kind)
    if isinstance(kind, Text):
        shutil.copyfile(tokenizer_of(settings), folder / TOKENIZER)
        copied = settings.model_copy(update={"tokenizer": str(folder / TOKENIZER)})
        encoder = tried("written", kind.name, copied, export, folder / ENCODER, file)
        assert isinstance(encoder, TextEncoder)
        return EncodedText.by(encoder, kind)
    raise MetaloomError(f"encoders see pictures and texts, and these are {kind.many}: set encoder.file to null")


def beside_encoder(kind: Kind, settings: EncoderSettings) -> list[str]:
    """The files that an encoder's embeddings are made of: its own, and of texts its tokenizer."""
    return [str(settings.file), *([str(tokenizer_of(settings))] if kind.name == "text" else [])]


def packed_encoder(
    settings: EncoderSettings, export: ExportSettings, path: Path, seconds: float, gigabytes: float
) -> Encoder:
    """A copy of an encoder's file with all its weights in it, tried on two pictures, or texts if it has a tokenizer.

    Args:
        settings: which name the file, and its tokenizer.
        export: for the versions of ONNX.
        path: of the copy.
        seconds: that it may take to try it.
        gigabytes: of memory that it may take.

    Raises:
        MetaloomError: it cannot be read, is not understood, does not work, or takes too much.
    """
    from metaloom.kinds.encoded.trial import tried

    kind = "pictures" if settings.tokenizer is None else "text"
    return tried("packed", kind, settings, export, path, str(path), seconds, gigabytes)


def kind_from(described: dict[str, Any], where: str | Path = "", remedy: str = "") -> Kind:
    """What `Kind.described` has said, beside which there may be more.

    Args:
        described: its plain values.
        where: they stand, for the message.
        remedy: what to do where a value is missing, for the message.

    Raises:
        MetaloomError: this metaloom has no such kind, or a value of it is missing.
    """
    from pydantic import TypeAdapter, ValidationError

    name = described.get("kind", "pictures") if isinstance(described, dict) else described
    where = f"{where}: " if where else ""
    if not isinstance(name, str) or name not in KINDS:
        known = f"this metaloom knows {', '.join(KINDS)}"
        raise MetaloomError(f"{where}there is no kind of examples {str(name)!r:.60}: {known}")
    kind = ENCODED[name] if name in ENCODED and "encoder" in described else KINDS[name]
    known = {each.name: each for each in fields(kind)}
    needed = {key for key, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    remedy = f": {remedy}" if remedy else ""
    if missing := sorted(needed - described.keys()):
        raise MetaloomError(f"{where}what it says of {name} lacks {', '.join(missing)}{remedy}")
    values = {key: value for key, value in described.items() if key in known}
    # JSON makes lists of tuples
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        from metaloom.config import first_problem

        raise MetaloomError(f"{where}what it says of {name}: {first_problem(error)}{remedy}") from None
