"""`metaloom encoder add`."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.hubs import as_settings, fetched, hub_of
from metaloom.cli.project import go_to_root
from metaloom.errors import MetaloomError
from metaloom.system.files import atomic_file, sha256
from metaloom.system.terminal import say

if TYPE_CHECKING:
    from metaloom.config import Settings

ENCODERS = Path("encoders")

app = typer.Typer(help="Pre-trained networks to put in front.", no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def _group() -> None:
    """With a single command typer would take this for the command itself."""


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="An ONNX file; or timm/NAME or sentence-transformers/NAME, which is fetched.")
    ],
    name: Annotated[str | None, typer.Option(help="What to call it in encoders/; without it: as the file.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Of an encoder of texts: its tokenizer.json.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what has this name in encoders/.")] = False,
    seconds: Annotated[float, typer.Option(min=1, max=1e6, help="Most time to try it, in seconds.")] = 600,
    gigabytes: Annotated[float, typer.Option(min=0.5, max=1e6, help="Most memory that it may take, in GB.")] = 24,
) -> None:
    """Check a frozen encoder, and copy it with all its weights into encoders/ as one file.

    It takes pictures, or with a tokenizer texts, and gives a row of numbers for each. What the file does not say of
    its input, the section `encoder` of params.yaml does. It is tried in a process of its own, as it may come from a
    stranger. A model by its name on a hub is exported to ONNX first, by the hub's own package and torch.
    `metaloom run --set encoder.file=encoders/NAME.onnx` puts it in front.
    """
    from metaloom.config import load_settings

    from_here = go_to_root()
    settings = load_settings()
    hub = hub_of(path.as_posix())
    target = ENCODERS / f"{name or (path.name if hub else path.stem)}.onnx"
    if target.parent != ENCODERS:
        raise MetaloomError(f"--name {name}: give a name without a folder")
    if target.exists() and not replace:
        raise MetaloomError(f"{target} is there already: --replace takes its place, --name gives another name")
    limits = seconds, gigabytes
    if hub is None:
        own = None if tokenizer is None else from_here(tokenizer)
        further, embed = [], _pack(from_here(path), own, {}, settings, target, limits)
    elif tokenizer is not None:
        raise MetaloomError(f"{path} brings its own tokenizer: leave out --tokenizer")
    else:
        with TemporaryDirectory() as folder:
            say(f"{path}: fetched by {hub}, and exported to ONNX")
            made = fetched(path.as_posix(), Path(folder), settings.export.opset)
            further = as_settings(made.settings, settings.encoder)
            embed = _pack(made.path, made.tokenizer, made.settings, settings, target, limits)
    print(f"{target}  {target.stat().st_size / 2**20:.1f} MiB  {embed} numbers each  SHA-256 {sha256(target)}")
    use = " ".join(["metaloom run", f"--set encoder.file={target}", *further])
    print(f"`dvc add {ENCODERS}` versions it, `{use}` puts it in front")


def _pack(
    path: Path,
    tokenizer: Path | None,
    known: dict[str, Any],
    settings: Settings,
    target: Path,
    limits: tuple[float, float],
) -> int:
    """Write the encoder's one file, and its tokenizer beside it; gives the length of an embedding.

    Args:
        path: of the encoder as it came.
        tokenizer: its file.
        known: values of the section `encoder`, which stand above those of the settings.
        settings: of the project.
        target: the file in encoders/.
        limits: seconds, and gigabytes of memory.

    Raises:
        MetaloomError: it is refused.
    """
    from metaloom.kinds import TOKENIZER, packed_encoder

    own = None if tokenizer is None else str(tokenizer)
    given = settings.encoder.model_copy(update={**known, "file": str(path), "tokenizer": own})
    with atomic_file(target) as temporary:
        encoder = packed_encoder(given, settings.export, temporary, *limits)
        if tokenizer is not None:
            with atomic_file(target.with_name(f"{target.stem}.{TOKENIZER}")) as copied:
                shutil.copyfile(tokenizer, copied)
    return encoder.embed
