"""Whatever Python has of examples (paths, pictures, arrays, texts, tables) as raw examples of a kind; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped
from PIL import Image

from metaloom.data.files import read_argument, read_examples
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Tables
from metaloom.kinds.columns import TEXT
from metaloom.python import pixels
from metaloom.system.plural import some

SHOWN = 3  # names in a message
Raw = Shaped[np.ndarray, "..."]


def raw_examples(given: Any, kind: Kind) -> list[Raw]:
    """Examples as their kind decodes them, of any size.

    Args:
        given: of pictures: paths, PIL images, bytes of image files, or arrays of pixels (see `pixels`); of rows: an
            array, a DataFrame with the model's columns in any order, or paths of tables; of texts: texts, a DataFrame
            with a column of them, or paths of tables and .txt files. One alone stands for a list of one.
        kind: that the model was trained on.

    Raises:
        MetaloomError: they are none of these, a file cannot be read, or a column is missing.
    """
    return _READERS.get(kind.name, _arrays)(plain(given), kind)


def plain(given: Any) -> Any:
    """Tensors as arrays, a column as a list, and one example as a list of it; anything else as it is."""
    if hasattr(given, "detach"):  # a tensor, wherever it lives
        return given.detach().cpu().numpy()
    if isinstance(given, str | Path | bytes | Image.Image):
        return [given]
    if isinstance(given, np.ndarray) and given.dtype.kind in "OU" and given.ndim == 1:
        return given.tolist()
    if hasattr(given, "to_list") and not isinstance(given, np.ndarray):  # a column of pandas
        return given.to_list()
    return list(given) if isinstance(given, tuple | range) else given


def is_frame(given: Any) -> bool:
    """Whether it is a DataFrame; pandas is not imported for that."""
    return hasattr(given, "columns") and hasattr(given, "to_numpy")


def in_order(frame: Any, kind: Kind) -> Any:
    """A DataFrame with the columns that the model was trained on, in its order; as it is where those have no names.

    Raises:
        MetaloomError: columns are missing, or there are others.
    """
    wanted = list(kind.described().get("columns", ()))
    names = [str(name) for name in frame.columns]
    if not wanted or (list(frame.columns) == list(range(len(wanted))) and wanted != names):  # no names: by place
        return frame
    missing = [name for name in wanted if name not in names]
    new = [name for name in names if name not in wanted]
    if missing or new:
        differ = [f"without {some(missing, SHOWN)}"] * bool(missing) + [f"with {some(new, SHOWN)}"] * bool(new)
        raise MetaloomError(
            f"the table is {' and '.join(differ)}: give the columns that the model was trained on "
            f"({some(wanted, SHOWN)})"
        )
    return frame.iloc[:, [names.index(name) for name in wanted]]


def _pictures(given: Any, kind: Kind) -> list[Raw]:
    if is_frame(given):
        given = given.to_numpy()
    if not isinstance(given, np.ndarray):
        given = _listed(given, kind)
        if given and all(_is_row(each) for each in given):
            given = _array(given, kind)
    described = kind.described()
    square = (described["image_size"], described["image_size"], described["channels"])
    if isinstance(given, np.ndarray):
        found: Sequence[Any] = pixels.batch(given, square)
    else:
        found = [_picture(each, f"image {number}", kind) for number, each in enumerate(given, start=1)]
    return pixels.levels([each for each in found], kind)


def _picture(each: Any, name: str, kind: Kind) -> Any:
    """Pixels, of numbers of any sort yet where they came so."""
    if isinstance(each, str | Path):
        return read_examples(each, kind)[0].raw
    try:
        if isinstance(each, bytes):
            return kind.decode(each)
        if isinstance(each, Image.Image):
            return kind.decode(pixels.as_png(each))
    except MetaloomError as error:
        raise MetaloomError(f"{name} {error}") from None
    each = plain(each)
    if isinstance(each, np.ndarray) and each.dtype.kind in "buif":
        return pixels.single(each, name)
    raise MetaloomError(f"{name} is a {type(each).__name__}: give a path, a PIL image or an array of pixels")


def _rows(given: Any, kind: Kind) -> list[Raw]:
    if is_frame(given):
        frame = in_order(given, kind)
        words = [str(name) for name in frame.columns if frame[name].dtype.kind not in "buif"]
        if words:
            raise MetaloomError(f"the table has columns that are no numbers: {some(words, SHOWN)}; leave them out")
        given = frame.to_numpy()
    elif not isinstance(given, np.ndarray):
        given = _listed(given, kind)
        if given and all(isinstance(each, str | Path) for each in given):
            return [example.raw for path in given for example in read_examples(path, kind)]
        given = _array(given, kind)
    if given.dtype.kind not in "buif" or given.ndim != 2:
        raise MetaloomError(
            f"the {kind.many} are {given.dtype} {given.shape}: give numbers ({kind.one}, number), a DataFrame, or "
            "paths of tables"
        )
    rows: Float32[np.ndarray, "row number"] = given.astype(np.float32)
    if not np.isfinite(rows).all():
        bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise MetaloomError(
            f"{kind.one} {bad + 1} has a number that is missing or infinite: fill it in, or leave it out"
        )
    return list(rows)


def _texts(given: Any, kind: Kind) -> list[Raw]:
    if is_frame(given):
        given = _column(given, kind).tolist()
    found: list[Raw] = []
    for number, each in enumerate(_listed(given, kind), start=1):
        if isinstance(each, Path):
            found += [example.raw for example in read_argument(each, kind)]
        elif isinstance(each, str):
            try:
                found.append(kind.decode(" ".join(each.split()).encode("utf-8", "replace")))
            except MetaloomError as error:
                raise MetaloomError(f"{kind.one} {number} {error}") from None
        else:
            raise MetaloomError(f"{kind.one} {number} is a {type(each).__name__}: give texts, or Paths of files")
    return found


def _column(frame: Any, kind: Kind) -> Any:
    """The column of texts: the only one, or that of the settings or of a usual name."""
    names = list(frame.columns)
    usual = kind.usual_columns([str(name) for name in names]) if isinstance(kind, Tables) else {}
    name = names[0] if len(names) == 1 else kind.described().get("text") or usual.get(TEXT)
    if name not in names:
        raise MetaloomError(
            f"the table has the columns {some([str(each) for each in names], SHOWN)}: give the one of the texts, as "
            f"X[{str(names[0]) if names else 'text'!r}]"
        )
    return frame[name]


def _arrays(given: Any, kind: Kind) -> list[Raw]:
    """Of a kind that this file does not know: its raw examples themselves."""
    return [np.asarray(each) for each in _listed(given, kind)]


def _listed(given: Any, kind: Kind) -> list[Any]:
    if isinstance(given, np.ndarray):
        return list(given)
    try:
        return list(given)
    except TypeError:
        raise MetaloomError(f"a {type(given).__name__} was given: give a list of {kind.many}, or an array") from None


def _is_row(each: Any) -> bool:
    return isinstance(each, list | tuple) or (isinstance(each, np.ndarray) and each.ndim == 1)


def _array(given: list[Any], kind: Kind) -> Shaped[np.ndarray, ...]:
    try:
        found = np.asarray(given)
    except ValueError:
        raise MetaloomError(f"the {kind.many} have different numbers of values: give as many for each") from None
    return found


_READERS: dict[str, Callable[[Any, Kind], list[Raw]]] = {"pictures": _pictures, "vectors": _rows, "text": _texts}
