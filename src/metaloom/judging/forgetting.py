"""What both were trained on, asked again: whether the challenger has forgotten a domain that the champion knows.

The verdict is about classes that neither has seen. A model that starts from an earlier one, or that was trained on
other data beside the old, may lose on the old domains nevertheless.
"""

from __future__ import annotations

from metaloom.config import Setting
from metaloom.errors import MetaloomError
from metaloom.judging.asking import answering
from metaloom.judging.by_domain import ByDomain
from metaloom.judging.questions import Pool, Questions, picked, spread
from metaloom.judging.side import Side
from metaloom.learner import Learner

EPISODES = 300
DOMAINS, CLASSES, EXAMPLES = (
    30,
    15,
    20,
)  # of all, of a domain, of a class: at most so many, which bounds memory and time


def answers(
    champion: Side,
    challenger: Side,
    learners: tuple[Learner, Learner],
    setting: Setting,
    n_query: int,
    seed: str,
) -> ByDomain | None:
    """Have both answer episodes of classes that both were trained on, by examples that both were trained on.

    Args:
        champion, challenger: who is asked.
        learners: their models.
        setting: of the episodes; those of domains with fewer classes have fewer ways.
        n_query: of each class.
        seed: of all draws.

    Returns:
        Their answers; None where they have no domain in common that is large enough.
    """
    pool = _pool(champion, challenger, max(EXAMPLES, setting.n_shot + n_query))
    if pool is None:
        return None
    try:
        questions = Questions.of(pool, setting, n_query, seed)
    except MetaloomError:  # no two classes have enough examples
        return None
    table = questions.batch(0, max(2, EPISODES // len(questions.domains)))
    one, other = (answering(each, questions)(table) for each in learners)
    return ByDomain(questions.domains, one, other)


def _pool(champion: Side, challenger: Side, examples: int) -> Pool | None:
    """The classes that both were trained on: so many of each domain, and of these so many examples."""
    both = champion.trained & challenger.trained
    rows = challenger.items[challenger.items["class"].isin(both) & challenger.items["sha256"].isin(champion.contents)]
    classes = rows.drop_duplicates("class").sort_values(["domain", "class"])
    of_domains = [names.to_numpy() for _, names in classes.groupby("domain", sort=True)["class"]]
    some = [of_domains[place] for place in spread(len(of_domains), DOMAINS)]
    kept = {name for names in some for name in names[spread(len(names), CLASSES)]}
    if len(kept) < 2:
        return None
    return picked([(challenger, rows[rows["class"].isin(kept)])], examples)
