"""Every Prefect command that the documentation shows, run in a project as it stands there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
import together
from filelock import FileLock
from projects import REPO, block
from standins import Standin

pytest.importorskip("prefect", minversion="3.9", reason="before, deploy and the lists end in a 422")

# until Ctrl-C, or of a run, an artifact or a file that is not here: only their options are looked at
OF_SOMETHING = ("prefect flow-run logs", "prefect artifact inspect")
FOREVER = ("prefect server start", "prefect worker start", "prefect event stream", *OF_SOMETHING)


def shown() -> list[str]:
    """In the order of the pages, each once."""
    pages = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), REPO / "prefect.yaml"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(r"(?:`|^|;\s)(prefect [a-z-]+ [^`#\n]+)", text, re.MULTILINE)
    return list(dict.fromkeys(command.strip() for command in found))


def asked(standin: Standin, command: str) -> str:
    return standin.call(*shlex.split(command))


@pytest.fixture
def alone() -> Iterator[None]:
    """On the shared server nobody else serves a deployment of the same name."""
    with FileLock(together.folder() / "serve.lock"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_every_command_does_what_is_shown(standin: Standin, client, prefect_server: dict[str, str], monkeypatch):
    for name, value in prefect_server.items():
        monkeypatch.setenv(name, value)
    commands = shown()
    assert len(commands) >= 7, commands
    lasting = [command for command in commands if command.startswith(FOREVER)]
    assert len(lasting) >= 2
    for command in lasting:
        program, group, verb, *options = shlex.split(command)
        known = asked(standin, f"{program} {group} {verb} --help")
        assert all(option in known for option in options if option.startswith("--")), command
    standin.git("remote", "add", "origin", str(standin.root))
    (standin.root / "lost.yaml").write_text(block("scheduling.md", "name: runs whose worker is lost"))
    order = (
        "work-pool create",
        "deploy --name",
        "automation create",
        "deployment run",
        "event emit",
        "deployment ls",
        "flow-run ls",
    )
    rest = [command for command in commands if command not in lasting]
    assert {command for command in rest if not any(each in command for each in order)} == set()
    said = {each: asked(standin, command) for each in order for command in rest if each in command}
    assert said.keys() == set(order)
    kinds = ("workers", "docker", "kubernetes")
    pools = {"retrain": "metaloom", **{f"retrain-{kind}": f"metaloom-{kind}" for kind in kinds}}
    assert all(f"retrain/{name}" in said["deployment ls"] for name in pools)
    assert "Flow Runs" in said["flow-run ls"]
    (lost,) = client.read_automations_by_name("runs whose worker is lost")
    client.delete_automation(lost.id)
    for name, pool in pools.items():
        client.delete_deployment(client.read_deployment_by_name(f"retrain/{name}").id)
        client.delete_work_pool(pool)
