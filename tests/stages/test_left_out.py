"""A method that a time budget leaves out: its stage writes next to nothing, and no other stage asks for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from projects import REPO, plan_for_plenty

from metaloom.cli.project import trained_or_champion
from metaloom.errors import MetaloomError
from metaloom.stages import train


@pytest.fixture
def short(tmp_path, monkeypatch) -> Path:
    """A plan without `maml`."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPO / name, tmp_path)
    plan = Path(plan_for_plenty(tmp_path))
    values = json.loads(plan.read_text())
    values["maml"]["steps"] = 0
    plan.write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    return plan


def test_it_is_not_trained_and_its_outputs_are_there(short, capsys):
    train.main("maml", "absent", "absent", str(short), "artifacts/models/maml", "maml.json")
    assert capsys.readouterr().out == "maml: left out\n"
    assert [path.name for path in Path("artifacts/models/maml").iterdir()] == ["left_out.json"]
    assert json.loads(Path("maml.json").read_text()) == {"steps": 0}


def test_it_is_no_champion_and_cannot_be_asked_for(short):
    train.main("maml", "absent", "absent", str(short), "artifacts/models/maml", "maml.json")
    own = Path("artifacts/models/protonet")
    own.mkdir()
    (own / "learner.json").touch()
    (own / "metrics.json").write_text(json.dumps({"validation": {"accuracy": 0.1}}))
    assert trained_or_champion(None) == own
    with pytest.raises(MetaloomError, match="has no meta-learner 'maml': there are protonet"):
        trained_or_champion("maml")
