"""The page: reads every section, fills its template, and makes one file that needs nothing else."""

from __future__ import annotations

from typing import Any

from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.report import words
from metaloom.report.inputs import Inputs
from metaloom.report.rendering import fill
from metaloom.report.sections.classes import classes
from metaloom.report.sections.data import data_card
from metaloom.report.sections.episodes import gallery
from metaloom.report.sections.figures import figures
from metaloom.report.sections.handoff import handoff
from metaloom.report.sections.headline import answer_plot, hardest, headline
from metaloom.report.sections.labels import labels
from metaloom.report.sections.provenance import provenance
from metaloom.report.sections.results import accuracy_plot, load_results
from metaloom.report.sections.tradeoffs import tradeoffs
from metaloom.report.sections.training import training
from metaloom.report.sections.trust import trust
from metaloom.report.verdict import verdict
from metaloom.system import certainty
from metaloom.system.quantities import size

LARGEST = 5_000_000  # bytes
SECTIONS = (  # anchor and template, title
    ("results", "Results"),
    ("labels", "Labelled examples"),
    ("trust", "Trust"),
    ("training", "Training"),
    ("episodes", "Episodes"),
    ("classes", "Classes"),
    ("data", "Data"),
    ("handoff", "Hand-off"),
    ("provenance", "Provenance"),
)


def build(inputs: Inputs) -> str:
    """The report as HTML.

    Raises:
        MetaloomError: an artifact is absent or broken (the message names its stage), or the page too large.
    """
    page = render(**_parts(inputs))
    if len(page.encode()) > LARGEST:
        raise MetaloomError(
            f"the report would be {size(len(page.encode()))}, over {size(LARGEST)}: "
            "lower the number of settings in params.yaml (episodes.settings)"
        )
    return page


def _parts(inputs: Inputs) -> dict[str, Any]:
    """What the templates show, by the names that they know it by."""
    results = load_results(inputs)
    dataset = Dataset.load(inputs.dataset)
    thumbnails = dataset.kind.shown(dataset.examples)
    card = data_card(inputs, dataset, thumbnails)
    answer = headline(results)
    return dict(
        inputs=inputs,
        results=results,
        headline=answer,
        verdict=verdict(inputs),
        answer_plot=answer_plot(results, answer),
        hardest=hardest(results),
        figures=figures(results),
        plots={setting.name: accuracy_plot(results, setting) for setting in results.settings},
        labels=labels(inputs, results),
        trust=trust(inputs, results, answer.setting),
        tradeoffs=tradeoffs(inputs, results, answer.setting),
        training=training(inputs),
        rooms=gallery(inputs, thumbnails, list(dataset.items["class"])),
        classes=classes(inputs, thumbnails),
        card=card,
        handoff=handoff(inputs, dict(zip(dataset.items["class"][::-1], dataset.items["row"][::-1], strict=True))),
        provenance=provenance(inputs.root, inputs.methods),
        thumbnails=thumbnails,
        kind=dataset.kind,
    )


def render(**parts: Any) -> str:
    """Fill the templates; whatever comes from data is escaped."""
    return fill("page.html", parts, sections=SECTIONS, words=words, certainty=certainty)
