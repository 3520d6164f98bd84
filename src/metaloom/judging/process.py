"""Champion and challenger answer the same fresh episodes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from metaloom.config import PARAMS, Setting, load_settings
from metaloom.errors import MetaloomError
from metaloom.judging import forgetting
from metaloom.judging.asking import Asked, ask
from metaloom.judging.bundles import bundle_figures
from metaloom.judging.evidence import Evidence
from metaloom.judging.ledger import Entry, again, share
from metaloom.judging.novelty import EPISODES, aurocs
from metaloom.judging.questions import Questions, pool
from metaloom.judging.records import read_ledger, record
from metaloom.judging.side import Side, check_alike
from metaloom.judging.verdict import Verdict
from metaloom.learner import Learner
from metaloom.networks.engine import choose_engine
from metaloom.system.device import choose_device
from metaloom.system.git import revision as commit_of
from metaloom.versioning.paths import Outputs
from metaloom.versioning.revisions import WORKSPACE, at_revision, resolved


def judge(
    root: Path,
    champion: str,
    challenger: str,
    now: datetime | None = None,
    note: bool = True,
    minutes: float | None = None,
    names: tuple[str, str] | None = None,
) -> Verdict:
    """Have two versions of the model answer the same fresh episodes until it is decided which is better.

    The questions are seeded by the files of both commits: the same two are asked the same again.

    Args:
        root: of the project; `judge` of its params.yaml says how.
        champion: a revision: a version such as v0.2.0, a branch, tag or commit.
        challenger: another one.
        now: time of the judgement; None: the clock's.
        note: whether it is written into the ledger, in git's notes of the challenger's commit.
        minutes: that it may take; None: as params.yaml says.
        names: of both in the message; None: as they were given.

    Raises:
        MetaloomError: one of them is no revision, or has no model or data that can be had; they are the same, do not
            take the same examples, or no class is left that neither has seen.
    """
    began, root, now = time.monotonic(), Path(root).resolve(), now or datetime.now(UTC)
    settings = load_settings(root / PARAMS)
    rules = settings.judge.model_copy(update={} if minutes is None else {"max_minutes": minutes})
    with _sides(root, champion, challenger, names) as (one, other):
        check_alike(one, other)
        episodes = other.settings.episodes
        seed = "/".join(commit_of(root, f"{each.commit}^{{tree}}") for each in (one, other))
        setting = Setting.parse(episodes.settings[0])
        questions = Questions.of(pool(one, other), setting, episodes.n_query, seed)
        past = read_ledger(root)
        known = again(past, one.commit, other.commit, questions.version)
        alpha = known.alpha if known else share(past, now, rules.alpha)
        choose_engine(settings.engine)
        device = choose_device(settings.device)
        learners = one.learner(device), other.learner(device)
        apart, old = (getattr(rules.guards, name) != "off" for name in ("novelty", "forgetting"))
        ends = began + 60 * rules.max_minutes
        spare = apart * EPISODES + old * forgetting.EPISODES
        asked = ask(*learners, questions, alpha, rules, ends - time.monotonic(), spare)
        novelty = _novelty(learners, questions, asked, ends, old) if apart else None
        left = _affordable(questions, asked, ends)
        remembered = forgetting.answers(one, other, learners, setting, episodes.n_query, seed, left) if old else None
        bundles = bundle_figures(one, other)
        evidence = Evidence(one, other, questions, asked, alpha, rules, past, bundles, novelty, remembered)
    verdict = evidence.verdict()
    if note:
        record(root, _entry(verdict, one, other, questions, known.when if known else now))
    return verdict


def _novelty(
    learners: tuple[Learner, Learner], questions: Questions, asked: Asked, ends: float, more: bool
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC of both, of the first whole rounds; with half of the time that is left where more is asked afterwards."""
    episodes = min(EPISODES, _affordable(questions, asked, ends)[0] // (1 + more))
    table = asked.champion.table.first(max(1, episodes // asked.domains) * asked.domains)
    one, other = (aurocs(each, torch.from_numpy(questions.pool.examples), table) for each in learners)
    return one, other


def _affordable(questions: Questions, asked: Asked, ends: float) -> tuple[int, int]:
    """Episodes and examples for which there is time until the end, by what asking took."""
    share = max(0.0, ends - time.monotonic()) / max(asked.seconds, 1e-9)
    return int(share * len(asked.champion.table)), int(share * len(questions.pool.examples))


def _entry(verdict: Verdict, champion: Side, challenger: Side, questions: Questions, when: datetime) -> Entry:
    told = verdict.evidence
    figures = told["alpha"], questions.version, told["gain"], told["low95"], told["high95"], told["episodes"]
    held, worn = verdict.held, told["wear"]["add"]
    return Entry(when, champion.commit, challenger.commit, verdict.outcome, *figures, held, worn)


@contextmanager
def _sides(
    root: Path, champion: str, challenger: str, called: tuple[str, str] | None = None
) -> Iterator[tuple[Side, Side]]:
    """Both, with their files in a folder that goes when the block ends."""
    names = [resolved(root, each) for each in (champion, challenger)]
    if WORKSPACE in names:
        raise MetaloomError("the working tree is no version: `git commit` what is to be judged")
    outputs = Outputs(root)
    with (
        at_revision(root, names[0]) as one,
        at_revision(root, names[1]) as other,
        tempfile.TemporaryDirectory() as folder,
    ):
        commits = [commit_of(root, f"{each}^{{commit}}") for each in names]
        if commits[0] == commits[1]:
            raise MetaloomError(f"{champion} and {challenger} are the same commit, {commits[0][:8]}: nothing to judge")
        champion, challenger = called or (
            commit[:8] if name in ("HEAD", commit) else name
            for name, commit in zip((champion, challenger), commits, strict=True)
        )
        yield (
            Side(champion, commits[0], one, outputs, Path(folder) / "champion"),
            Side(challenger, commits[1], other, outputs, Path(folder) / "challenger"),
        )
