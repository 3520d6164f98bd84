"""Where the stages write. dvc.yaml is the only home of these paths; everything else asks here."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.files import read_yaml
from metaloom.versioning.project import DAG

VERDICT = "verdict.txt"
BUNDLE = "handoff"  # its name among dvc.yaml's artifacts, and in the registry of models


class Outputs:
    """The paths in a project's dvc.yaml, relative to its root; each raises MetaloomError where dvc.yaml lacks it."""

    def __init__(self, root: str | Path = ".") -> None:
        """Raises MetaloomError: there is no dvc.yaml at `root`, or it is no valid YAML."""
        self._file = Path(root) / DAG
        self._dag: dict[str, Any] = read_yaml(self._file) or {}

    @property
    def dataset(self) -> str:
        """The folder of the packed examples."""
        return self._first("prepare", "outs")

    @property
    def embedded(self) -> str:
        """The folder of the examples as learners see them: as an encoder gives them, where there is one."""
        return self._first("embed", "outs")

    @property
    def plan(self) -> str:
        """The JSON file of the settings that were fitted to the data."""
        return self._first("plan", "outs")

    @property
    def splits(self) -> str:
        """The folder of class splits and fixed episodes."""
        return self._first("split", "outs")

    @property
    def models(self) -> str:
        """The folder of all methods' models: the stage writes one folder in it for each."""
        return str(PurePosixPath(self._first("train", "outs")).parent)

    @property
    def evaluation(self) -> str:
        """The folder of the evaluation's tables."""
        return self._first("evaluate", "outs")

    @property
    def figures(self) -> str:
        """The JSON file of every learner's figures."""
        return f"{self.evaluation}/figures.json"

    @property
    def headline(self) -> str:
        """The JSON file of the few figures that git keeps."""
        return self._first("evaluate", "metrics")

    @property
    def bundle(self) -> str:
        """The folder that is handed off: the artifact of that name."""
        path = (self._dag.get("artifacts") or {}).get(BUNDLE, {}).get("path")
        if not path:
            raise MetaloomError(f"{self._file} has no artifact {BUNDLE} with a path: `git checkout {DAG}` restores it")
        return path

    @property
    def page(self) -> str:
        """The report's index.html."""
        return f"{self._report}/index.html"

    @property
    def verdict(self) -> str:
        """What the run came to, in words: a text file beside the report."""
        return f"{self._report}/{VERDICT}"

    @property
    def _report(self) -> PurePosixPath:
        """The folder; DVC knows of the verdict in it alone, or of all of it in a project of an earlier version."""
        path = PurePosixPath(self._first("report", "outs"))
        return path.parent if path.name == VERDICT else path

    def known(self, name: str) -> str | None:
        """The path of that name; None where dvc.yaml lacks it."""
        try:
            return getattr(self, name)
        except MetaloomError:
            return None

    def _first(self, stage: str, kind: str) -> str:
        """The first path of a list in dvc.yaml, where an entry is a path or {path: options}."""
        entries = (self._dag.get("stages") or {}).get(stage, {}).get(kind)
        if not entries:
            raise MetaloomError(f"{self._file} has no stage {stage} with {kind}: `git checkout {DAG}` restores it")
        return entries[0] if isinstance(entries[0], str) else next(iter(entries[0]))
