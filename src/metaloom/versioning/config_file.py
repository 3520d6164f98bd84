"""DVC's own settings, .dvc/config: what is wrong with the file, in words that say what to do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from metaloom.system.files import write_text
from metaloom.system.git import committed
from metaloom.system.lock import STATE

if TYPE_CHECKING:
    from dvc.config import ConfigError

CONFIG, LOCAL = ".dvc/config", ".dvc/config.local"
BROKEN = f"{STATE}/dvc-config.broken"  # the file as it was before it was taken from git


def in_our_words(error: ConfigError, root: Path | None) -> str:
    """What DVC refused, with the file that it is in and what to do."""
    found = {name: why for name in (CONFIG, LOCAL) if root and (why := _flaw(root / name))}
    name, why = next(iter(found.items()), (CONFIG, _reason(error)))
    remedy = f" or, as git has it, `git checkout {name}`" if root and as_committed(root) and name == CONFIG else ""
    return f"{name} holds no settings that DVC can read ({why}): correct it{remedy}"


def lost(root: Path) -> str:
    """How .dvc/config shows that a part of it got lost; nothing where it does not."""
    path, kept = root / CONFIG, as_committed(root)
    if why := _flaw(path):
        return f"holds no settings that DVC can read ({why})"
    if not kept:
        return ""
    content = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    if not content.strip():
        return "is empty, and not so in git" if path.is_file() else "is missing"
    torn = not content.endswith("\n") and kept.startswith(content) and kept[len(content) :][:1] not in ("\n", "")
    return "is cut off in the middle of a line" if torn else ""


def as_committed(root: Path) -> str:
    """The file as git has it; nothing where it has none, or one that is broken too."""
    from configobj import ConfigObj, ConfigObjError

    text = committed(root, CONFIG) or ""
    try:
        ConfigObj(text.splitlines())
    except ConfigObjError:
        return ""
    return f"{text}\n" if text else ""


def take_committed(root: Path) -> bool:
    """Write it as git has it, and keep what was there: it may have settings that were never committed."""
    if (root / CONFIG).is_file():
        (root / BROKEN).parent.mkdir(exist_ok=True)
        shutil.copyfile(root / CONFIG, root / BROKEN)
    write_text(root / CONFIG, as_committed(root))
    return not lost(root)


def _flaw(path: Path) -> str:
    """Why DVC cannot read the file; nothing where it can, or there is none."""
    from dvc.config import Config, ConfigError

    try:
        Config.load_file(str(path))
    except FileNotFoundError:
        return ""
    except ConfigError as error:
        return _reason(error)
    except OSError as error:
        return str(error.strerror or error).lower()
    return ""


def _reason(error: ConfigError) -> str:
    """In DVC's words."""
    return " ".join(str(error).removeprefix("config file error: ").split()).rstrip(".")
