"""An encoder of texts and its tokenizer: texts → token ids → embeddings.

The package `tokenizers`, an extra, reads the tokenizer.json that such encoders come with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int32, Int64

from metaloom.errors import MetaloomError
from metaloom.kinds.encoded.encoder import BATCH, EMBEDDING, ENCODER, Encoder, probed, refusals, session_of
from metaloom.kinds.text.show import text_of
from metaloom.system.files import sha256

if TYPE_CHECKING:
    from metaloom.config import EncoderSettings

TOKENIZER = "tokenizer.json"  # the file's name beside the encoder, and in a bundle
TOKENS = "tokens"  # name of the graph's input: ids, and NONE behind a text's last
NONE = -1
EMPTY = 0  # the id of a text of which a tokenizer leaves nothing
USUAL = 128  # tokens of a text, where nothing says how many
STEP = 16  # texts for a bundle's graph are filled up to a multiple, so that most of them share a batch


@dataclass(frozen=True)
class TextEncoder(Encoder):
    """An encoder of texts.

    Args:
        tokenizer: its tokenizer.json, that the stage `embed` has copied.
        tokenizer_sha256: of that file.
        tokens: of a text that are read at most.
    """

    tokenizer: str
    tokenizer_sha256: str
    tokens: int

    given: ClassVar[str] = TOKENS
    remedy: ClassVar[str] = "look at the file, or export it in float32"

    @classmethod
    def tried(cls, path: Path, file: str, name: str, tokenizer: Path, settings: EncoderSettings) -> TextEncoder:
        """An encoder and its tokenizer, tried on ids.

        Args:
            path: of the encoder's file.
            file: what that is going to be; the tokenizer is going to be beside it.
            name: of the encoder, for a person.
            tokenizer: its file.
            settings: for how many tokens are read.

        Raises:
            MetaloomError: onnxruntime refuses the encoder, it is none, or the tokenizer is not its own.
        """
        opened = opened_tokenizer(tokenizer)
        tokens = settings.tokens or (opened.truncation or {}).get("max_length") or USUAL
        session = session_of(path.read_bytes(), name)
        most = max(opened.get_vocab(with_added_tokens=True).values(), default=0)
        _refuse_misfits(session, name, tokenizer, most, tokens)
        both = np.array([[0, most, 0], [most, NONE, NONE]])
        embed = probed(session, name, both[::-1].copy(), both[1:, :1], "text", cls.remedy)
        beside = str(Path(file).with_name(TOKENIZER))
        return cls(file, sha256(path), name, embed, beside, sha256(tokenizer), tokens)

    @property
    def identity(self) -> str:
        return f"{self.sha256} {self.tokenizer_sha256} {self.tokens}"

    def at(self, folder: Path) -> TextEncoder:
        return replace(self, file=str(folder / ENCODER), tokenizer=str(folder / TOKENIZER))

    def in_bundle(self, folder: Path) -> TextEncoder:
        """The same with the tokenizer that is in a bundle."""
        return replace(self, tokenizer=str(folder / TOKENIZER))

    def checked_tokenizer(self) -> Path:
        """The tokenizer's file, which must be the one that the model was trained on.

        Raises:
            MetaloomError: it is absent or another one.
        """
        return self.same(self.tokenizer, self.tokenizer_sha256, "the tokenizer of")

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Of each text, at least one."""
        tokenizer = _tokenizer(self)
        return [each.ids or [EMPTY] for each in tokenizer.encode_batch(list(texts))]

    def inputs(self, packed: Int32[np.ndarray, "item character"]) -> list[Int64[np.ndarray, " token"]]:
        return [np.array(each, np.int64) for each in self.ids([text_of(each) for each in packed])]

    def batches(self, packed: Int32[np.ndarray, "item character"]) -> Iterator[Float32[np.ndarray, "batch embed"]]:
        """Rows of packed texts; those of about one length go through together, so there is one batch of all."""
        ids = self.ids([text_of(each) for each in packed])
        order = np.argsort([len(each) for each in ids], kind="stable")
        places = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        rows = np.zeros((len(ids), self.embed), np.float32)
        for own, found in zip(places, self.run([filled([ids[row] for row in own]) for own in places]), strict=True):
            rows[own] = found
        yield rows

    def of_ids(self, ids: Int64[np.ndarray, "item token"]) -> Float32[np.ndarray, "item embed"]:
        """Rows of texts that are ids already."""
        return np.concatenate(list(self.run([ids[start : start + BATCH] for start in range(0, len(ids), BATCH)])))


def filled(ids: Sequence[Sequence[int]], step: int = 1) -> Int64[np.ndarray, "text token"]:
    """One array of texts of different lengths, whose own is the next multiple of `step`."""
    longest = -(-max(map(len, ids)) // step) * step
    array = np.full((len(ids), longest), NONE, np.int64)
    for row, each in zip(array, ids, strict=True):
        row[: len(each)] = each
    return array


def tokenizer_of(settings: EncoderSettings) -> Path:
    """The file that the settings name, or the one beside the encoder.

    Raises:
        MetaloomError: there is none.
    """
    file = Path(str(settings.file))
    if settings.tokenizer is not None:
        if not Path(settings.tokenizer).is_file():
            raise MetaloomError(f"{settings.tokenizer} not found: encoder.tokenizer names the tokenizer.json of {file}")
        return Path(settings.tokenizer)
    beside = [file.with_name(name) for name in (f"{file.stem}.{TOKENIZER}", TOKENIZER)]
    found = next((each for each in beside if each.is_file()), None)
    if found is None:
        raise MetaloomError(
            f"{file} has no tokenizer beside it: put its {TOKENIZER} there as {beside[0].name}, or name it in "
            "encoder.tokenizer"
        )
    return found


def opened_tokenizer(path: Path) -> Any:
    """A tokenizer that fills nothing up.

    Raises:
        MetaloomError: the package is not installed, or the file is no tokenizer.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MetaloomError(
            "texts behind an encoder need the package tokenizers: `pip install 'metaloom[tokenizers]'`"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises no other class
        why = " ".join(str(error).split())
        raise MetaloomError(f"{path} is no tokenizer.json of the package tokenizers ({why:.200})") from None
    tokenizer.no_padding()
    return tokenizer


def filling(tokenizer: Any) -> int:
    """The id that stands for nothing."""
    found = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((each for each in found if each is not None), 0)


@lru_cache(maxsize=4)
def _tokenizer(encoder: TextEncoder) -> Any:
    tokenizer = opened_tokenizer(encoder.checked_tokenizer())
    tokenizer.enable_truncation(encoder.tokens)
    return tokenizer


def _refuse_misfits(session: Any, name: str, tokenizer: Path, most: int, tokens: int) -> None:
    """Whatever the encoder does not take, each by a question of its own."""
    questions = (
        (np.zeros((1, 2), np.int64), f"encoder {name} takes no ids"),
        (
            np.full((1, 2), most),
            f"{tokenizer} is not the tokenizer of {name}: it has ids up to {most:,}, which that does not take",
        ),
        (
            np.zeros((1, tokens), np.int64),
            f"encoder {name} does not take texts of {tokens:,} tokens: set encoder.tokens to as many as it takes",
        ),
    )
    for ids, problem in questions:
        try:
            session.run([EMBEDDING], {TOKENS: ids})
        except refusals() as error:
            raise MetaloomError(f"{problem} ({' '.join(str(error).split()):.200})") from None
