"""A tiny encoder of texts with random weights, as an ONNX file with a tokenizer.json, and what numpy makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from texts import ACTS, FRAMES, THINGS

from metaloom.kinds.encoded import writing

SET = {"kind": "text", "encoder.file": "tiny.onnx", "encoder.tokens": 32, "prepare.min_examples": 4}
EMBED, LONGEST = 12, 40  # numbers of an embedding, tokens that it has places for
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = sorted({*ACTS, *(each for group in THINGS.values() for each in group), *" ".join(FRAMES).lower().split()})
VOCABULARY = {word: place for place, word in enumerate((*SPECIAL, "?", *(word for word in WORDS if word.isalpha())))}


def write_text_encoder(path: Path, rows: int | None = None, types: bool = True, pooled: bool = False) -> None:
    """Embeddings of tokens and places and, as in a transformer, of the others that the mask leaves.

    Args:
        path: of the file, in which tokens.py finds ids, a mask and perhaps types.
        rows: of its table; None: as many as the tokenizer has ids.
        types: whether it takes types of tokens.
        pooled: whether it gives (batch, embed).
    """
    table, places, mixing = weights(rows)
    arrays = {"table": table, "places": places, "mixing": mixing, "last": np.array([-1]), "one": np.array([1])}
    arrays |= {"zero": np.array([0]), "half": np.array(0.5, np.float32)}
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["looked_up"]),
        node("Shape", ["input_ids"], ["size"], start=1, end=2),
        node("Slice", ["places", "zero", "size", "zero"], ["own_places"]),
        node("Add", ["looked_up", "own_places"], ["word"]),
        node("Cast", ["attention_mask"], ["weight"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["weight", "last"], ["column"]),
        node("Mul", ["word", "column"], ["there"]),
        node("ReduceSum", ["there", "one"], ["sum"], keepdims=1),
        node("ReduceSum", ["column", "one"], ["count"], keepdims=1),
        node("Div", ["sum", "count"], ["mean"]),
        node("MatMul", ["mean", "mixing"], ["mixed"]),
        node("Add", ["word", "mixed"], ["both"]),
        node("Tanh", ["both"], ["plain" if types else "hidden"]),
    ]
    if types:
        nodes += [
            node("Cast", ["token_type_ids"], ["type"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["type", "last"], ["types"]),
            node("Add", ["plain", "types"], ["hidden"]),
        ]
    if pooled:
        nodes.append(node("Gather", ["hidden", "first"], ["pooled"], axis=1))
        arrays["first"] = np.array(0)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    shape = ["batch", EMBED] if pooled else ["batch", "tokens", EMBED]
    output = helper.make_tensor_value_info("pooled" if pooled else "hidden", TensorProto.FLOAT, shape)
    kept = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "encoder", inputs, [output], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def weights(rows: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(rows or len(VOCABULARY), EMBED))
    places, mixing = rng.normal(size=(LONGEST, EMBED)) / 8, rng.normal(size=(EMBED, EMBED)) / 8
    return table.astype(np.float32), places.astype(np.float32), mixing.astype(np.float32)


def write_tokenizer(path: Path, longest: int | None = None, model: str = "WordPiece") -> Path:
    """Words and question marks in lower case between [CLS] and [SEP], as a BERT has them; no word has parts."""
    special = [
        {"id": place, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False} for place, name in enumerate(SPECIAL)
    ]  # fmt: skip
    ends = {name: {"id": name, "ids": [VOCABULARY[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    single = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    cut = {"max_length": longest, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer = {
        "version": "1.0",
        "truncation": cut if longest else None,
        "padding": {
            "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]",
        },  # which is not wanted here: a mask says where a text ends
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": ends},
        "decoder": None,
        "model": {
            "type": model, "vocab": VOCABULARY, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }  # fmt: skip
    path.write_text(json.dumps(tokenizer))
    return path


def ids_of(text: str, longest: int = 32) -> list[int]:
    """What the tokenizer makes of a text of words and question marks."""
    words = text.lower().replace("?", " ?").split()[: longest - 2]
    return [VOCABULARY[word] for word in ("[CLS]", *(w if w in VOCABULARY else "[UNK]" for w in words), "[SEP]")]


def rows_of(texts: list[str], longest: int = 32) -> np.ndarray:
    """The mean over a text's own tokens, one text at a time."""
    table, places, mixing = weights()
    rows = []
    for text in texts:
        word = table[ids_of(text, longest)]
        word = word + places[: len(word)]
        rows.append(np.tanh(word + word.mean(axis=0) @ mixing).mean(axis=0))
    return np.array(rows)


def tried_here(how, kind, settings, export, path, file, *limits):
    """Without the process of its own, which takes a second to start; tests/cli/test_encoder.py has it."""
    return getattr(writing, how)(kind, settings, export, path, *([file] if how == "written" else []))
