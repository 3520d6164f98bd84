"""The steps of the Dockerfile, which are one script, and what Prefect's Kubernetes worker makes of a deployment."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
from pathlib import Path

import prefect
import pytest
import yaml
from prefect.utilities.templating import apply_values
from projects import REPO

TEMPLATES = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"


def context(folder: Path) -> Path:
    """What `docker build` sends: all that .dockerignore does not leave out."""
    kept = [line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for pattern in kept:
        for path in REPO.glob(pattern):
            there = folder / path.relative_to(REPO)
            there.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, there, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, there)
    return folder


def build(tmp_path: Path, *options: str, **environment: str) -> str:
    """The script in a clean folder, with an environment in which pip reaches its registry, and little else."""
    source = context(tmp_path / "source")
    command = [str(source / ".ci/image"), str(source), str(tmp_path / "made"), *options]
    registry = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **registry, **environment}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_script_makes_an_environment_from_what_the_dockerfile_copies(tmp_path):
    """The packages that metaloom needs are those of the tests here."""
    said = build(tmp_path, "--no-deps", PYTHONPATH=site.getsitepackages()[0])
    assert re.match(r"\S*\d+\.\d+", said.split()[-1])
    assert list((tmp_path / "made").glob("lib/*/site-packages/flows/clone.py"))


@pytest.mark.sweep  # minutes, and gigabytes
def test_the_script_installs_every_package(tmp_path):
    build(tmp_path)


def test_the_dockerfile_has_no_step_but_the_script():
    lines = (REPO / "Dockerfile").read_text().splitlines()
    steps = [line for line in lines if line.startswith("RUN ")]
    assert steps[0] == "RUN /source/.ci/image /source /opt/metaloom" and len(steps) == 2
    assert "useradd" in steps[1]


def deployments() -> dict[str, dict]:
    return {each["name"]: each for each in yaml.safe_load((REPO / "prefect.yaml").read_text())["deployments"]}


def rendered(kind: str, deployment: str) -> dict:
    """The job that Prefect's own template of a pool becomes with a deployment's variables."""
    views = json.loads(TEMPLATES.read_text())
    template = views["prefect" if kind == "process" else f"prefect-{kind}"][kind]["default_base_job_configuration"]
    variables = deployments()[f"retrain-{deployment}"]["work_pool"]["job_variables"]
    unknown = variables.keys() - template["variables"]["properties"].keys()
    assert not unknown, unknown
    given = {name: one["default"] for name, one in template["variables"]["properties"].items() if "default" in one}
    return apply_values(template["job_configuration"], given | variables)


def test_the_variables_of_each_deployment_are_its_pool_s():
    assert rendered("docker", "docker")["volumes"] == ["metaloom:/work"]
    assert rendered("process", "workers")["working_dir"] == "."


def test_the_job_of_a_cluster_is_valid():
    validate = pytest.importorskip("kubernetes_validate")
    job = rendered("kubernetes", "kubernetes")["job_manifest"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["env"] = [
        {"name": name, "value": value} for name, value in container["env"].items()
    ]  # as the worker does
    assert container["image"] == "metaloom" and container["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
    validate.validate(job, "1.37", strict=False)
    container["image"] = ["no", "name"]
    with pytest.raises(validate.ValidationError):
        validate.validate(job, "1.37", strict=False)
