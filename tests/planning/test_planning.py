"""Settings fit the data: `auto` takes what fits, and what the user wrote is refused as a whole, with a way out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from projects import REPO
from torch._inductor.exc import InvalidCxxCompiler

from metaloom.cli.plan import _lines
from metaloom.config import MOST, NetworkSettings, load_settings, parse_override, read_params, value_at
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.kinds import kind_of
from metaloom.kinds.encoding import Encoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.scaled import Scaled
from metaloom.kinds.vectors.kind import Vectors
from metaloom.networks import NETWORKS
from metaloom.planning.budget import Budget, read_budget, write_budget
from metaloom.planning.fit import plain
from metaloom.planning.plan import Plan, checked, make_plan
from metaloom.planning.work import multiplications, times, width
from metaloom.tasks import assign_splits, class_table, draw_fixed_episodes, draw_studies
from metaloom.tasks.kept import write_kept

SHAPES = {  # examples of each class, by domain
    "three domains of five classes of five": [[5] * 5] * 3,
    "two classes of two": [[2] * 2] * 3,
    "eight classes of nine": [[9] * 8] * 4,
    "a long tail": [[50, 40, 9, 3, 3, 3]] * 6,
    "many domains of two classes": [[30, 30]] * 30,
    "one large domain": [[12] * 40, *[[12] * 6] * 8],
    "plenty": [[40] * 30] * 12,
}


def items(domains: list[list[int]]) -> pd.DataFrame:
    """The table of examples of made-up data."""
    rows = [
        (f"d{place:02}/c{number:02}", f"d{place:02}")
        for place, counts in enumerate(domains)
        for number, count in enumerate(counts)
        for _ in range(count)
    ]
    return pd.DataFrame(rows, columns=["class", "domain"]).assign(row=range(len(rows)))


def planned(domains: list[list[int]], overrides: dict | None = None, effort: float = 1.0, **budget) -> Plan:
    overrides = overrides or {}
    raw = read_params(REPO / "params.yaml", overrides)
    kind = kind_of(load_settings(REPO / "params.yaml", overrides)).settled(0, 1)
    table, packed = items(domains), np.zeros((), np.uint8)
    shape = (len(table), kind.image_size, kind.image_size, kind.channels)
    dataset = Dataset(np.broadcast_to(packed, shape), table, {"problems": {"small_class": []}}, kind)
    return make_plan(raw, overrides, dataset, Path("absent"), Budget(effort=effort, **budget))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("methods", [["protonet", "maml"], ["bank"]])
def test_auto_fits_any_shape_of_data(shape, methods):
    """The stages that draw episodes are the judges."""
    made = planned(SHAPES[shape], {"methods": methods})
    assert checked(made) is made
    settings = made.settings
    classes = assign_splits(class_table(items(SHAPES[shape])), settings.split, settings.seed)
    drawn = draw_fixed_episodes(classes, settings.episodes, 0)
    assert set(drawn["setting"]) == set(settings.episodes.names)
    draw_studies(classes, settings.studies, settings.episodes.n_query, 0)
    training = classes[(classes["split"] == "train") & (classes["count"] >= settings.train.examples)]
    assert settings.method(methods[0]).n_way <= len(training)


def test_where_data_are_plenty_auto_is_what_the_comments_of_params_say():
    made = planned(SHAPES["plenty"])
    values = plain(made.settings)
    assert {key: value_at(values, key) for key in MOST} == MOST | {"pictures.channels": 1}
    assert not made.fitted


def test_embeddings_as_long_as_the_inputs_are_learned_in_tasks_of_twenty_ways():
    assert load_settings(REPO / "params.yaml", {"network.name": "linear"}).protonet.n_way == 20
    assert load_settings(REPO / "params.yaml", {"network.name": "linear", "protonet.n_way": 60}).protonet.n_way == 60
    assert load_settings(REPO / "params.yaml", {"network.name": "mlp"}).protonet.n_way == 60


@pytest.mark.parametrize("method", ["maml", "anil"])
def test_a_head_that_starts_at_zero_learns_in_tasks_of_five_ways(method, tmp_path):
    """The numbers of projects from before there was a choice: their files lack the key."""
    made = planned(SHAPES["plenty"], {"methods": [method], f"{method}.head": "zero"})
    own = made.settings.method(method)
    assert (own.n_way, own.steps) == (5, MOST[f"{method}.steps"]) and not made.fitted
    params = yaml.safe_load((REPO / "params.yaml").read_text())
    del params[method]["head"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert load_settings(tmp_path / "params.yaml", {}).method(method).n_way == 5
    params[method]["n_way"] = 9
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert load_settings(tmp_path / "params.yaml", {}).method(method).n_way == 9


def test_small_data_say_what_was_fitted_each_once():
    assert planned(SHAPES["three domains of five classes of five"]).fitted == [
        "prepare: classes from 5 images upward are used, as many of yours have no more",
        "episodes: 5 ways of your 5 classes, 1 or 3 shots and 2 queries of 5 images",
        "episodes: no separate ones within one domain, as all test classes are of d00",
        "studies: up to 3 shots and 5 ways",
        "training: protonet 5, maml 5, pretrain 5 ways of 5 classes, 4 queries of 5 images",
        "export: 4 shots of 5 images per class of d00",
    ]


ONE_TEST_DOMAIN = {"split.test": ["d00"], "split.validation": ["d01", "d02"]}


def test_questions_within_the_only_test_domain_are_not_asked_twice():
    """There they are any questions; within one of two domains they are others."""
    of_one, of_two = planned([[40] * 30] * 6, ONE_TEST_DOMAIN), planned([[40] * 30] * 6, {"split.test": ["d00", "d05"]})
    assert not of_one.settings.episodes.within_domain and of_one.settings.studies.kinds == ["any"]
    assert of_one.fitted == ["episodes: no separate ones within one domain, as all test classes are of d00"]
    assert of_two.settings.episodes.within_domain and of_two.settings.studies.kinds == ["any", "domain"]
    written = planned([[40] * 30] * 6, ONE_TEST_DOMAIN | {"episodes.within_domain": True, "studies.kinds": ["domain"]})
    assert "5w1s_domain" in written.settings.episodes.names and written.settings.studies.kinds == ["domain"]
    few_each = planned([[40] * 2] * 30)
    assert "episodes: none within one domain, as no domain has enough classes" in few_each.fitted


def settings_of(way_out: str) -> dict:
    """What the command in it sets."""
    words = shlex.split(way_out.removeprefix("This fits: "))
    assert words[:2] == ["metaloom", "run"] and words[2::2] == ["--set"] * (len(words[2:]) // 2)
    return dict(map(parse_override, words[3::2]))


WRONG = {
    "episodes.settings": ["5w5s", "9w1s"],
    "train.select_on": "9w1s",
    "baselines.settings": ["9w1s"],
    "studies.labels": [1, 40],
    "studies.ways": [50],
    "protonet.n_way": 999,
    "train.processes": 2,
    "export.domain": "greek",
    "export.ir_version": 8,
    "export.opset": 21,
    "export.key": "absent.pem",
}


def test_all_that_does_not_fit_is_said_at_once_with_a_line_that_works():
    domains = SHAPES["three domains of five classes of five"]
    made = planned(domains, WRONG)
    with pytest.raises(MetaloomError) as caught:
        checked(made)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("(1) --set episodes.settings=[5w5s,9w1s]: episodes: 5w5s needs 6")
    for part in ("9w1s needs 9 classes", "40 support", "studies.ways has 50", "protonet.n_way is 999"):
        assert part in message
    for part in ("protonet.tasks_per_step is 1", "there is no 'greek'", "opset 21 needs 10", "no file absent.pem"):
        assert part in message
    line = settings_of(made.way_out)
    assert line["train.processes"] == 2  # what fits stays as it was asked for
    checked(planned(domains, line))


@pytest.mark.parametrize(
    ("wrong", "changed"),
    [
        ({"export.n_shot": 6}, {"export.n_shot": 4}),
        ({"episodes.n_query": 9}, {"episodes.n_query": 2}),
        (
            {"episodes.settings": ["5w1s"], "episodes.n_query": 9},
            {"episodes.settings": ["5w1s"], "episodes.n_query": 2},
        ),
        ({"bank.window": 3, "methods": ["bank"]}, {"bank.window": 1, "methods": ["bank"]}),
        ({"train.n_shot": 30}, {"train.n_shot": 1}),
        ({"export.variants": ["int8"], "export.max_ways": 4}, {"export.variants": [], "export.max_ways": 4}),
    ],
)
def test_only_what_does_not_fit_is_changed(wrong, changed):
    made = planned(SHAPES["three domains of five classes of five"], wrong)
    assert made.findings
    assert settings_of(made.way_out) == changed


def test_variants_are_refused_for_a_kind_that_has_none(monkeypatch):
    monkeypatch.setattr(Pictures, "variants", False)
    made = planned(SHAPES["three domains of five classes of five"], {"export.variants": ["int8"]})
    assert any("export.variants: there are none for images" in each for each in made.findings)
    assert settings_of(made.way_out) == {"export.variants": []}


def test_data_that_no_setting_fits_need_more_data():
    made = planned([[5], [5], [5, 5]])
    assert (
        "needs 2 classes" in made.findings[0] and "add classes, examples or domains, or change `split`" in made.way_out
    )


def test_a_missing_key_counts_as_auto_and_can_be_set(tmp_path):
    params = yaml.safe_load((REPO / "params.yaml").read_text())
    del params["studies"]["ways"], params["export"]["n_shot"], params["engine"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert load_settings(tmp_path / "params.yaml", {}) == load_settings(REPO / "params.yaml", {})
    set_to = load_settings(tmp_path / "params.yaml", {"export.n_shot": 3, "engine": "torch"})
    assert (set_to.export.n_shot, set_to.engine) == (3, "torch")


def test_later_stages_read_the_plan(tmp_path):
    path = tmp_path / "plan.json"
    made = planned(SHAPES["three domains of five classes of five"])
    path.write_text(json.dumps(made.saved()))
    assert load_settings(REPO / "params.yaml", {}, plan=path) == made.settings
    written = load_settings(REPO / "params.yaml", {"export.n_shot": 2}, plan=path)
    assert written.export.n_shot == 2 and written.episodes == made.settings.episodes
    path.write_text("{}")
    with pytest.raises(MetaloomError, match="lacks anil.n_way, .*`dvc repro plan` makes it"):
        load_settings(REPO / "params.yaml", {}, plan=path)
    with pytest.raises(MetaloomError, match="not found: `dvc repro plan` makes it"):
        load_settings(REPO / "params.yaml", {}, plan=tmp_path / "absent.json")


COLOUR = {"pictures.image_size": 64, "pictures.channels": 3}


def test_larger_pictures_get_a_narrower_network_and_fewer_steps():
    made = planned(SHAPES["plenty"], COLOUR)
    settings = made.settings
    assert settings.network.width == 32 and settings.protonet.steps == 130 and settings.maml.steps == 160
    assert made.fitted == [
        "work: images 5.8 times as costly as embedded ones: network 32 wide, "
        "steps of protonet 130, maml 160, pretrain 130"
    ]
    assert planned(SHAPES["plenty"], {"pictures.image_size": 256}).settings.protonet.steps == 50  # never fewer


def test_what_the_user_wrote_stays_and_a_wide_network_of_his_own_costs_no_steps():
    written = {"network.width": 128, "protonet.steps": 77, "baselines.scratch.episodes": 2}
    settings = planned(SHAPES["plenty"], written, effort=4.0).settings
    assert (settings.network.width, settings.protonet.steps) == (128, 77)
    assert (settings.baselines.scratch.episodes, settings.baselines.scratch.elsewhere) == (2, 2)
    assert planned(SHAPES["plenty"], {"network.width": 128}).settings.protonet.steps == MOST["protonet.steps"]


def test_what_a_budget_leaves_out_is_not_trained_and_said():
    short = {"minutes": 2, "left_out": ("maml",)}
    made = planned(SHAPES["plenty"], {}, 0.5, **short)
    assert made.settings.trained == ["protonet"] and made.settings.maml.steps == 0
    assert made.fitted[-1] == (
        "2 minutes: network 48 wide, steps of protonet 100, pretrain 100, 10 episodes from scratch; "
        "too little time for maml"
    )
    assert planned(SHAPES["plenty"], {"maml.steps": 9}, 0.5, **short).settings.trained == ["protonet", "maml"]
    alone = planned(SHAPES["plenty"], {"methods": ["maml"]}, 0.5, **short)  # `methods` changed since
    assert alone.settings.trained == ["maml"]


def test_more_effort_is_never_less_of_anything():
    efforts = [planned(SHAPES["plenty"], COLOUR, effort).settings for effort in (0.1, 0.25, 0.5, 1, 1.4, 2, 3, 4, 8)]
    for read in (
        lambda settings: settings.network.width,
        lambda settings: settings.protonet.steps,
        lambda settings: settings.train.patience,
        lambda settings: settings.baselines.scratch.episodes,
        lambda settings: settings.baselines.forest.elsewhere,
    ):
        values = list(map(read, efforts))
        assert values == sorted(values) and values[0] < values[-1]
    assert planned(SHAPES["plenty"], effort=1.0).settings == planned(SHAPES["plenty"]).settings


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 33)])
def test_multiplications_are_those_of_the_layers(name, shape):
    """Counted here from the shapes of the weights and of the maps."""
    channels, side, width = shape[0], shape[1], 8
    by_hand = {
        "conv4": sum(9 * (width if block else channels) * width * (side // 2**block) ** 2 for block in range(4)),
        "resnet12": _of_resnet12(channels, side, width),
        "mlp": (channels * side * side + 2 * width) * width,
        "gru": side * 3 * width * (channels * side + width),
        "identity": 1,
        "whiten": (channels * side * side) ** 2,
        "matrix": (channels * side * side) ** 2,
        "linear": 1,  # each input times a number is no product of matrices
    }
    assert multiplications(name, width, shape) == by_hand[name]


def _of_resnet12(channels: int, side: int, width: int) -> int:
    total = 0
    for block, factor in enumerate((1, 2.5, 5, 10)):
        wide, pixels = int(width * factor), (side // 2**block) ** 2
        total += (9 * channels * wide + 2 * 9 * wide * wide + channels * wide) * pixels
        channels = wide
    return total


def _no_compiler() -> None:
    raise InvalidCxxCompiler


def test_what_the_machine_lacks_is_refused_before_training(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    made = planned(SHAPES["plenty"], {"device": "cuda"})
    assert (
        made.findings[0].startswith("--set device=cuda: device: cuda is not available here") and len(made.findings) == 1
    )
    assert settings_of(made.way_out) == {"device": "auto"}
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", _no_compiler)
    made = planned(SHAPES["plenty"], {"train.compile": True, "device": "cpu"})
    assert "there is no C++ compiler here" in made.findings[0] and len(made.findings) == 1
    assert settings_of(made.way_out) == {"train.compile": "auto", "device": "cpu"}


def test_a_network_that_does_not_take_such_examples_is_refused_before_training():
    rows = np.zeros((14400, 5), np.float32)
    raw = read_params(REPO / "params.yaml", {"kind": "vectors"})
    dataset = Dataset(rows, items(SHAPES["plenty"]), {"problems": {"small_class": []}}, Vectors())
    made = make_plan(raw, {"kind": "vectors"}, dataset, Path("absent"))
    assert "network.name is conv4, which does not take examples of shape (5,)" in made.findings[0]
    assert settings_of(made.way_out) == {"kind": "vectors", "network.name": "mlp"}


def test_a_network_without_products_is_as_much_work_as_usual():
    texts = NetworkSettings(name="linear", width=64, dropout=0.0)
    assert times(texts, 64, (4096,)) == 1.0 and width(texts, (4096,), 1.0) == 64


def test_a_bank_is_refused_where_the_kind_cannot_rescale_its_inputs(monkeypatch: pytest.MonkeyPatch):
    asked = {"methods": ["protonet", "bank"], "device": "cpu"}
    assert not planned(SHAPES["plenty"], asked).findings
    monkeypatch.setattr(Scaled, "inputs_from", Encoding.inputs_from)
    made = planned(SHAPES["plenty"], asked)
    assert made.findings[0].startswith("--set methods=[protonet,bank]: methods has bank, whose networks cannot take")
    assert settings_of(made.way_out) == {"methods": ["protonet"], "device": "cpu"}


def test_a_budget_is_read_as_it_was_written_and_a_broken_one_is_refused(tmp_path):
    path = tmp_path / "budget.yaml"
    assert read_budget(path) == Budget()
    written = Budget(minutes=10, data="abc", settings="def", effort=1.4, left_out=("maml",))
    write_budget(path, written)
    assert read_budget(path) == written
    for broken in (
        "minutes: [",
        "minutes: -1",
        "hours: 1",
        "",
        "- 10",
        "effort: .inf",
        "effort: 1e300",
        "minutes: .inf",
        "minutes: .nan",
        "minutes: 0.0001",
        "left_out: [mamml]",
    ):
        path.write_text(broken)
        with pytest.raises(MetaloomError, match="git checkout"):
            read_budget(path)


def test_the_committed_budget_is_none_as_it_is_written(tmp_path):
    write_budget(tmp_path / "budget.yaml", Budget())
    assert (REPO / "budget.yaml").read_text() == (tmp_path / "budget.yaml").read_text()


def test_plan_says_which_numbers_the_budget_chose():
    usual, made = planned(SHAPES["plenty"], COLOUR), planned(SHAPES["plenty"], COLOUR, effort=4.0)
    auto = frozenset(MOST) - {"maml.steps"}
    lines = {line.split()[0]: line for line in _lines(made, usual, auto, 10) if line}
    assert lines["protonet.steps"].split(maxsplit=2)[1:] == ["500", "auto for --minutes 10; 130 without"]
    assert lines["network.width"].split(maxsplit=2)[1:] == ["64", "auto for --minutes 10; 32 without"]
    assert lines["maml.steps"].endswith("yours") and lines["protonet.n_way"].endswith("auto")
    before = {line.split()[0]: line for line in _lines(usual, usual, auto, None) if line}
    assert before["protonet.steps"].endswith("auto; 200 where data are plenty")


def test_splits_that_no_longer_fit_the_data_name_the_way_to_draw_again(tmp_path):
    """A validation domain was removed, and what is left stays where it was."""
    kept, settings = tmp_path / "splits.yaml", load_settings(REPO / "params.yaml", {})
    whole = make_plan_of(items([[9] * 4] * 5), kept)
    write_kept(kept, whole.classes, whole.unit, settings.split, settings.seed)
    gone = whole.classes.loc[whole.classes["split"] == "validation", "domain"].unique()
    table = items([[9] * 4] * 5)
    left = table[~table["domain"].isin(gone)].reset_index(drop=True)
    with pytest.raises(
        MetaloomError, match=r"leaves no domain for validation.*`--set split.reassign=true` draws again"
    ):
        make_plan_of(left.assign(row=range(len(left))), kept)
    one = table[~table["domain"].isin(gone) | (table["class"] == f"{gone[0]}/c00")].reset_index(drop=True)
    made = make_plan_of(one.assign(row=range(len(one))), kept)
    assert "but the validation split has 1" in made.findings[0]
    assert settings_of(made.way_out) == {"split.reassign": True}


def test_domains_of_one_class_say_what_to_do_with_the_folders():
    assert "each domain has one class" in planned([[9]] * 12).way_out


def make_plan_of(table: pd.DataFrame, kept: Path) -> Plan:
    kind = kind_of(load_settings(REPO / "params.yaml", {})).settled(0, 1)
    examples = np.broadcast_to(np.zeros((), np.uint8), (len(table), 28, 28, 1))
    dataset = Dataset(examples, table, {"problems": {"small_class": []}}, kind)
    return make_plan(read_params(REPO / "params.yaml", {}), {}, dataset, kept)
