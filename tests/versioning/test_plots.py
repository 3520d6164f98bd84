"""Pages of plots: with what they are drawn with kept in the project they ask nobody; without it they say so."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from chromium import Browser, needed
from dvc_render import VegaRenderer, render_html
from projects import REPO

from metaloom.system.lock import STATE
from metaloom.versioning import plots

TEMPLATES = REPO / ".dvc/plots"
ROWS = [{"step": "1", "loss": "0.5", "rev": "workspace", "filename": "a/loss.tsv"}]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """As `dvc plots show` writes it."""
    curve = VegaRenderer(ROWS, "loss", template="curves", template_dir=str(TEMPLATES), x="step", y="loss")
    return Path(render_html([curve], tmp_path / "dvc_plots/index.html", html_template=TEMPLATES / plots.PAGE))


@needed
def test_a_page_needs_no_network_where_the_project_has_what_draws_it(page: Path):
    with Browser("--host-resolver-rules=MAP * ~NOTFOUND") as browser:
        browser.open(page)
        assert browser.run("document.body.textContent").startswith("These plots are drawn by vega")
        kept = page.parents[1] / STATE / plots.NEEDED
        kept.parent.mkdir()
        kept.write_text("window.vegaEmbed = (place, spec) => { window.drawn = [place, spec.layer.length]; };")
        browser.events.clear()
        browser.open(page)
        assert browser.run("window.drawn[1]") == 2
        asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
        assert {url.partition(":")[0] for url in asked} == {"file"}


def test_what_draws_them_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", (tmp_path / "registry").as_uri())
    assert not plots.keep_offline(tmp_path) and list(tmp_path.iterdir()) == []
    pinned = {
        name: (version, packed(tmp_path / "registry", name, version)) for name, (version, _) in plots.VEGA.items()
    }
    assert not plots.keep_offline(tmp_path)  # not the files that are pinned
    monkeypatch.setattr(plots, "VEGA", pinned)
    assert plots.keep_offline(tmp_path)
    assert (tmp_path / STATE / plots.NEEDED).read_text() == "\n".join(f"// {name}" for name in plots.VEGA)
    (tmp_path / STATE / plots.NEEDED).unlink()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", (tmp_path / "nowhere").as_uri())
    assert plots.keep_offline(tmp_path)  # from what is kept for this user


def packed(registry: Path, name: str, version: str) -> str:
    """A package with a script in npm's place for it; its SHA-512 as a registry has it."""
    buffer, script = io.BytesIO(), f"// {name}".encode()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"package/build/{name}.min.js")
        member.size = len(script)
        archive.addfile(member, io.BytesIO(script))
    folder = registry / name / "-"
    folder.mkdir(parents=True)
    (folder / f"{name}-{version}.tgz").write_bytes(buffer.getvalue())
    return base64.b64encode(hashlib.sha512(buffer.getvalue()).digest()).decode()


def test_every_learner_has_a_colour_of_its_own():
    """Vega's usual scheme has ten, and there are more learners."""
    for name in ("labels", "ways", "calibration"):
        assert '"scheme": "tableau20"' in json.dumps(json.loads((TEMPLATES / f"{name}.json").read_text()))
