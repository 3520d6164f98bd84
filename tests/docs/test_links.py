"""Links and files that the documentation names are there."""

from __future__ import annotations

import re

import pytest
import yaml

from metaloom.config import METHODS

NAMED = r"`((?:src|docs|tests|benchmarks|flows)/[\w./]+|[\w.]+\.(?:yaml|toml))`"


def test_links_lead_to_files(pages):
    for page, text in pages.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_in_the_text_exist(repo, pages):
    for page, text in pages.items():
        for name in re.findall(NAMED, text):
            assert (repo / name).exists(), f"{page.name}: {name}"


def test_the_readme_leads_to_every_page(repo, readme):
    built_from_files = {"index.md", "settings.md", "results.md", "contributing.md", "api.md"}
    for page in (repo / "docs").glob("*.md"):
        assert page.name in built_from_files or f"(docs/{page.name})" in readme, page.name


@pytest.mark.parametrize("page", ["methods"])
def test_every_method_is_described(repo, pages, page):
    assert all(f"| `{name}`" in pages[repo / f"docs/{page}.md"] for name in METHODS)


def test_the_schedule_is_the_one_in_prefect_yaml(repo, pages):
    deployment = yaml.safe_load((repo / "prefect.yaml").read_text(encoding="utf-8"))["deployments"][0]
    assert deployment["schedules"][0]["cron"] == "0 3 * * *"
    assert "03:00 UTC every day" in pages[repo / "docs/scheduling.md"]
