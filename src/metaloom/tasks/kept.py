"""Where each domain or class stays when data are added: splits.yaml, a small file that is committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from metaloom.config import SPLITS, SplitSettings, first_problem
from metaloom.errors import MetaloomError
from metaloom.system.files import read_yaml, write_text
from metaloom.tasks.splits import assign_splits, unit_of

SPLITS_FILE = Path("splits.yaml")  # in a project's root
ABOUT = """\
# The split of each {unit}: it stays there when data are added, and you may move it by hand.
# Other settings of `split`, another seed or `split.reassign: true` draw again.
"""


class Kept(BaseModel):
    """splits.yaml.

    Args:
        by: what is listed: domains or classes.
        drawn_with: the seed and the settings of the section `split`.
        train: those in this split.
        validation: likewise.
        test: likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    by: Literal["domain", "class"]
    drawn_with: dict[str, Any]
    train: list[str]
    validation: list[str]
    test: list[str]

    @property
    def split_of(self) -> dict[str, str]:
        """The split of each domain or class, by its name."""
        return {each: split for split in SPLITS for each in getattr(self, split)}


def read_kept(path: Path) -> Kept | None:
    """None where there is no such file yet.

    Raises:
        MetaloomError: it is not what `write_kept` writes, or has something in two splits.
    """
    if not path.is_file():
        return None
    remedy = f"fix it, or remove it and the splits are drawn again (`git checkout {path}` restores the last one)"
    found = read_yaml(path, remedy)
    try:
        kept = Kept.model_validate(found)
    except ValidationError as error:
        raise MetaloomError(f"{path}: {first_problem(error)}: {remedy}") from None
    names = [*kept.train, *kept.validation, *kept.test]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise MetaloomError(f"{path} has {twice[0]} in two places: {remedy}")
    return kept


def share_out(classes: pd.DataFrame, settings: SplitSettings, seed: int, path: Path) -> tuple[pd.DataFrame, str]:
    """The class table with its `split` column, and what was shared out: "domain" or "class"; what `path` has stays."""
    own, kept = kept_for(read_kept(path), classes, settings, seed)
    try:
        return assign_splits(classes, own, seed, kept), unit_of(classes, own)
    except MetaloomError as error:
        if not kept:
            raise
        again = "`--set split.reassign=true` draws again"
        raise MetaloomError(f"{error} ({path} keeps what it has in its split: {again})") from None


def kept_for(
    kept: Kept | None, classes: pd.DataFrame, settings: SplitSettings, seed: int
) -> tuple[SplitSettings, Mapping[str, str]]:
    """What stays where it is, and the settings with the `by` that it was drawn with.

    Nothing stays where it was drawn with other settings, is not in the data any more, or is asked to be drawn again.
    """
    if kept is None or settings.reassign or kept.drawn_with != drawn_with(settings, seed):
        return settings, {}
    present = {each: split for each, split in kept.split_of.items() if each in set(classes[kept.by])}
    if not present:
        return settings, {}
    if kept.by == "class":  # classes stay apart when so many domains come that `auto` would share out domains
        return settings.model_copy(update={"by": "class"}), present
    return settings, present


def add_renamed(path: Path, renamed: Callable[[str], str]) -> list[str]:
    """Put the new names of domains or classes beside the old ones: the data have the ones or the others.

    One that stands there already stays in its split.

    Args:
        path: of splits.yaml; where there is none, nothing is done.
        renamed: the new name; of what keeps its name that one.

    Returns:
        A sentence about each one that goes to another split by that.

    Raises:
        MetaloomError: it is damaged.
    """
    kept = read_kept(path)
    if kept is None:
        return []
    before, new, moved = kept.split_of, dict[str, str](), []
    for name, split in before.items():
        there = before.get(renamed(name), split)
        if there != split:
            moved.append(f"{name} was in {split}, and goes to {there} with {renamed(name)}: {path.name} decides")
        new[renamed(name)] = there
    _rewrite(path, kept, before | new)
    return moved


def drop_renamed(path: Path, renamed: Callable[[str], str]) -> bool:
    """Take the old names out again; whether there were any."""
    kept = read_kept(path)
    if kept is None:
        return False
    left = {name: split for name, split in kept.split_of.items() if renamed(name) == name}
    _rewrite(path, kept, left)
    return left != kept.split_of


def _rewrite(path: Path, kept: Kept, split_of: Mapping[str, str]) -> None:
    """Only where it says something else: lines that a user wrote beside the names go."""
    if split_of != kept.split_of:
        splits = {split: sorted(name for name, own in split_of.items() if own == split) for split in SPLITS}
        _write(path, kept.by, {"by": kept.by, "drawn_with": kept.drawn_with} | splits)


def drawn_with(settings: SplitSettings, seed: int) -> dict[str, Any]:
    """All that a split depends on beside the data."""
    return {"seed": seed, **settings.model_dump(exclude={"reassign"})}


def write_kept(path: Path, classes: pd.DataFrame, unit: str, settings: SplitSettings, seed: int) -> None:
    """Write the splits of a class table from `assign_splits`."""
    splits = {split: sorted(set(classes.loc[classes["split"] == split, unit])) for split in SPLITS}
    about = {"by": unit, "drawn_with": drawn_with(settings, seed)}
    _write(path, unit, about | splits)


def _write(path: Path, unit: str, values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    write_text(path, ABOUT.format(unit=unit) + text)
