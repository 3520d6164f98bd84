"""A method's training with one network, as the stage `train` does it: curves, what is said, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.system.device import explained_out_of_memory
from metaloom.system.terminal import Bar, bar, say
from metaloom.tasks import load_episodes
from metaloom.training.bank.trainer import BankState, BankTrainer
from metaloom.training.checkpoint import State
from metaloom.training.selection import at_chance, choose_beta, choose_temperature, wants_beta
from metaloom.training.trainer import Trainer

if TYPE_CHECKING:
    from dvclive.live import Live

TELLING = 1 / 3  # of the steps, after which a loss at chance is said


class Done(NamedTuple):
    """A method that was trained with a network, whose model stands in a folder of its name among the contenders."""

    network: str
    trainer: Trainer
    learner: Learner
    state: State | BankState
    summary: dict[str, Any]


def trained(
    network: str,
    trainer: Trainer,
    training: pd.DataFrame,
    settings: Settings,
    splits: str,
    folder: Path,
    model: str,
) -> Done:
    """Train, choose on validation what there is to choose, and write the model but for its metrics.

    Args:
        network: its name among the contenders.
        trainer: ready to run.
        training: the class table of the training split.
        settings: of the whole project.
        splits: folder of the stage `split`.
        folder: where the model goes, into a folder of the network's name.
        model: the folder of an earlier run, which a bank takes networks over from.

    Raises:
        MetaloomError: training failed.
    """
    method, steps = trainer.learner.name, trainer.learner.method.settings.steps
    shape = {"classes": trainer.sampler.classes, "n_way": trainer.validation.n_way}
    guessing = partial(at_chance, method=trainer.learner.method, **shape)
    with bar(f"train {method}", steps) as progress:
        live = _curves(folder / network / "curves")
        shown = _shown(trainer, live, progress, guessing)
        with explained_out_of_memory(
            f"lower {method}.tasks_per_step, {method}.n_way or train.n_query, or network.width, in params.yaml"
        ):
            state = of_method(shown, training, model).run()
        if live:
            live.end()
        trained, summary = _selected(trainer, state, settings)
        if isinstance(state, State) and guessing(state.history[-1]):
            summary["at_chance"] = True
        trained = choose_temperature(trained, trainer.examples, load_episodes(splits, "validation", []))
        trained.save(folder / network)
        (folder / network / "curves" / "metrics.json").unlink(missing_ok=True)
    return Done(network, trainer, trained, state, summary)


def of_method(trainer: Trainer, training: pd.DataFrame, model: str) -> Trainer | BankTrainer:
    """A bank trains several networks, and takes over what it can from the model that is there."""
    return BankTrainer(trainer, training, Path(model)) if trainer.learner.name == "bank" else trainer


def _shown(trainer: Trainer, live: Live | None, progress: Bar, guessing: Callable[[dict[str, Any]], bool]) -> Trainer:
    """The trainer whose steps move the bar and whose validations are logged; a loss at chance is said once."""
    method, steps = trainer.learner.name, trainer.learner.method.settings.steps
    told: list[int] = []

    def on_step(step: int, loss: float) -> None:
        trainer.on_step(step, loss)
        progress.update(step, f"loss {loss:.3f}")

    def on_validation(record: dict[str, Any]) -> None:
        _log(live, record)
        if not told and record["step"] >= TELLING * steps and guessing(record):
            told.append(record["step"])
            say(
                f"{method}: after {record['step']} of {steps} steps the loss is {record['loss']:.2f}, no better "
                f"than guessing: lower {method}.learning_rate, or try another of `methods`"
            )

    return replace(trainer, on_step=on_step, on_validation=on_validation)


def _selected(trainer: Trainer, state: State | BankState, settings: Settings) -> tuple[Learner, dict[str, Any]]:
    """The learner with the weights, and the `beta` where it is to be chosen, that validate best; and what to say."""
    summary = _summary(state, settings)
    trained = state.learner if isinstance(state, BankState) else replace(trainer.learner, params=state.best)
    if wants_beta(trained):
        trained, beta = choose_beta(trained, trainer.examples, trainer.validation)
        best = beta["tried"][str(beta["chosen"])]
        summary["validation"] |= {"accuracy": best["accuracy"], "nll": best["nll"]}
        summary["validation"]["looks"] += len(beta["tried"])
        summary["beta"] = beta
    return trained, summary


def _curves(folder: Path) -> Live | None:
    """None where DVCLive is not installed: a machine that only trains can do without its curves."""
    try:
        from dvclive.live import Live
        from scmrepo.exceptions import SCMError
    except ImportError as error:
        say(f"no curves of the training are written: {error}")
        return None
    try:
        return Live(str(folder), save_dvc_exp=False, dvcyaml=None, monitor_system=False)
    except SCMError:
        raise MetaloomError("this git repository has no commit yet, and DVCLive needs one: commit first") from None


def _log(live: Live | None, record: dict[str, Any]) -> None:
    if live is None:
        return
    live.step = int(record["step"])
    live.log_metric("train/loss", record["loss"])
    live.log_metric("validation/accuracy", record["accuracy"])
    live.log_metric("validation/nll", record["nll"])
    live.make_summary()


def _summary(state: State | BankState, settings: Settings) -> dict[str, Any]:
    """Without an interval: the best of many looks at the same episodes is better than a further draw would be."""
    best = state.best_record
    validation = {
        "setting": settings.train.select_on,
        **{name: best[name] for name in ("accuracy", "nll")},
        "episodes": settings.episodes.validation,
        "looks": state.looks,
    }
    return {"validation": validation, "best_step": int(best["step"]), "steps": state.step}


def speed_of(state: State | BankState, settings: Settings, method: str, processes: int) -> dict[str, Any]:
    """Times of a run, which differ from one to the next.

    Args:
        state: in which the run ended.
        settings: of the whole project.
        method: its name.
        processes: that shared its work.
    """
    own, train = settings.method(method), settings.train
    examples = state.steps_run * own.tasks_per_step * own.n_way * train.examples
    return {
        "seconds": round(state.seconds, 2),
        "examples_per_second": round(examples / max(state.seconds, 1e-9)),
        "threads": torch.get_num_threads() * processes,
    }
