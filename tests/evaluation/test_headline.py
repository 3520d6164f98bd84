"""What git keeps of an evaluation."""

from __future__ import annotations

import json

import pytest

from metaloom.errors import MetaloomError
from metaloom.evaluation.headline import headline, is_headline, lead, scores_of

SETTINGS = [f"{setting}{kind}" for setting in ("5w1s", "5w5s", "20w1s", "20w5s") for kind in ("", "_domain")]
SCORE = {"accuracy": 0.961, "ci95": 0.011, "low95": 0.949, "high95": 0.972, "nll": 0.123, "ece": 0.0038}
SCORE |= {"worst_decile": 0.816, "episodes": 100, "failed": 0}
SCORES = {name: {setting: dict(SCORE) for setting in SETTINGS} for name in ("protonet", "scratch", "forest")}
SCORES["scratch"]["5w1s"]["accuracy"] = 0.5
RIVALS = {"5w1s": {"task": "scratch", "transfer": "forest"}}
GAP = {"setting": "5w1s", "learner": "protonet", "rival": "forest", "difference": 0.16437, "ci95": 0.0481}
GAPS = [{**GAP, "rival": "scratch", "episodes": 20}, {**GAP, "episodes": 20}]


def test_it_is_the_champion_s_one_value_each_and_its_lead_over_the_best_rival():
    found = headline(SCORES, "protonet", RIVALS, GAPS)
    assert found == {
        "champion": "protonet",
        "accuracy": dict.fromkeys(SETTINGS, 0.961),
        "nll": 0.123,
        "ece": 0.0038,
        "worst_decile": 0.816,
        "lead": 0.164,  # as far as ± 0.048 supports
    }
    training = 3 * 2  # accuracy and steps of two methods and of pretraining
    heading, champion = 1, 1
    assert heading + champion + len(found["accuracy"]) + len(found) - 2 + training <= 20, "lines of `dvc metrics diff`"


def test_where_nobody_is_to_be_compared_with_there_is_no_lead():
    assert lead(SCORES, "protonet", {}, GAPS) is None
    unanswered = [{**each, "episodes": 0} for each in GAPS]
    assert "lead" not in headline(SCORES, "protonet", RIVALS, unanswered)


def test_figures_are_read_from_a_headline_and_from_what_earlier_versions_kept():
    raw = json.loads(json.dumps(headline(SCORES, "protonet", RIVALS, GAPS)))
    assert is_headline(raw) and not is_headline(SCORES)
    own = scores_of(raw, "here")["protonet"]
    assert own["5w1s"] == {"accuracy": 0.961, "nll": 0.123, "ece": 0.0038, "worst_decile": 0.816}
    assert own["20w5s_domain"] == {"accuracy": 0.961}
    assert scores_of(SCORES, "here") == SCORES


@pytest.mark.parametrize("raw", [[0.8], {"protonet": [0.8]}, {"protonet": {"5w1s": 0.8}}, {"champion": "x", "nll": 1}])
def test_another_form_is_refused(raw):
    with pytest.raises(MetaloomError, match="metrics.json has another form"):
        scores_of(raw, "metrics.json")
