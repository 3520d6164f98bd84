"""The page: every part read, laid out by its template, in one file without anything outside it."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.report import words
from metaloom.report.charts import Dot, Gap, dot_plot
from metaloom.report.curves import training
from metaloom.report.datacard import data_card
from metaloom.report.gallery import gallery
from metaloom.report.handoff import handoff
from metaloom.report.inputs import Inputs
from metaloom.report.pictures import Pictures
from metaloom.report.provenance import provenance
from metaloom.report.results import Headline, Results, hardest, headline, load_results

LARGEST = 5_000_000  # bytes
SECTIONS = (  # anchor and template, title
    ("results", "Results"),
    ("training", "Training"),
    ("episodes", "Episodes"),
    ("data", "Data"),
    ("handoff", "Hand-off"),
    ("provenance", "Provenance"),
)


def build(inputs: Inputs) -> str:
    """The report as HTML.

    Raises:
        MetaloomError: an artifact is absent or broken (the message names its stage), or the page too large.
    """
    results = load_results(inputs)
    dataset = Dataset.load(inputs.dataset)
    pictures = Pictures(dataset.images)
    card = data_card(inputs, pictures, dataset.images.shape, dataset.quality)
    answer = headline(results)
    page = render(
        results=results,
        headline=answer,
        answer_plot=accuracy_plot(results, answer.setting, _gap(results, answer)),
        hardest=hardest(results),
        plots={setting.name: accuracy_plot(results, setting) for setting in results.settings},
        training=training(inputs),
        rooms=gallery(inputs, pictures, list(dataset.items["class"])),
        card=card,
        handoff=handoff(inputs, dict(zip(dataset.items["class"][::-1], dataset.items["row"][::-1], strict=True))),
        provenance=provenance(inputs.root, inputs.methods),
        pictures=pictures,
    )
    if len(page.encode()) > LARGEST:
        raise MetaloomError(
            f"the report would be {words.size(len(page.encode()))}, over {words.size(LARGEST)}: "
            "lower the number of settings in params.yaml (episodes.settings)"
        )
    return page


def render(**parts: Any) -> str:
    """Fill the templates; whatever comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("metaloom.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        sections=SECTIONS,
        words=words,
        style=Markup(_source(environment, "style.css")),
        script=Markup(_source(environment, "page.js")),
        script_hash=_integrity(_source(environment, "page.js")),
    )
    return environment.get_template("page.html").render(parts)


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _integrity(script: str) -> str:
    """Lets the page run this one script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _gap(results: Results, answer: Headline) -> Gap | None:
    """From the best single-task learner's dot to the champion's; none where it is not clearly above."""
    gap, rival = answer.difference, answer.rival_score
    if gap is None or rival is None or not gap.clear or (gap.difference or 0) < 0:
        return None
    row = results.ranked(answer.setting.name, list(results.scores)).index(answer.rival or "")
    return Gap(row, rival.accuracy or 0.0, answer.score.accuracy or 0.0, f"{gap.text} points")


def accuracy_plot(results: Results, setting: words.SettingWords, gap: Gap | None = None) -> Markup:
    """All learners of one setting on one scale, best first."""
    dots = []
    for name in results.ranked(setting.name, list(results.scores)):
        score = results.scores[name][setting.name]
        role = "champion" if name == results.champion else "meta" if name in results.methods else "single"
        dots.append(Dot(words.learner_title(name), score.accuracy or 0.0, score.ci95, score.text, role))
    summary = f"Accuracy, {setting.full}: " + "; ".join(f"{dot.label} {dot.text}" for dot in dots)
    return dot_plot(dots, setting.chance, summary, gap)
