"""Which of our files each stage depends on; `python -m metaloom.pipeline.dependencies` writes them into dvc.yaml."""

from __future__ import annotations

import re
from pathlib import Path

from metaloom.system.files import write_text
from metaloom.system.source_files import by_folder, sources
from metaloom.versioning import project
from metaloom.versioning.code import CODE

DAG = Path(project.DAG)
SOURCE = "src/metaloom"
WIDTH = 100  # a list that fits stands on one line

_STAGE = re.compile(r"^  (?P<name>[\w-]+):\n(?P<body>(?: {4}.*\n|\s*\n)+)", re.MULTILINE)
_MODULE = re.compile(r"python -m (metaloom\.stages\.\w+)")
_DEPS = re.compile(r"^    deps:(?P<list> \[.*\]\n|\n(?: {6}- .*\n)+)", re.MULTILINE)
_PARAMS = re.compile(r"^    params: \[(?P<list>(?:[^\n]|\n {6})*)\]\n", re.MULTILINE)


def derived(dag: str) -> str:
    """dvc.yaml's text with the source files of every stage's `deps` as its module's imports have them.

    Dependencies outside the package, such as data and the outputs of other stages, stay as they are and come first.
    """
    return _STAGE.sub(_derived_stage, dag)


def _derived_stage(stage: re.Match[str]) -> str:
    module = _MODULE.search(stage[0])
    return _DEPS.sub(lambda deps: _derived_deps(deps, module[1]), stage[0]) if module else stage[0]


def _derived_deps(deps: re.Match[str], module: str) -> str:
    return _deps([*_others(deps), *(f"{SOURCE}/{each.as_posix()}" for each in by_folder(sources(module)))])


def _others(deps: re.Match[str]) -> list[str]:
    """The dependencies that are no source files."""
    return [each for each in re.split(r"[\[\],\s]+(?:- )?", deps["list"]) if each and not each.startswith(SOURCE)]


def _deps(entries: list[str]) -> str:
    line = f"    deps: [{', '.join(entries)}]\n"
    return line if len(line) <= WIDTH else "    deps:\n" + "".join(f"      - {each}\n" for each in entries)


def stage_modules(dag: str) -> dict[str, str]:
    """The dotted module that each of our stages runs, by the stage's name in dvc.yaml's text."""
    found = ((stage["name"], _MODULE.search(stage[0])) for stage in _STAGE.finditer(dag))
    return {name: module[1] for name, module in found if module}


def with_code_file(dag: str) -> str:
    """dvc.yaml's text for a project without the tool's sources: a stage depends on its entry of code.yaml instead."""
    return _STAGE.sub(_stage_with_code_file, dag)


def _stage_with_code_file(stage: re.Match[str]) -> str:
    if not _MODULE.search(stage[0]):
        return stage[0]
    text = _DEPS.sub(lambda deps: _deps(_others(deps)), stage[0])
    return _PARAMS.sub(lambda params: f"    params: [{params['list']}, {CODE}: [{stage['name']}]]\n", text)


def main() -> None:
    """Rewrite the `deps` of dvc.yaml."""
    before = DAG.read_text(encoding="utf-8")
    after = derived(before)
    if before == after:
        print(f"{DAG} names the source files of every stage already")
        return
    write_text(DAG, after)
    print(f"{DAG}: the dependencies of its stages follow the imports again; `git diff {DAG}` shows what changed")


if __name__ == "__main__":
    main()
