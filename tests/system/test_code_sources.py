"""Which files a result depends on: read from the imports, and true to what Python imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from projects import plan_for_plenty

from metaloom.handoff.graphs import onnxfile
from metaloom.stages import pretrain, train
from metaloom.system.source_files import NO_EFFECT, NOT_FOLLOWED, PACKAGE, by_folder, digest, sources

TOY = {
    "__init__.py": "from toy import everything\n",
    "everything.py": "x = 1\n",
    "errors.py": "import toy.everything\n",
    "system/__init__.py": "",
    "system/files.py": "import toy.everything\n",
    "start.py": "import numpy\nfrom toy.errors import x\nfrom toy.room import shelf\nfrom toy.system.files import y\n",
    "room/__init__.py": "from toy.room.door import *\n",
    "room/door.py": "def late():\n    from .. import cellar\n    from .window import pane\n",
    "room/window.py": "pane = 1\n",
    "room/shelf.py": "if TYPE_CHECKING:\n    from toy.room import lamp\nelse:\n    import toy.attic\n",
    "room/lamp.py": "x = 1\n",
    "attic.py": "LAZY = 'toy.guests.one'\n",
    "cellar.py": "x = 'toy.guests.nobody'\n",
    "guests/__init__.py": '"""Only words."""\n',
    "guests/one.py": "x = 'toy'\n",
    "guests/two.py": "x = 1\n",
    "guests/three.py": "x = 1\n",
    "hall/__init__.py": '"""Its code reads the files beside it."""\n',
    "hall/page.py": "x = 1\n",
    "hall/words.py": "x = 1\n",
    "hall/templates/page.html": "<p>",
    "hall/inner/__init__.py": "x = 1\n",
    "hall/inner/own.txt": "of a package of its own",
}


@pytest.fixture
def toy(tmp_path) -> Path:
    for name, text in TOY.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def found(toy: Path, *modules: str) -> set[str]:
    return {path.as_posix() for path in sources(*modules, package=toy)}


def test_imports_and_names_are_followed_but_not_type_checkers_nor_what_cannot_matter(toy):
    room = {"room/__init__.py", "room/door.py", "room/window.py", "room/shelf.py"}
    assert found(toy, "toy.start") == {"start.py", *room, "cellar.py", "attic.py", "guests/one.py"}


def test_a_package_with_other_files_than_python_counts_whole(toy):
    assert found(toy, "toy.hall.page") == {"hall/page.py", "hall/words.py", "hall/templates/page.html"}


def test_a_package_stands_for_all_of_its_modules(toy):
    assert found(toy, "toy.guests") == {"guests/one.py", "guests/two.py", "guests/three.py"}


def test_a_module_that_is_not_there_is_refused(toy):
    with pytest.raises(LookupError, match="toy.gone"):
        sources("toy.gone", package=toy)


def test_a_folder_stands_for_its_files_where_most_of_them_are_used(toy):
    one, two, shelf = Path("guests/one.py"), Path("guests/two.py"), Path("room/shelf.py")
    assert by_folder([one, two, shelf], toy) == [Path("guests"), shelf]
    assert by_folder([two], toy) == [two]
    hall = [Path("hall/page.py"), Path("hall/words.py")]
    assert by_folder(hall, toy) == hall  # not the folder: its package `inner` is not used


def test_the_digest_is_of_contents_and_names(toy, monkeypatch):
    from metaloom.system import source_files as module

    def now(*modules: str) -> str:
        module._digest.cache_clear()
        return module._digest(modules, toy)

    before = now("toy.guests")
    assert now("toy.guests") == before
    (toy / "guests/two.py").write_text("x = 2\n")
    changed = now("toy.guests")
    (toy / "guests/two.py").rename(toy / "guests/four.py")
    renamed = now("toy.guests")
    assert len({before, changed, renamed}) == 3
    (toy / "everything.py").write_text("x = 2\n")
    assert now("toy.guests") == renamed


def test_everything_that_python_imports_for_training_counts():
    code = "import sys, metaloom.stages.train; print(*(getattr(m, '__file__', '') for m in [*sys.modules.values()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [Path(file) for file in done.stdout.split() if Path(file).is_relative_to(PACKAGE)]
    loaded = {file.relative_to(PACKAGE) for file in ours}
    matter = {file for file in loaded if not any(file.is_relative_to(each) for each in NO_EFFECT)}
    lacking = matter - sources("metaloom.stages.train")
    assert all("import" not in (PACKAGE / file).read_text() for file in lacking), lacking  # only a docstring
    assert Path("tasks/distinct.py") in matter - lacking


def test_what_decides_values_in_system_counts():
    """Draws, what a GPU may round, figures without a value, the libraries that a bundle names."""
    assert {Path("system/seeds.py"), Path("system/device.py")} <= sources("metaloom.stages.train")
    assert {Path("system/seeds.py"), Path("system/rounding.py")} <= sources("metaloom.stages.evaluate")
    assert {Path("system/rounding.py"), Path("system/provenance.py")} <= sources("metaloom.stages.export")


def test_what_is_left_out_is_there():
    assert all((PACKAGE / each).exists() for each in NO_EFFECT)
    assert all((PACKAGE / room).is_dir() for rooms in NOT_FOLLOWED for room in rooms)


def test_stages_that_build_networks_depend_on_them_and_others_do_not():
    network = Path("networks/conv4.py")
    for name in ("train", "pretrain", "tune", "evaluate", "export"):
        assert network in sources(f"metaloom.stages.{name}")
    for name in ("prepare", "split", "report"):
        assert network not in sources(f"metaloom.stages.{name}")


def test_a_checkpoint_is_of_the_code_of_its_stage(tmp_path, repo, monkeypatch, tiny_settings):
    class Asked(Exception):
        pass

    def ask(*modules: str) -> str:
        raise Asked(*modules)

    monkeypatch.setattr(train, "digest", ask)
    monkeypatch.chdir(repo)
    places = ["dataset", "splits", plan_for_plenty(tmp_path), "model", "metrics"]
    with pytest.raises(Asked, match="metaloom.stages.train"):
        train.main("protonet", *places)
    with pytest.raises(Asked, match="metaloom.stages.pretrain"):
        pretrain.main(*places)
    for name in ("items", "classes", "episodes"):
        (tmp_path / f"{name}.parquet").write_bytes(b"")

    def fingerprint(code: str, device: str = "cpu") -> str:
        return train._fingerprint(code, {}, tiny_settings, torch.device(device), str(tmp_path), str(tmp_path))

    one = fingerprint("a")
    assert one == fingerprint("a") != fingerprint("b")
    assert tiny_settings.device == "auto"
    assert one != fingerprint("a", "cuda")  # whose generator has another state
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert one != fingerprint("a")


def test_a_kept_graph_is_of_the_code_that_makes_it(tmp_path, monkeypatch, tiny_settings):
    monkeypatch.chdir(tmp_path)
    made = []

    def graph() -> None:
        onnxfile.kept("any", {}, tiny_settings.export, lambda: made.append(1) or onnx.ModelProto())

    graph()
    graph()
    assert len(made) == 1
    monkeypatch.setattr(onnxfile, "noted_digest", lambda notes, *modules: "changed")
    graph()
    assert len(made) == 2
    assert digest(onnxfile.MAKERS) == digest("metaloom.handoff.graphs")
    makers = {path.as_posix() for path in sources(onnxfile.MAKERS)}
    assert {"handoff/graphs/learning.py", "kinds/pictures/in_graph.py", "methods/maml.py"} <= makers
