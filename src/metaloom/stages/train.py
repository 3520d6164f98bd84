"""DVC stage `train@METHOD`: meta-train one method on the training classes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from metaloom.config import NO_ENCODER, PRETRAIN, Settings, TrainSettings, load_settings
from metaloom.data.packed import Dataset, behind, without_encoder
from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.learner.placement import placed
from metaloom.networks import ran_by
from metaloom.networks.engine import choose_engine
from metaloom.stages import run_stage
from metaloom.stages.one_network import Done, of_method, speed_of, trained
from metaloom.system.device import choose_device
from metaloom.system.files import READ, atomic_dir, required, sha256, write_json
from metaloom.system.rounding import nulled, rounded
from metaloom.system.source_files import digest
from metaloom.system.terminal import say
from metaloom.system.times import note_times
from metaloom.tasks import load_episodes, spread_rows
from metaloom.tasks.limits import check_shares
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.launch import begin, launch, leave
from metaloom.training.ranks import Ranks, check_processes, launched
from metaloom.training.selection import choose_start
from metaloom.training.trainer import Trainer
from metaloom.training.warm import WEIGHTS, earlier_model, taken_over

MODULE = "metaloom.stages.train"  # by its name: where DVC runs it, __name__ is another
CHECKPOINTS = Path(".metaloom/checkpoints")  # outside the stage's outputs: DVC clears those before a run
COMPILED = Path(".metaloom/compiled")  # what train.compile has made, kept between runs
SAMPLE = 20_000  # training examples that the encoding is fitted on, at most


def main(method: str, dataset: str, splits: str, plan: str, model: str, metrics: str) -> None:
    """Write the model folder (weights, config, metrics, curves), and its headline as metrics; nothing of a method that
    is left out."""
    settings = load_settings(plan=plan)
    if method not in settings.trained:
        _leave_out(method, model, metrics)
        return
    command = [MODULE, method, dataset, splits, plan, model, metrics]
    meta_train(method, settings, dataset, splits, model, metrics, command)


def _leave_out(method: str, model: str, metrics: str) -> None:
    nothing = {"steps": 0}
    with atomic_dir(model) as folder:
        write_json(folder / "left_out.json", nothing)
    write_json(metrics, nothing)
    say(f"{method}: left out")


def meta_train(
    name: str, settings: Settings, dataset: str, splits: str, model: str, metrics: str, command: list[str]
) -> None:
    """What the stages `train` and `pretrain` do.

    Args:
        name: of the method, which is the section of `settings` with its own.
        settings: of the whole project.
        dataset: folder of the stage `prepare`.
        splits: folder of the stage `split`.
        model: folder to write.
        metrics: JSON file to write, with the headline.
        command: the stage's module and its arguments, which further processes start with.

    Raises:
        MetaloomError: something is absent, the settings do not fit the data or the machine, or training failed.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.absolute()))
    if settings.train.start and Path(settings.train.start).resolve() == Path(model).resolve().parent:
        raise MetaloomError(f"train.start is {settings.train.start}, which this run replaces: give a copy of it")
    device, processes = choose_device(settings.device), settings.train.processes
    choose_engine(settings.engine)
    if launched():
        begin()
    elif processes > 1:
        check_shares(processes, name, settings.method(name).tasks_per_step)
        check_processes(processes, device)
        launch(command[0], command[1:], processes)
        return
    code = digest(command[0])
    with Ranks.joined(device) as ranks:
        packed, training = Dataset.load(dataset), training_classes(splits)
        trainers = {
            network: replace(
                trainer_of(name, own, seen, training, dataset, splits, device, code),
                checkpoint=CHECKPOINTS / f"{'.'.join([name, *([network] if place else [])])}.safetensors",
                ranks=ranks,
                on_step=lambda step, loss, seen=seen: seen.let_go(),  # half a millisecond, with reading again
            )
            for place, (network, own, seen) in enumerate(_contending(name, settings, packed, dataset))
        }
        if ranks.first:
            _train(trainers, training, settings, splits, model, metrics)
        else:
            for trainer in trainers.values():
                of_method(trainer, training, model).run()
    if launched():
        leave()


def _contending(
    name: str, settings: Settings, packed: Dataset, dataset: str
) -> Iterator[tuple[str, Settings, Dataset]]:
    """Each network that a method is trained with: its name among the contenders, the settings with it, and the
    examples, which from scratch are not the encoder's rows."""
    contenders = [settings.network.name, *([] if name == PRETRAIN else settings.contenders)]
    for each in dict.fromkeys(contenders):
        seen = Dataset.load(without_encoder(dataset)) if each == NO_ENCODER else packed
        network = seen.kind.network if each == NO_ENCODER else each
        own = settings.network.model_copy(update={"name": network})
        yield each, settings.model_copy(update={"network": own}), seen


def trainer_of(
    name: str,
    settings: Settings,
    packed: Dataset,
    training: pd.DataFrame,
    dataset: str,
    splits: str,
    device: torch.device,
    code: str,
) -> Trainer:
    """A trainer for one method, or for `pretrain`, ready to run."""
    learner = _fresh_learner(name, settings, packed, training, device)
    examples = placed(torch.from_numpy(packed.examples), device)
    validation = load_episodes(splits, "validation", [settings.train.select_on])[settings.train.select_on]
    learner, train, earlier = _started(name, learner, settings.train)
    if not earlier:
        learner = choose_start(learner, examples, training, validation)
    return Trainer(
        learner=learner,
        examples=examples,
        sampler=EpisodeSampler.for_training(training, settings.train, learner.encoding.kind.views, examples.device),
        validation=validation,
        settings=train,
        seed=settings.seed,
        checkpoint=CHECKPOINTS / f"{name}.safetensors",
        fingerprint=_fingerprint(code + earlier, learner.config, settings, device, dataset, splits),
        code=code,
    )


def _started(name: str, learner: Learner, train: TrainSettings) -> tuple[Learner, TrainSettings, str]:
    """The learner with an earlier model's weights and with fewer steps, and the hash of that model; else as they are,
    and nothing."""
    model = earlier_model(train.start, name)
    if model is None:
        return learner, train, ""
    learner, share = taken_over(learner, model)
    if not share:
        say(f"{name}: {model} is of another network: trained from the start")
        return learner, train, ""
    say(f"{name}: starts from {model} ({share:.0%} of the weights), with {train.start_steps:.0%} of the steps")
    steps = max(1, round(train.start_steps * learner.method.settings.steps))
    seconds = train.max_seconds and train.start_steps * train.max_seconds
    learner = learner.changed(steps=min(steps, learner.method.settings.steps))
    return learner, train.model_copy(update={"max_seconds": seconds}), sha256(model / WEIGHTS)


def training_classes(splits: str) -> pd.DataFrame:
    """The class table of the training split."""
    classes = pd.read_parquet(required(Path(splits) / "classes.parquet", made_by="split"))
    return classes[classes["split"] == "train"]


def _train(
    trainers: dict[str, Trainer], training: pd.DataFrame, settings: Settings, splits: str, model: str, metrics: str
) -> None:
    """Train with each network, and write the model of the one that validates best; of equals the first."""
    with atomic_dir(model) as folder:
        done = [trained(network, each, training, settings, splits, folder, model) for network, each in trainers.items()]
        best = max(done, key=lambda each: each.summary["validation"]["accuracy"])
        if len(done) > 1:
            best.summary["validation"]["looks"] = sum(each.summary["validation"]["looks"] for each in done)
            best.summary["networks"] = {each.network: each.summary["validation"]["accuracy"] for each in done}
            best.summary["lead"] = _lead(best, done)
        if encoder := next(iter(trainers.values())).learner.encoding.kind.behind:
            best.summary["encoder"] = encoder
        for path in list((folder / best.network).iterdir()):
            path.rename(folder / path.name)
        for each in done:
            shutil.rmtree(folder / each.network)
        write_json(folder / "metrics.json", best.summary)
        if earlier := earlier_model(settings.train.start, best.trainer.learner.name):
            write_json(folder / READ, {str(earlier / WEIGHTS): sha256(earlier / WEIGHTS)})
    trainer, state = best.trainer, best.state
    speed = speed_of(state, settings, trainer.learner.name, trainer.ranks.count)
    speed["seconds"] = round(sum(each.state.seconds for each in done), 2)
    note_times(trainer.learner.name, Path(model) / WEIGHTS, speed)
    write_json(metrics, {"accuracy": rounded(best.summary["validation"]["accuracy"]), "steps": best.summary["steps"]})
    for each in done:
        of_method(each.trainer, training, model).discard_checkpoint()
    told = f" with {best.network}, of {', '.join(each.network for each in done)}" if len(done) > 1 else ""
    found = best.summary["validation"]
    say(
        f"{trainer.learner.name}{told}: {found['accuracy']:.1%} on validation {found['setting']} (the best of "
        f"{found['looks']} looks), step {best.summary['best_step']} of {best.summary['steps']}, "
        f"{speed['seconds']:.0f} s on {trainer.learner.device.type}"
    )


def _lead(best: Done, done: list[Done]) -> dict[str, Any]:
    """How far the network that was chosen is ahead of the next, on the episodes that chose it: in favour of it."""
    others = (each for each in done if each is not best)
    rival = max(others, key=lambda each: each.summary["validation"]["accuracy"])
    right = [_right(each) for each in (best, rival)]
    gain, half = mean_and_half_width(right[0] - right[1])
    return {"of": best.network, "over": rival.network, "difference": gain, "ci95": nulled(half)}


def _right(done: Done) -> Float[np.ndarray, " episode"]:
    """The share of right answers in each validation episode."""
    table = done.trainer.validation
    found = done.learner.answer(done.trainer.examples, table).argmax(dim=2).cpu().numpy()
    return (found == table.answers).mean(axis=1)


def _fresh_learner(
    method: str, settings: Settings, packed: Dataset, training: pd.DataFrame, device: torch.device
) -> Learner:
    encoding = packed.kind.fitted(packed.examples[spread_rows(training, SAMPLE)])
    learner = Learner.create(method, settings, encoding)
    return replace(learner, params=learner.params.to(device))


def _fingerprint(
    code: str, config: dict[str, Any], settings: Settings, device: torch.device, dataset: str, splits: str
) -> str:
    """Changes with anything that would change the run: code, torch, device and engine as they are, settings, data,
    splits."""
    files = (
        behind(dataset) / "items.parquet",
        Path(splits) / "classes.parquet",
        Path(splits) / "episodes.parquet",
    )
    parts = [code, torch.__version__, ran_by(settings.network.name, device)]
    parts += [json.dumps(config), settings.train.model_dump_json()]
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    run_stage(main)
