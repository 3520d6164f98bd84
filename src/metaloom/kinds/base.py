"""What a kind of example is: all that the other rooms have to know of pictures, rows of numbers or anything else.

A new kind is one folder beside this file, one line in `kinds.KINDS` and one section of settings. The folder has a
`Kind`, which needs no torch (it reads files, and shows examples to a person), and an `Encoding` (`kinds.encoding`).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from metaloom.errors import MetaloomError
from metaloom.kinds.columns import USUAL, usual

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from metaloom.kinds.encoding import Encoding
    from metaloom.networks import Network


class Row(NamedTuple):
    """One example of a file that holds many.

    Args:
        domain: that it belongs to; None: the file's own place says so.
        label: its class; None in a file of examples without labels.
        content: what `Kind.decode` takes.
    """

    domain: str | None
    label: str | None
    content: bytes


class Table(NamedTuple):
    """A file that holds many examples, as it was read.

    Args:
        kind: what has read it; it now holds further files to what the first one says of all, such as its columns.
        rows: the examples, as they stand there.
    """

    kind: Tables
    rows: list[Row]


class Shown(ABC):
    """Packed examples as small pictures in a page."""

    @abstractmethod
    def uri(self, row: int) -> str:
        """An example as a data: URI; IndexError where there is no such row."""

    @property
    @abstractmethod
    def stored(self) -> int:
        """Pixels of the longer side as it is stored; shown smaller, it is drawn smoothly."""

    @abstractmethod
    def side(self, largest: int) -> int:
        """Pixels on the page: a size up to `largest` that shows the example well."""

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""


@dataclass(frozen=True)
class Kind(ABC):
    """One kind of example; the torch-free paths use it too.

    Its fields are its settings, and what the data have said of themselves. A setting that is `auto` is 0 until the
    data have decided it (see `settled`).
    """

    name: ClassVar[str]
    noun: ClassVar[str]  # what the report calls an example
    one: ClassVar[str]  # what a message calls an example …
    many: ClassVar[str]  # … and several
    suffixes: ClassVar[tuple[str, ...]]  # of the files that hold examples, in lower case
    layout: ClassVar[str]  # what to put into data/, for messages
    formats: ClassVar[str]  # of those files, for messages
    network: ClassVar[str]  # that suits it

    # --- files

    def is_example(self, name: str, head: bytes = b"") -> bool:
        """Whether a file of this name holds examples; where the name does not tell, its first 32 bytes may."""
        return name.lower().endswith(self.suffixes)

    @abstractmethod
    def decode(self, content: bytes) -> Shaped[np.ndarray, ...]:
        """One example as it is, of any size.

        Args:
            content: a file's bytes, or a row's.

        Raises:
            MetaloomError: it is no such example; the message begins with a verb.
        """

    def flaw(self, example: Shaped[np.ndarray, ...]) -> str:
        """Why a decoded example says nothing and is left out, beginning with a verb; "" where it is of use."""
        return ""

    @abstractmethod
    def pack(self, example: Shaped[np.ndarray, ...]) -> Shaped[np.ndarray, ...]:
        """An example in the one shape and dtype in which all are stored."""

    def trait(self, example: Shaped[np.ndarray, ...]) -> float | None:
        """A number of a decoded example by which `oddities` finds it odd among others; None: it has none."""
        return None

    def oddities(self, traits: Iterable[tuple[str, str, float | None]]) -> list[str]:
        """A sentence about each group of examples that are unlike the others as if by accident.

        Args:
            traits: domain, class and trait of every example that is used.
        """
        return []

    def spelled(self, argument: str) -> list[tuple[str, bytes]] | None:
        """Examples that an argument of `metaloom predict` is in itself, with a name for each; None: it names a file."""
        return None

    looks: ClassVar[bool] = False  # whether `look` finds anything

    def look(self, content: bytes) -> bool | None:
        """Whether an example has what decides how all of them are read; None: it cannot be read.

        Args:
            content: as `decode` takes it.
        """
        return None

    def settled(self, having: int, seen: int) -> Kind:
        """This kind, with the settings that were left to the data: so many of those seen have what `look` finds."""
        return self

    def reading(self, having: int, seen: int) -> str:
        """How all examples are read, and why, once that is settled; "" where there is nothing to say."""
        return ""

    @property
    def loses(self) -> bool:
        """Whether examples lose what `look` finds when they are read."""
        return False

    def loss(self, having: int, seen: int) -> str:
        """What gets lost, in a sentence: so many of those seen have what `look` finds."""
        return ""

    def looks_negative(
        self, raw: Shaped[np.ndarray, "item ..."], saved: Mapping[str, Any]
    ) -> Bool[np.ndarray, " item"]:
        """Whether each example looks like the negative of those in training, of which `saved` is what the encoding
        saved."""
        return np.zeros(len(raw), bool)

    previews: ClassVar[bool] = False  # whether `preview` shows anything

    def preview(self, content: bytes) -> tuple[str, str] | None:
        """One example as it came, for a person: a data: URI as `Shown.uri` gives it, and its size in words.

        None: there is nothing to show beside the packed example.

        Args:
            content: as `decode` takes it.
        """
        return None

    def embedded(self, folder: Path) -> None:
        """Fill an empty folder with the data set that comes with metaloom.

        Raises:
            MetaloomError: there is none of this kind.
        """
        raise MetaloomError(
            f"data/ is absent, and no {self.many} come with metaloom: add yours, `metaloom data add PATH`"
        )

    def described(self) -> dict[str, Any]:
        """Plain values from which `kinds.kind_from` makes the kind again; a model is saved with them."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"kind": self.name, **values}  # with lists, as they come back from JSON

    @property
    def shipped(self) -> Path:
        """Folder of what travels in each bundle as it is: example.py, and index.html where the kind has a page."""
        return Path(inspect.getfile(type(self))).with_name("shipped")

    @property
    def page(self) -> Path:
        """What a bundle's page begins as; where there is no such file, the kind has no page."""
        return self.shipped / "index.html"

    @property
    def travelling(self) -> dict[str, Path]:
        """Further files that travel in each bundle, by their names there."""
        return {}

    # --- a bundle, without torch

    def in_bundle(self, folder: Path) -> Kind:
        """The kind with the files that it needs as they are in a bundle."""
        return self

    def decoded(self, raw: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """Shape of a decoded example, where a graph takes raw ones of this shape; names stand for any size."""
        return raw

    def for_graph(self, examples: Sequence[Shaped[np.ndarray, ...]]) -> Sequence[Shaped[np.ndarray, ...]]:
        """Decoded examples as a graph takes them; those that are of one shape then are asked about together."""
        return examples

    # --- a person

    @abstractmethod
    def packed_in_words(self, packed: Shaped[np.ndarray, "item ..."]) -> str:
        """In which form the examples are packed, for the report."""

    @abstractmethod
    def shown(self, packed: Shaped[np.ndarray, "item ..."]) -> Shown:
        """Packed examples as pictures in a page."""

    # --- training

    @property
    def behind(self) -> str:
        """The encoder that sees them first, in words; "" where there is none."""
        return ""

    without_encoder: ClassVar[bool] = False  # whether they can be learned from without the encoder that sees them too
    variants: ClassVar[bool] = True  # whether graphs with smaller weights can be made of its own
    enough: ClassVar[int] = 1  # packed examples whose encoding has the shape that all of them give

    @abstractmethod
    def fitted(self, packed: Shaped[np.ndarray, "item ..."]) -> Encoding:
        """How packed examples become a network's input; of training classes only."""

    @abstractmethod
    def encoding(self, saved: dict[str, Any]) -> Encoding:
        """What `fitted` gave, from `Encoding.saved`.

        Raises:
            ValueError: a fitted number is absent, none, or does not fit the others.
        """

    @property
    def views(self) -> int:
        """How many training classes each class becomes, one per view (turned, mirrored, …)."""
        return 1

    def seen(self, packed: Tensor, views: Tensor) -> Tensor:
        """Each way's examples in its view.

        Args:
            packed: (task, way, example, …), raw.
            views: (task, way), from 0 to `views` - 1.
        """
        return packed

    chances: ClassVar[int] = 0  # random numbers that `distorted` takes for an example

    def distorted(self, x: Tensor, chances: Tensor, strength: float) -> Tensor:
        """Each encoded example changed a little, as another example of its class might be.

        Args:
            x: (*any, *shape) as a network takes them.
            chances: (*any, chances), drawn evenly from 0 to 1.
            strength: 0 (not at all) to 1.
        """
        return x

    @abstractmethod
    def untrained(self, packed: Tensor) -> Tensor:
        """Features (item, feature) that say what examples are like, with nothing fitted."""

    def with_test_augmentation(self, network: Network) -> Network:
        """The network as it answers, where an answer may be the mean over several views of an example."""
        return network


@dataclass(frozen=True)
class Tables(Kind):
    """A kind whose files hold many examples each, with their classes; of any other kind a file in a folder is one."""

    @abstractmethod
    def table(self, content: bytes) -> Table:
        """The examples of a file, in the form of those that the kind has been told of.

        Raises:
            MetaloomError: the file cannot be read or does not fit; the message begins with a verb and names the
                remedy.
        """

    @abstractmethod
    def written(self, rows: Sequence[Row]) -> str:
        """Rows with their classes as a CSV file, which `table` reads as the same ones."""

    @abstractmethod
    def columns_in(self, sample: pd.DataFrame) -> dict[str, str] | None:
        """Which columns of a table this kind would take, by what for (see `kinds.columns`); None: it is none of its.

        Args:
            sample: first rows of the table, as `kinds.frames.read_table` gives them.

        Raises:
            MetaloomError: it has not a column that the settings name; the message begins with a verb.
        """

    def usual_columns(self, names: Sequence[str]) -> dict[str, str]:
        """Those of `columns_in` that are found by their names alone, whatever the settings name."""
        return {what: name for what in USUAL if (name := usual(what, names)) is not None}
