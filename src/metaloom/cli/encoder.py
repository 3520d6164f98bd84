"""`metaloom encoder add`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from metaloom.cli.project import go_to_root
from metaloom.errors import MetaloomError

ENCODERS = Path("encoders")

app = typer.Typer(help="Pre-trained networks to put in front.", no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def _group() -> None:
    """With a single command typer would take this for the command itself."""


@app.command()
def add(
    path: Annotated[Path, typer.Argument(help="An ONNX file.")],
    name: Annotated[str | None, typer.Option(help="What to call it in encoders/; without it: as the file.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Of an encoder of texts: its tokenizer.json.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what has this name in encoders/.")] = False,
    seconds: Annotated[float, typer.Option(min=1, max=1e6, help="Most time to try it, in seconds.")] = 600,
    gigabytes: Annotated[float, typer.Option(min=0.5, max=1e6, help="Most memory that it may take, in GB.")] = 24,
) -> None:
    """Check a frozen encoder, and copy it with all its weights into encoders/ as one file.

    It takes pictures, or with a tokenizer texts, and gives a row of numbers for each. What the file does not say of
    its input, the section `encoder` of params.yaml does. It is tried in a process of its own, as it may come from a
    stranger.
    `metaloom run --set encoder.file=encoders/NAME.onnx` puts it in front.
    """
    from metaloom.config import load_settings
    from metaloom.kinds import TOKENIZER, packed_encoder
    from metaloom.system.files import atomic_file, sha256

    from_here = go_to_root()
    path, tokenizer = from_here(path), None if tokenizer is None else from_here(tokenizer)
    settings = load_settings()
    target = ENCODERS / f"{name or path.stem}.onnx"
    if target.parent != ENCODERS:
        raise MetaloomError(f"--name {name}: give a name without a folder")
    if target.exists() and not replace:
        raise MetaloomError(f"{target} is there already: --replace takes its place, --name gives another name")
    with atomic_file(target) as temporary:
        own = None if tokenizer is None else str(tokenizer)
        given = settings.encoder.model_copy(update={"file": str(path), "tokenizer": own})
        encoder = packed_encoder(given, settings.export, temporary, seconds, gigabytes)
        if tokenizer is not None:
            with atomic_file(target.with_name(f"{target.stem}.{TOKENIZER}")) as copied:
                shutil.copyfile(tokenizer, copied)
    print(f"{target}  {target.stat().st_size / 2**20:.1f} MiB  {encoder.embed} numbers each  SHA-256 {sha256(target)}")
    print(f"`dvc add {ENCODERS}` versions it, `metaloom run --set encoder.file={target}` puts it in front")
