"""What the report shows of single examples: the champion's first episodes in full, and the pairs of classes that it
confuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metaloom.evaluation.figures import Answers

GALLERY = 4  # episodes per setting
PAIRS = 24


def gallery(answers: Mapping[str, Answers], settings: Sequence[str]) -> pd.DataFrame:
    """The first episodes of each setting: setting, episode, role, way, row, predicted, probabilities."""
    return pd.DataFrame(row for setting in settings for row in _gallery_rows(setting, answers[setting]))


def _gallery_rows(setting: str, answers: Answers) -> Iterator[dict[str, Any]]:
    table = answers.table.first(GALLERY)
    for episode, support in enumerate(table.support_rows):
        place = {"setting": setting, "episode": episode}
        for way, row in zip(table.labels.tolist(), support.tolist(), strict=True):
            yield place | {"role": "support", "way": way, "row": row, "predicted": -1, "probabilities": None}
        for query, (way, row) in enumerate(
            zip(table.answers.tolist(), table.query_rows[episode].tolist(), strict=True)
        ):
            said = np.exp(answers.log_p[episode, query]).tolist()
            answer = {"predicted": int(np.argmax(said)), "probabilities": said}
            yield place | {"role": "query", "way": way, "row": row} | answer


def confusions(
    answers: Mapping[str, Answers], settings: Sequence[str], class_of: Sequence[str]
) -> list[dict[str, Any]]:
    """The pairs of classes of which one was most often taken for the other: true, said, wrong, asked, row_true,
    row_said.

    Args:
        answers: the champion's.
        settings: whose episodes count.
        class_of: the class of each row of the data set.
    """
    codes, names = pd.factorize(np.asarray(class_of))
    wrong, asked = (np.zeros((len(names), len(names)), dtype=int) for _ in range(2))
    shown = np.zeros(len(names), dtype=int)
    for setting in settings:
        each = answers[setting].kept
        table = each.table
        ways = codes[table.query[:, :, 0]]  # (episode, way)
        shown[ways] = table.support[:, :, 0]
        np.add.at(asked, (ways[:, :, None], ways[:, None, :]), table.query.shape[2])
        said = np.take_along_axis(ways, each.log_p.argmax(axis=2), axis=1)
        np.add.at(wrong, (ways[:, table.answers], said), 1)
    np.fill_diagonal(wrong, 0)
    pairs = zip(*np.nonzero(wrong), strict=True)
    worst = sorted(pairs, key=lambda pair: (-wrong[pair], -wrong[pair] / asked[pair], pair))[:PAIRS]
    return [
        {"true": str(names[true]), "said": str(names[said])}
        | {"wrong": int(wrong[true, said]), "asked": int(asked[true, said])}
        | {"row_true": int(shown[true]), "row_said": int(shown[said])}
        for true, said in worst
    ]
