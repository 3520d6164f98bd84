"""Encoders by the names that hubs of models give them: fetched by their own packages, and exported once to ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloom.errors import MetaloomError

if TYPE_CHECKING:
    from metaloom.config import EncoderSettings

TIMM, SENTENCES = "timm", "sentence-transformers"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # of an encoder of texts, in this order where it takes them
SENTENCE = "sentence_embedding"
SAMPLE = ["a text", "and another one, which is longer"]


@dataclass(frozen=True)
class Exported:
    """An encoder that was exported.

    Args:
        path: of the ONNX file.
        tokenizer: of an encoder of texts, its tokenizer.json.
        settings: values of the section `encoder` that the hub knows and the file does not say.
    """

    path: Path
    tokenizer: Path | None
    settings: dict[str, Any]


def hub_of(name: str) -> str | None:
    """The hub that a name is of, such as timm of timm/resnet18; None for a file."""
    hub, _, model = name.partition("/")
    return hub if hub in (TIMM, SENTENCES) and model and not Path(name).exists() else None


def fetched(name: str, folder: Path, opset: int) -> Exported:
    """Fetch a model from its hub and export it.

    Args:
        name: HUB/NAME.
        folder: where the files go; they are called as the model.
        opset: of the ONNX file.

    Raises:
        MetaloomError: its package is not installed, there is no such model, or it cannot be exported.
    """
    hub, _, model = name.partition("/")
    return {TIMM: _of_timm, SENTENCES: _of_sentences}[hub](model, folder / model.rpartition("/")[2], opset)


def _of_timm(name: str, stem: Path, opset: int) -> Exported:
    """Pictures of the size that it was trained on, normalised as timm says."""
    timm, data = _package("timm", TIMM), _package("timm.data", TIMM)
    if not timm.is_model(name):
        raise MetaloomError(f"timm has no model {name!r}: timm.list_models('*part*', pretrained=True) lists them")
    model = _had(f"{TIMM}/{name}", lambda: timm.create_model(name, pretrained=True, num_classes=0)).eval()
    about = data.resolve_model_data_config(model)
    channels, height, width = about["input_size"]
    import torch

    path = stem.with_name(f"{stem.name}.onnx")
    _export(model, [torch.zeros(2, channels, height, width)], [{0: "batch"}], ["pixels"], "embedding", path, opset)
    return Exported(path, None, {"mean": list(about["mean"]), "deviation": list(about["std"])})


def _of_sentences(name: str, stem: Path, opset: int) -> Exported:
    """Ids of tokens to what the whole model gives: its pooling and what comes after are in the file."""
    package = _package("sentence_transformers", SENTENCES)
    wanted = name if "/" in name else f"{SENTENCES}/{name}"
    model = _had(f"{SENTENCES}/{name}", lambda: package.SentenceTransformer(wanted, device="cpu")).eval()
    import torch

    fast = getattr(model.tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise MetaloomError(f"{SENTENCES}/{name} has no tokenizer.json: take a model with a fast tokenizer")
    tokens = (model.preprocess if hasattr(model, "preprocess") else model.tokenize)(SAMPLE)
    names = [each for each in INPUTS if each in tokens]

    class Sentences(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return self.model(dict(zip(names, given, strict=True)))[SENTENCE]

    path, tokenizer = stem.with_name(f"{stem.name}.onnx"), stem.with_name(f"{stem.name}.tokenizer.json")
    axes = [tuple({0: "batch", 1: "tokens"} for _ in names)]
    _export(Sentences().eval(), [tokens[each].long() for each in names], axes, names, SENTENCE, path, opset)
    fast.enable_truncation(int(model.max_seq_length)) if model.max_seq_length else fast.no_truncation()
    fast.save(str(tokenizer))
    return Exported(path, tokenizer, {})


def _package(name: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MetaloomError(
            f"encoders of {extra} need the package {extra} ({error}): `pip install 'metaloom[{extra}]'`"
        ) from None


def _had(name: str, make: Callable[[], Any]) -> Any:
    """The model with its weights."""
    try:
        return make()
    except (OSError, RuntimeError, ValueError) as error:  # what hubs raise where there is no such model, or no answer
        raise MetaloomError(f"{name} cannot be had: {' '.join(str(error).split()):.300}") from None


def _export(
    model: Any, examples: Sequence[Any], axes: Sequence[Any], inputs: list[str], output: str, path: Path, opset: int
) -> None:
    """One file with the weights in it."""
    import torch

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's notes to those who write it
            torch.onnx.export(
                model,
                tuple(examples),
                str(path),
                input_names=inputs,
                output_names=[output],
                dynamic_shapes=tuple(axes),
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError) as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MetaloomError(f"{path.stem} cannot be exported to ONNX: {why:.300}") from None


def as_settings(given: dict[str, Any], settings: EncoderSettings) -> list[str]:
    """--set KEY=VALUE for each value that differs from what params.yaml says."""
    differing = {name: value for name, value in given.items() if getattr(settings, name) != value}
    return [f"--set encoder.{name}={str(value).replace(' ', '')}" for name, value in differing.items()]
