"""Strings to counts of n-grams, as nodes before a graph that torch has traced from the counts on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from metaloom.kinds.text.grams import LENGTHS

MICROSOFT = "com.microsoft"  # part of onnxruntime itself; `Tokenizer` is all that is taken of it
BLANK = (" ", "\t", "\n", "\r")  # what a space in an n-gram stands for


def count_strings(model: onnx.ModelProto, name: str, grams: tuple[str, ...], characters: int) -> None:
    """The input of counts becomes one of strings, in place.

    Args:
        model: with the input.
        name: of the input.
        grams: whose counts it is.
        characters: of a text that count.
    """
    graph = model.graph
    value = next(each for each in graph.input if each.name == name)
    counts = f"{name}.counts"
    for node in graph.node:
        node.input[:] = [counts if each == name else each for each in node.input]
    nodes = list(_nodes(name, counts, grams))
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])
    graph.initializer.extend(_constants(name, characters))
    batch = value.type.tensor_type.shape.dim[0].dim_param or "batch"
    value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.STRING, [batch]))
    if MICROSOFT not in {each.domain for each in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _nodes(name: str, counts: str, grams: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
    def node(kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes)

    lower, letters, cut, batch, size, space, spaced = (
        f"{name}.{each}" for each in ("lower", "letters", "cut", "batch", "size", "space", "spaced")
    )
    # the locale "C" knows A to Z alone, and is the same everywhere
    yield node("StringNormalizer", [name], lower, case_change_action="LOWER", locale="C")
    single: dict[str, Any] = {"separators": [""], "mark": 0, "mincharnum": 1, "pad_value": " "}  # its single characters
    yield node("Tokenizer", [lower], letters, MICROSOFT, **single)
    yield node("Slice", [letters, f"{name}.start", f"{name}.characters", f"{name}.one"], cut)
    yield node("Shape", [cut], batch, start=0, end=1)
    yield node("Concat", [batch, f"{name}.one"], size, axis=0)
    yield node("Expand", [f"{name}.blank", size], space)
    yield node("Concat", [space, cut, space], spaced, axis=1)
    yield node("TfIdfVectorizer", [spaced], counts, **_pool(grams))


def _constants(name: str, characters: int) -> list[onnx.TensorProto]:
    numbers = {"start": 0, "characters": characters, "one": 1}
    made = [helper.make_tensor(f"{name}.{each}", TensorProto.INT64, [1], [value]) for each, value in numbers.items()]
    return [*made, numpy_helper.from_array(np.array([[" "]], object), f"{name}.blank")]


def _pool(grams: tuple[str, ...]) -> dict[str, Any]:
    """Attributes of the node that counts; an n-gram with a space has a form for each character that is as good."""
    pool: list[str] = []
    places: list[int] = []
    starts = [0] * LENGTHS[0]
    for length in LENGTHS:
        starts[length - 1 :] = [len(pool)]
        for place, gram in enumerate(grams):
            for form in (
                product(*(BLANK if letter == " " else (letter,) for letter in gram)) if len(gram) == length else ()
            ):
                pool += form
                places.append(place)
    return {
        "mode": "TF",
        "min_gram_length": LENGTHS[0],
        "max_gram_length": LENGTHS[-1],
        "max_skip_count": 0,
        "ngram_counts": starts,
        "ngram_indexes": places,
        "pool_strings": pool,
    }
