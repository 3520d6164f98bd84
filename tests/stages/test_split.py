"""The stage `split` under DVC: what it wrote the last time decides where things stay."""

from __future__ import annotations

import shutil

import pytest
import yaml
from PIL import Image
from projects import locked_stages, run_here


@pytest.mark.slow
def test_domains_stay_where_they_were_when_data_are_added(make):
    root = make({"split.test": 0.3})
    run_here(root, "dvc", "repro", "-q", "split")
    before = yaml.safe_load((root / "splits.yaml").read_text())
    before["train"].remove(moved := before["train"][0])
    before["test"].append(moved)
    (root / "splits.yaml").write_text(yaml.safe_dump(before))
    for domain in ("domain0", "domain1"):
        shutil.copytree(root / "data" / domain, root / "data" / f"{domain}b")
        for file in (root / "data" / f"{domain}b").rglob("*.png"):
            Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file)
    run_here(root, "dvc", "repro", "-q", "split")
    after = yaml.safe_load((root / "splits.yaml").read_text())
    assert all(set(before[split]) <= set(after[split]) for split in ("train", "validation", "test"))
    assert moved in after["test"] and "splits.yaml" in {out["path"] for out in locked_stages(root)["plan"]["outs"]}
    assert "up to date" in run_here(root, "dvc", "status", "split").stdout
