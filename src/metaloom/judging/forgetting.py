"""What both were trained on, asked again: whether the challenger has forgotten a domain that the champion knows.

The verdict is about classes that neither has seen. A model that starts from an earlier one, or that was trained on
other data beside the old, may lose on the old domains nevertheless.
"""

from __future__ import annotations

from metaloom.config import Setting
from metaloom.errors import MetaloomError
from metaloom.judging.asking import answering
from metaloom.judging.by_domain import ByDomain
from metaloom.judging.questions import Pool, Questions, evenly, pool_of
from metaloom.judging.side import Side
from metaloom.learner import Learner

EPISODES = 300
DOMAINS = 30  # at most; this and the next two bound memory and time
CLASSES = 15  # of a domain
EXAMPLES = 20  # of a class, or as many as an episode takes


def answers(
    champion: Side,
    challenger: Side,
    learners: tuple[Learner, Learner],
    setting: Setting,
    n_query: int,
    seed: str,
) -> ByDomain | None:
    """Have both answer episodes of classes that both were trained on, with examples that both were trained on.

    Args:
        champion, challenger: who is asked.
        learners: their models.
        setting: of the episodes; where half of the domains have fewer classes, all episodes have fewer ways.
        n_query: of each class.
        seed: of all draws.

    Returns:
        Their answers; None where no two classes that both were trained on have enough examples.
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
    """Some of the classes that both were trained on, with so many examples of each; None where there are not two."""
    both = champion.trained & challenger.trained
    rows = challenger.items[challenger.items["class"].isin(both) & challenger.items["sha256"].isin(champion.contents)]
    classes = rows.drop_duplicates("class").sort_values(["domain", "class"])
    of_domains = [names.to_numpy() for _, names in classes.groupby("domain", sort=True)["class"]]
    some = [of_domains[place] for place in evenly(len(of_domains), DOMAINS)]
    kept = {name for names in some for name in names[evenly(len(names), CLASSES)]}
    if len(kept) < 2:
        return None
    return pool_of([(challenger, rows[rows["class"].isin(kept)])], examples)
