"""What is known of each retraining: a small file, written whole after every step."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.files import read_json, write_json
from metaloom.system.lock import RETRAINING

FOLDER = RETRAINING
RECORDS = f"{FOLDER}/nights"
CURRENT = f"{FOLDER}/current.json"  # from what nothing new comes: keys of `Start`
CURRENT_KEPT = 50
CHAMPION = "champion"  # in a workspace: the weights that training starts from, if any, which train.start names then
TRACKED, IGNORE = f"{CHAMPION}.dvc", ".gitignore"  # by which DVC tracks them; to which it adds the folder
DAY = 24 * 3600.0
LASTING = ("promoted", "candidate", "kept")  # outcomes of which a version stays; beside them held and dropped


@dataclass
class Night:
    """One retraining.

    Args:
        name: date and data version.
        key: of all that it starts from.
        base: the commit that it starts from.
        data: the data version.
        began: Unix time.
        splits: text of splits.yaml that it starts from.
        past: the commit whose data version it is, where that is one of the past: its model is put into no stage.
        changed: settings that are changed for it, by dotted keys.
        start: version of the model whose weights its training starts from; empty: of none; None: not asked yet.
        done: steps.
        commit: that holds its result; empty before there is one.
        apart: whether the remote has another branch of its name, as another clone has retrained the same that day.
        champion: version that was in the stage when it was judged; empty where there was none.
        verdict: outcome, message and evidence of the judge.
        outcome: what became of it; empty until it has ended.
        reason: of the outcome, or of the last failure, in words.
        version: of the model that it made; empty where it made none.
        tags: of models that it made, which the remote may not have yet.
        figures: of the task handed off: accuracy with the ends of its interval.
        notes: lines for its reader.
        seconds: that it took, all tries together.
        kwh: energy of its training; 0 where that was not counted.
        co2: kilograms that are emitted for it.
        ended: Unix time; 0 before.
        told: whether a person was told of the outcome, where that is wanted.
        logged: whether MLflow has it.
    """

    name: str
    key: str
    base: str
    data: str
    began: float
    splits: str = ""
    past: str = ""
    changed: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    done: list[str] = field(default_factory=list)
    commit: str = ""
    apart: bool = False
    champion: str = ""
    verdict: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""
    reason: str = ""
    version: str = ""
    tags: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    kwh: float = 0.0
    co2: float = 0.0
    ended: float = 0.0
    told: bool = False
    logged: bool = False

    @property
    def branch(self) -> str:
        """That holds its commit."""
        return f"retrain/{self.name}" + (f"-{self.commit[:8]}" if self.apart else "")

    @property
    def became(self) -> str:
        """Its outcome, or how far it has come."""
        return self.outcome or ("not shared yet" if self.commit else "not finished")

    def workspace(self, root: Path) -> Path:
        """The worktree that it works in."""
        return root / FOLDER / self.name

    def forget(self, root: Path) -> None:
        """Remove its record."""
        (root / RECORDS / f"{self.name}.json").unlink(missing_ok=True)

    def note(self, line: str) -> None:
        """Add a line for its reader, once."""
        if line not in self.notes:
            self.notes.append(line)

    def save(self, root: Path) -> None:
        """Write it, whole."""
        write_json(root / RECORDS / f"{self.name}.json", asdict(self))


def nights(root: Path) -> list[Night]:
    """All that are known, the oldest first.

    Raises:
        MetaloomError: a record is damaged.
    """
    found = []
    for path in (root / RECORDS).glob("*.json"):
        try:
            found.append(night_of(read_json(path)))
        except TypeError:
            raise MetaloomError(f"{path} is no record of a retraining: remove it") from None
    return sorted(found, key=lambda night: (night.began, night.name))


def night_of(known: Any) -> Night:
    """A record from what was written of it; raises TypeError where that is none."""
    night, plain = Night(**known), Night("", "", "", "", 0.0, start="")
    for each in fields(Night):
        value, kind = getattr(night, each.name), type(getattr(plain, each.name))
        if not isinstance(value, (int, float) if kind is float else kind) and not (
            each.name == "start" and value is None
        ):
            raise TypeError(f"{each.name} is {value!r}")
    return night


def last_ended(root: Path) -> float:
    """Unix time when the last retraining ended; 0 where none has. One that was dropped does not count."""
    return max((each.ended for each in nights(root) if each.outcome not in ("", "dropped")), default=0.0)


def named(root: Path, date: str, data: str) -> str:
    """A name that no night has yet: date and data version, with a number where there are several."""
    first = f"{date}-{data[:8]}"
    taken = {path.stem for path in (root / RECORDS).glob("*.json")}
    return next(name for name in (first, *(f"{first}-{n}" for n in range(2, 10_000))) if name not in taken)


def current_keys(root: Path) -> list[str]:
    """The keys from which nothing new comes."""
    path = root / CURRENT
    try:
        found = read_json(path) if path.is_file() else []
    except MetaloomError:  # looked at again
        return []
    return [str(each) for each in found] if isinstance(found, list) else []


def nothing_comes_of(root: Path, *keys: str) -> None:
    """Remember keys, the newest last."""
    known = [each for each in current_keys(root) if each not in keys]
    write_json(root / CURRENT, [*known, *keys][-CURRENT_KEPT:])
