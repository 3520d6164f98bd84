from __future__ import annotations

import pytest

from metaloom.config import apply_overrides, load_settings, parse_override
from metaloom.errors import MetaloomError


def test_the_repo_s_params_are_legal(settings):
    assert settings.train.select_on in settings.episodes.settings


def test_settings_are_frozen(settings):
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.n_shott": 5}, "did you mean n_shot"),
        ({"tran.n_shot": 5}, "did you mean train"),
        ({"network.name": "conv5"}, r"'matrix' \(it is 'conv5'; did you mean conv4\?\)$"),
        ({"methods": ["maml", "protonets"]}, "it is 'protonets'; did you mean protonet"),
        ({"methods": "protonet"}, r"valid list \(it is 'protonet'; did you mean \[protonet\]\?\)$"),
        ({"encoder.layout": "nchw"}, "did you mean NCHW"),
        ({"device": "GPU"}, "did you mean cuda"),
        ({"device": "tpux"}, r"it is 'tpux'\)$"),
        ({"network.width": "atuo"}, "it is 'atuo'; did you mean auto"),
        ({"prepare.min_examples": "atuo"}, "^--set [^:]*: prepare.min_examples: input should be 'auto'"),
        ({"train.qqq": 5}, r"there is no setting 'qqq'\. Known here: "),
        ({"seed.deep": 5}, "no setting 'deep'"),
        ({"train.n_shot": 0}, "^--set train.n_shot=0: train.n_shot: input should be greater than or equal to 1"),
        ({"train.n_shot": "many"}, "it is 'many'"),
        ({"maml.norm": "layer"}, "'batch', 'group' or 'none'"),
        (
            {"protonet.steps": 0, "maml.steps": 0},
            "methods has none that is trained: give one of them more than 0 steps",
        ),
        ({"pictures.channels": 2}, "pictures.channels: input should be 'auto', 1 or 3"),
        ({"pretrain.steps": 0}, "pretrain.steps: input should be greater than or equal to 1"),
        ({"methods": ["mamml"]}, "'shared' or 'bank'"),
        ({"episodes.settings": ["five"]}, "write ways"),
        ({"train.select_on": "7w1s"}, "episodes has only 5w1s, .*, 20w5s_domain"),
        ({"train.select_on": "5w1s_domain", "episodes.within_domain": False}, "episodes has only 5w1s, .*, 20w5s$"),
        ({"split.test": 1.5}, "split.test: .*less than 1"),
    ],
)
def test_illegal_settings_name_what_is_legal(repo, overrides, message):
    with pytest.raises(MetaloomError, match=message):
        load_settings(repo / "params.yaml", overrides)


ABSURD = {
    "maml.inner_steps": 1_000_000,
    "reptile.batch": 10**9,
    "protonet.tasks_per_step": 10**9,
    "protonet.steps": 10**30,
    "pretrain.learning_rate": float("inf"),
    "network.width": 10**9,
    "episodes.test": 10**9,
    "studies.estimates.tasks": 10**9,
    "baselines.scratch.batch": 10**9,
    "baselines.scratch.epochs": float("inf"),
    "baselines.forest.trees": 10**9,
    "baselines.svm.C": [float("inf")],
    "evaluate.bootstrap": 10**9,
    "train.processes": 10**9,
    "train.max_seconds": float("inf"),
    "judge.max_episodes": 10**9,
    "seed": 2**64,
}


@pytest.mark.parametrize("key", ABSURD)
def test_numbers_that_no_machine_can_hold_are_refused_at_once(repo, key):
    with pytest.raises(MetaloomError, match=rf"^--set {key}=.*: {key}.*: input should be less than ") as caught:
        load_settings(repo / "params.yaml", {key: ABSURD[key]})
    assert "\n" not in str(caught.value)


def test_what_set_gave_is_put_right_there_and_the_rest_in_the_file(repo, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((repo / "params.yaml").read_text().replace("bootstrap: 2000", "bootstrap: some"))
    with pytest.raises(MetaloomError) as caught:
        load_settings(path, {"train.n_shot": 0, "train.select_on": "5w1s"})
    given, file = str(caught.value).split("; ")
    assert given.startswith("--set train.n_shot=0: train.n_shot: input should be") and "params.yaml" not in given
    assert file.startswith(f"{path}: evaluate.bootstrap: input should be")


def test_a_typo_in_the_file_is_named_with_its_neighbours(repo, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((repo / "params.yaml").read_text().replace("validate_every:", "validat_every:"))
    with pytest.raises(MetaloomError) as caught:
        load_settings(path)
    assert "train.validate_every is missing" in str(caught.value)
    assert "did you mean validate_every?" in str(caught.value)
    assert "take what is missing from the params.yaml that came with this version" in str(caught.value)


@pytest.mark.parametrize("text", ["{", "a: [1"])
def test_a_file_that_is_no_yaml(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(MetaloomError, match="no valid YAML"):
        load_settings(path)


def test_an_absent_file(tmp_path):
    with pytest.raises(MetaloomError, match="not found"):
        load_settings(tmp_path / "params.yaml")


def test_overrides_are_read_as_yaml_and_leave_the_original_alone():
    raw = {"train": {"n_shot": 1, "max_seconds": None}}
    changed = apply_overrides(raw, dict(map(parse_override, ["train.n_shot=5", "train.max_seconds=1.5"])))
    assert changed == {"train": {"n_shot": 5, "max_seconds": 1.5}}
    assert raw["train"]["n_shot"] == 1


@pytest.mark.parametrize("text", ["train.n_shot", "=5", "train.n_shot=[1", "seed=2020-99-99", "seed=" + "[" * 5000])
def test_an_override_that_is_none(text):
    with pytest.raises(MetaloomError, match="--set") as error:
        parse_override(text)
    assert len(str(error.value)) < 600


def test_a_file_from_before_some_settings_is_read(repo, tmp_path):
    lines = (repo / "params.yaml").read_text().splitlines()
    newer = ("  tokenizer: ", "  tokens: ", "  pooling: ", "  start: ", "    forgetting: ")
    (tmp_path / "params.yaml").write_text("\n".join(line for line in lines if not line.startswith(newer)))
    assert load_settings(tmp_path / "params.yaml") == load_settings(repo / "params.yaml")
