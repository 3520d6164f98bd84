"""The site builds without a warning, asks no other host for anything, and its diagram is current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metaloom

HOST = r"""["']?(?:https?:)?//"""
ASKED_FOR = [  # on opening a page; a link to follow is none of these
    rf"<(?:script|img|iframe|source)\b[^>]*\bsrc={HOST}",
    rf"<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon|preload)\b[^>]*\bhref={HOST}",
    rf"<link\b[^>]*\bhref={HOST}[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon|preload)\b",
    rf"url\({HOST}",
    rf"@import {HOST}",
]


@pytest.fixture(scope="module")
def site(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=repo, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_built(repo, site):
    assert {page.stem for page in (repo / "docs").glob("*.md")} <= {page.stem for page in site.glob("*.html")}


def test_no_page_asks_another_host(site):
    files = [file for ending in ("html", "css") for file in site.rglob(f"*.{ending}")]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        for pattern in ASKED_FOR:
            found = re.search(pattern, text)
            assert not found, f"{file.name}: {found}"


def test_included_files_are_in_their_pages(site):
    for page, words in {
        "index": "It ends with",
        "settings": "bit-identical",
        "contributing": "Add a network",
        "results": "Omniglot",
    }.items():
        assert words in (site / f"{page}.html").read_text(encoding="utf-8"), page


def test_the_api_page_has_every_public_name(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in metaloom.__all__:
        assert f'id="metaloom.{name}"' in page, name


def test_the_diagram_is_drawn_from_todays_imports(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "docs"))
    import architecture

    assert architecture.drawn() == architecture.PICTURE.read_text(encoding="utf-8"), "run python docs/architecture.py"


def test_an_arrow_that_follows_from_others_is_left_out(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "docs"))
    import architecture

    imports = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set()}
    assert architecture.without_implied(imports) == {"top": {"middle"}, "middle": {"bottom"}, "bottom": set()}
    assert architecture.rows_of(imports) == {"top": 2, "middle": 1, "bottom": 0}


def test_every_room_is_explained(repo, pages, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "docs"))
    import architecture

    page = pages[repo / "docs/architecture.md"]
    for room in architecture.room_names():
        assert f"| `{room.removeprefix('metaloom.')}`" in page, room
