"""What both were trained on, asked again: whether the challenger has forgotten a domain that the champion knows.

The verdict is about classes that neither has seen. A model that starts from an earlier one, or that was trained on
other data beside the old, may lose on the old domains nevertheless.
"""

from __future__ import annotations

from metaloom.config import Setting
from metaloom.judging.asking import answering
from metaloom.judging.by_domain import FEWEST, ByDomain
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
    affordable: tuple[int, int] = (EPISODES, DOMAINS * CLASSES * EXAMPLES),
) -> ByDomain | None:
    """Have both answer episodes of classes that both were trained on, with examples that both were trained on.

    Args:
        champion, challenger: who is asked.
        learners: their models.
        setting: of the episodes; where half of the domains have fewer classes, all episodes have fewer ways.
        n_query: of each class.
        seed: of all draws.
        affordable: episodes and examples for which there is time; one domain is asked about whatever it takes.

    Returns:
        Their answers; None where no two classes that both were trained on have enough examples.
    """
    episodes, examples = affordable
    most = max(EXAMPLES, setting.n_shot + n_query)
    pool = _pool(champion, challenger, setting.n_shot + n_query, most, examples // (CLASSES * most))
    if pool is None:
        return None
    questions = Questions.of(pool, setting, n_query, seed)
    rounds = min(EPISODES, episodes) // len(questions.domains)
    table = questions.batch(0, max(FEWEST, rounds))
    one, other = (answering(each, questions)(table) for each in learners)
    return ByDomain(questions.domains, one, other)


def _pool(champion: Side, challenger: Side, needed: int, most: int, domains: int = DOMAINS) -> Pool | None:
    """The classes that both were trained on: so many of each domain, and of these so many examples.

    Args:
        champion, challenger: who is asked.
        needed: examples that a class has to have.
        most: examples of a class.
        domains: at most so many, and at least one.

    Returns:
        The pool; None where no two classes have enough examples.
    """
    both = champion.trained & challenger.trained
    known = champion.items.loc[champion.items["class"].isin(both), ["class", "sha256"]].drop_duplicates()
    rows = challenger.items.merge(known, on=["class", "sha256"])
    sizes = rows.groupby(["domain", "class"], sort=True).size()
    classes = sizes[sizes >= needed].reset_index()
    of_domains = [names.to_numpy() for _, names in classes.groupby("domain", sort=True)["class"]]
    large = [names for names in of_domains if len(names) > 1] or of_domains
    some = [large[place] for place in evenly(len(large), max(1, min(DOMAINS, domains)))]
    kept = {name for names in some for name in names[evenly(len(names), CLASSES)]}
    if len(kept) < 2:
        return None
    return pool_of([(challenger, rows[rows["class"].isin(kept)])], most)
