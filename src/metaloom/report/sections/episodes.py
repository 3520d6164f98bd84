"""Test episodes of the champion with their examples: what it was shown, what it was asked, what it said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from metaloom.kinds import Shown
from metaloom.report.inputs import Inputs, fitting_rows, read_table
from metaloom.report.words import SettingWords, class_title, setting_words
from metaloom.system.quantities import percent

COLUMNS = ["setting", "episode", "role", "way", "row", "predicted", "probabilities"]
BUDGET = 3_300_000  # characters that the episodes may take of the page
MARKUP = 130  # characters that one thumbnail's element takes, about
LARGE, SMALL = 56, 32  # pixels per thumbnail
MOST_WRONG = 12  # wrong answers of a setting shown large


@dataclass(frozen=True)
class Answer:
    """One query: its row, its class, the class that was answered, and the probabilities of all ways."""

    row: int
    way: int
    predicted: int
    probabilities: tuple[float, ...]
    true_class: str
    said_class: str
    true_support: int
    said_support: int

    @property
    def right(self) -> bool:
        return self.way == self.predicted

    @property
    def p_true(self) -> float:
        return self.probabilities[self.way]

    @property
    def p_said(self) -> float:
        return self.probabilities[self.predicted]

    @property
    def words(self) -> str:
        """For those who do not see the example, and the tooltip of those who do."""
        if self.right:
            return f"{self.true_class}: right, {percent(self.p_true, 0)}"
        return (
            f"{self.true_class}: wrong, taken for {self.said_class} ({percent(self.p_said, 0)}); "
            f"its own class got {percent(self.p_true, 0)}"
        )


@dataclass(frozen=True)
class Way:
    """One class of an episode: its name, the rows of its support, and the answers to its queries."""

    name: str
    support: list[int]
    answers: list[Answer]


@dataclass(frozen=True)
class Episode:
    """One episode, way by way."""

    number: int
    ways: list[Way]

    @property
    def answers(self) -> list[Answer]:
        return [answer for way in self.ways for answer in way.answers]

    @property
    def right(self) -> int:
        return sum(answer.right for answer in self.answers)


@dataclass(frozen=True)
class Room:
    """The episodes of one setting: those shown, and how many there were to show."""

    setting: SettingWords
    shown: list[Episode]
    total: int

    @property
    def across(self) -> int:
        """Shown in a row: the support and the queries of one class."""
        return max(len(way.support) + len(way.answers) for episode in self.shown for way in episode.ways)

    @property
    def side(self) -> int:
        """Pixels that a thumbnail may take: larger where an episode has few."""
        return LARGE if self.across <= 8 and self.setting.n_way <= 10 else SMALL

    @property
    def answers(self) -> list[Answer]:
        return [answer for episode in self.shown for answer in episode.answers]

    @property
    def wrong(self) -> list[Answer]:
        """The wrong answers, the most confident first."""
        return sorted((a for a in self.answers if not a.right), key=lambda a: (-a.p_said, a.row))

    @property
    def largest_wrong(self) -> list[Answer]:
        return self.wrong[:MOST_WRONG]


def gallery(inputs: Inputs, thumbnails: Shown, class_of: list[str], budget: int = BUDGET) -> list[Room]:
    """The episodes of every setting that fit into the budget: first one of each setting, then the second …

    Args:
        inputs: which hold the folder of the evaluation.
        thumbnails: of the data set's rows.
        class_of: the class of each row.
        budget: characters of the page; one episode is shown in any case.

    Raises:
        MetaloomError: the gallery is absent or speaks of rows that the data set does not have.
    """
    path = inputs.evaluation / "gallery.parquet"
    table = read_table(path, "evaluate", COLUMNS)
    fitting_rows(path, table["row"].tolist(), thumbnails)
    episodes = {
        setting: [_episode(rows, class_of) for _, rows in part.groupby("episode", sort=True)]
        for setting, part in table.groupby("setting", sort=False)
    }
    shown = _within_budget(episodes, thumbnails, budget)
    return [Room(setting_words(str(name)), shown[name], len(episodes[name])) for name in episodes if shown[name]]


def _within_budget(episodes: dict, thumbnails: Shown, budget: int) -> dict:
    shown, spent = {name: [] for name in episodes}, 0
    for name, episode in _in_rounds(episodes):
        cost = sum(len(thumbnails.uri(row)) + MARKUP + 2 * len(words) for row, words in _all_thumbnails(episode))
        if spent + cost <= budget or not spent:
            shown[name].append(episode)
            spent += cost
    return shown


def _in_rounds(episodes: dict[str, list[Episode]]) -> Iterator[tuple[str, Episode]]:
    for place in range(max(map(len, episodes.values()), default=0)):
        for name, of_setting in episodes.items():
            if place < len(of_setting):
                yield name, of_setting[place]


def _all_thumbnails(episode: Episode) -> Iterator[tuple[int, str]]:
    for way in episode.ways:
        yield from ((row, way.name) for row in way.support)
        for answer in way.answers:
            yield answer.row, answer.words
            if not answer.right:  # shown a second time, between two examples of the support
                yield from ((row, "") for row in (answer.row, answer.true_support, answer.said_support))


def _episode(rows: pd.DataFrame, class_of: list[str]) -> Episode:
    support: dict[int, list[int]] = {}
    queries = []
    for role, way, row, predicted, probabilities in rows[["role", "way", "row", "predicted", "probabilities"]].values:
        if role == "support":
            support.setdefault(int(way), []).append(int(row))
        else:
            queries.append((int(way), int(row), int(predicted), tuple(float(p) for p in probabilities)))
    names = {way: class_title(class_of[members[0]]) for way, members in support.items()}
    answers = [
        Answer(row, way, said, p, names[way], names[said], support[way][0], support[said][0])
        for way, row, said, p in queries
    ]
    ways = [Way(names[way], support[way], [a for a in answers if a.way == way]) for way in sorted(support)]
    return Episode(int(rows["episode"].iloc[0]), ways)
