"""Which kinds there are. A kind's code is imported when it is asked for: a bundle of texts is asked without any code
of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from metaloom.kinds.base import Kind


def _pictures() -> type[Kind]:
    from metaloom.kinds.pictures.kind import Pictures

    return Pictures


def _vectors() -> type[Kind]:
    from metaloom.kinds.vectors.kind import Vectors

    return Vectors


def _text() -> type[Kind]:
    from metaloom.kinds.text.kind import Text

    return Text


def _encoded_pictures() -> type[Kind]:
    from metaloom.kinds.encoded.kind import EncodedPictures

    return EncodedPictures


def _encoded_text() -> type[Kind]:
    from metaloom.kinds.encoded.texts import EncodedText

    return EncodedText


class Catalogue(Mapping[str, type[Kind]]):
    """Kinds by name."""

    def __init__(self, entries: Mapping[str, Callable[[], type[Kind]]]) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> type[Kind]:
        return self._entries[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


KINDS = Catalogue(
    {
        "pictures": _pictures,
        "vectors": _vectors,
        "text": _text,
    }
)
ENCODED = Catalogue({  # the same, where an encoder sees them first
    "pictures": _encoded_pictures,
    "text": _encoded_text,
})  # fmt: skip
