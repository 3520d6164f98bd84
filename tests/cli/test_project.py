from __future__ import annotations

import json
import shutil

import pytest

from metaloom.cli.project import trained_or_champion
from metaloom.errors import MetaloomError


def test_the_champion_is_of_those_that_a_run_has_trained(repo, tmp_path, monkeypatch):
    """With `--set methods=[maml]` the other method of params.yaml has no model."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    with pytest.raises(MetaloomError, match="train@protonet"):
        trained_or_champion(None)
    for name, accuracy in (("maml", 0.5), ("ridge", 0.9)):
        (tmp_path / "artifacts/models" / name).mkdir(parents=True)
        metrics = {"validation": {"accuracy": accuracy}}
        (tmp_path / "artifacts/models" / name / "metrics.json").write_text(json.dumps(metrics))
    assert trained_or_champion(None).name == "maml"  # ridge is not in params
