"""Links and files that the documentation names are there."""

from __future__ import annotations

import re

import yaml

from metaloom.config import METHODS
from metaloom.networks import NETWORKS
from metaloom.versioning.code import CODE
from metaloom.versioning.purged import PURGED

NAMED = r"`((?:src|docs|tests|benchmarks|flows)/[\w./]+|[\w.]+\.(?:yaml|toml))`"


def test_links_lead_to_files(pages):
    for page, text in pages.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_in_the_text_exist(repo, pages):
    for page, text in pages.items():
        for name in re.findall(NAMED, text):
            assert (repo / name).exists() or name in (CODE, str(PURGED)), f"{page.name}: {name}"  # of projects alone


def test_the_readme_leads_to_every_page(repo, readme):
    built_from_files = {"index.md", "settings.md", "results.md", "contributing.md", "api.md"}
    for page in (repo / "docs").glob("*.md"):
        assert page.name in built_from_files or f"(docs/{page.name})" in readme, page.name


def test_every_method_network_and_kind_is_described(repo, pages):
    methods = pages[repo / "docs/methods.md"]
    assert all(f"| `{name}`" in methods for name in METHODS)
    assert all(f"`{name}`" in methods for name in NETWORKS)
    assert all(f"## Add a {what}" in pages[repo / "CONTRIBUTING.md"] for what in ("method", "network", "kind", "stage"))


def test_the_schedule_is_the_one_in_prefect_yaml(repo, pages):
    deployment = yaml.safe_load((repo / "prefect.yaml").read_text(encoding="utf-8"))["deployments"][0]
    assert deployment["schedules"][0]["cron"] == "0 3 * * *"
    assert "03:00 UTC every day" in pages[repo / "docs/scheduling.md"]
