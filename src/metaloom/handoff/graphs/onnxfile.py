"""From a torch module to a self-contained ONNX file without traces of its maker."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from metaloom import __version__
from metaloom.config import ExportSettings
from metaloom.handoff.shipped.verify import EXAMPLES
from metaloom.kinds.encoding import Encoding
from metaloom.planning.deployment import check_versions
from metaloom.system.files import read_sealed, write_sealed
from metaloom.system.provenance import libraries
from metaloom.system.source_files import noted_digest

GRAPHS = Path(".metaloom/graphs")  # graphs without their weights: made once for each kind of task
GRAPHS_KEPT = 64
DIGESTS = GRAPHS.parent / "digests"  # of our code, noted for what the package holds now
MAKERS = "metaloom.handoff.graphs"  # the package whose code makes them


def exported(
    module: torch.nn.Module | torch.fx.GraphModule,
    examples: Sequence[Tensor],
    axes: Sequence[Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    export: ExportSettings,
) -> onnx.ModelProto:
    """The module as ONNX, in the opset and IR version of the settings.

    Args:
        module: called with the examples.
        examples: inputs of any size.
        axes: for each input (a tuple for those of *arguments), which of its axes may have another size.
        inputs: their names.
        outputs: names of the outputs.
        export: for the versions.
    """
    from metaloom.handoff.graphs.decompositions import TRANSLATIONS  # onnxscript takes long, and most graphs are kept

    with _quiet(), torch.no_grad():
        program = torch.export.export(module, tuple(examples), dynamic_shapes=tuple(axes), strict=False)
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=export.opset,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table=TRANSLATIONS,
        )
    assert onnx_program is not None
    model = onnx_program.model_proto
    _strip(model)
    model.ir_version = export.ir_version
    return model


def kept(kind: str, about: Mapping[str, Any], export: ExportSettings, make: Callable[[], onnx.ModelProto]) -> bytes:
    """What `make` makes, from a file where it has been made before by this very code with these very values.

    Args:
        kind: of graph.
        about: all that the graph depends on beside the code, as plain values.
        export: for the versions.
        make: the graph without its weights.

    Raises:
        MetaloomError: the opset needs a newer IR version.
    """
    check_versions(export)
    versions = {"opset": export.opset, "ir_version": export.ir_version, "libraries": libraries()}
    parts = [kind, json.dumps({**about, **versions}, sort_keys=True), noted_digest(DIGESTS, MAKERS)]
    path = GRAPHS / f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()}.onnx"
    if (known := read_sealed(path)) is not None:
        return known
    data = make().SerializeToString(deterministic=True)
    write_sealed(path, data)
    for old in sorted(path.parent.glob("*.onnx"), key=lambda each: each.stat().st_mtime)[:-GRAPHS_KEPT]:
        old.unlink(missing_ok=True)
    return data


def taking_raw(graph: bytes, encoding: Encoding, export: ExportSettings, behind: Encoding | None = None) -> bytes:
    """A graph from `kept` whose inputs of examples are raw ones, where torch could not trace all of their way; what is
    put before it is that of `behind`, if it is given."""
    if not encoding.grafted:
        return graph
    model, front = onnx.load_model_from_string(graph), _front(encoding, export)
    for name in [each.name for each in model.graph.input if each.name in EXAMPLES]:
        (behind or encoding).graft(model, name, front)
    return model.SerializeToString(deterministic=True)


def _front(encoding: Encoding, export: ExportSettings) -> onnx.ModelProto | None:
    """What torch traces of raw examples before what is grafted."""
    made = encoding.front()
    if made is None:
        return None
    function, raw, variable = made
    axes: Sequence[Any] = [dict.fromkeys(variable, torch.export.Dim.AUTO)]

    class Front(torch.nn.Module):
        def forward(self, examples: Tensor) -> Tensor:
            return function(examples)

    def make() -> onnx.ModelProto:
        return exported(Front().eval(), [raw], axes, ["raw"], ["packed"], export)

    return onnx.load_model_from_string(kept("front", {"input": encoding.kind.described()}, export, make))


def filled(
    graph: bytes, tensors: Mapping[str, Tensor], about: Mapping[str, str], sizes: Mapping[str, int] | None = None
) -> bytes:
    """A graph whose inputs of these names are constants.

    Args:
        graph: from `kept`.
        tensors: what becomes constant.
        about: goes into the file's metadata_props.
        sizes: of axes that are no longer variable, by their names.
    """
    model = onnx.load_model_from_string(graph)
    fill(model, tensors, sizes or {})
    return checked(model, about)


def fill(model: onnx.ModelProto, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Inputs of these names become constants, in place."""
    inputs = [value for value in model.graph.input if value.name not in tensors]
    model.graph.initializer.extend(
        numpy_helper.from_array(_array(tensors[value.name]), value.name)
        for value in model.graph.input
        if value.name in tensors
    )
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in model.graph.output:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in sizes:
                size.dim_value = sizes[size.dim_param]


def checked(model: onnx.ModelProto, about: Mapping[str, str], with_onnx: bool = True) -> bytes:
    """A whole model's bytes, which are the same for the same model; ONNX's checker has seen it unless told not to."""
    del model.graph.value_info[:]  # sizes of the example that was traced; runtimes infer their own
    versions = {each.domain: each.version for each in model.opset_import}
    del model.opset_import[:]  # what was joined or written into the graph has left an entry of its own
    model.opset_import.extend(onnx.helper.make_opsetid(*each) for each in versions.items())
    onnx.helper.set_model_props(model, dict(about))
    if with_onnx:
        onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they hold paths and line numbers of the machine it ran on."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        part.doc_string = ""
        del part.metadata_props[:]
    model.producer_name, model.producer_version = "metaloom", __version__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says every time about torchvision and its own internals, nothing else."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
