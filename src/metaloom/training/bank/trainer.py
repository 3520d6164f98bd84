"""Trains a bank: one network for each window of domains, each by the ordinary trainer, then the router.

A network is a pure function of its fingerprint: the examples of its window's classes and of the validation
episodes, the settings, the seed, the code. So one with the same fingerprint in the previous model is taken over
as it is, and the bank that comes out has the same bits as if all had been trained again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.learner.learner import Learner
from metaloom.learner.placement import picked
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.methods.bank import Bank
from metaloom.methods.model import Params
from metaloom.networks import ran_by
from metaloom.system.terminal import say
from metaloom.tasks import spread_rows
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.bank.members import SHARPNESSES, calibrated, joined, one_of, with_moments
from metaloom.training.bank.windows import describe_domains, windows
from metaloom.training.trainer import Trainer

SAMPLE = 2_000  # examples of a window that its normalisation and its place are measured on, at most


@dataclass(frozen=True)
class Wanted:
    """A network to be had: by training, or from the previous model."""

    domains: tuple[str, ...]
    classes: pd.DataFrame
    learner: Learner
    fingerprint: str


@dataclass(frozen=True)
class Member:
    """A trained network as a bank of one, and what learner.json keeps of it."""

    params: Params
    about: dict[str, Any]


@dataclass(frozen=True)
class BankState:
    """What the trainer's `State` tells of a run, for all networks one after the other.

    Args:
        learner: the bank.
        step: of all networks.
        steps_run: of those that were trained in this run.
        seconds: that it took.
        best_record: the whole bank's validation.
        looks: at the validation episodes, those of all networks and of the router together.
    """

    learner: Learner
    step: int
    steps_run: int
    seconds: float
    best_record: dict[str, Any]
    looks: int


@dataclass(frozen=True)
class BankTrainer:
    """Stands in for the trainer in the train stage.

    Args:
        template: a trainer of all training classes; each network's has its own classes, checkpoint and fingerprint.
        training: the class table of the training split.
        previous: the model folder of an earlier run; it need not be there.
    """

    template: Trainer
    training: pd.DataFrame
    previous: Path

    def run(self) -> BankState:
        """Train what is not there yet; networks that were finished before the process was killed are kept.

        Raises:
            MetaloomError: as the trainer, or the windows do not fit the data.
        """
        plans, known = self.plans(), self.template.ranks.agreed(self._known)
        kept = sum(plan.fingerprint in known for plan in plans)
        say(f"bank: {len(plans)} networks, {kept} of them taken over from the previous model")
        members, steps_run, seconds = [], 0, 0.0
        for index, plan in enumerate(plans):
            member = known.get(plan.fingerprint)
            if member is None:
                member, spent = self._train(plan, index, len(plans))
                steps_run, seconds = steps_run + _steps(member), seconds + spent
            else:
                member = replace(member, params=member.params.to(self.template.learner.device))
            self._replay(member, sum(map(_steps, members)))
            members.append(member)
        learner = self._bank(members)
        record = {
            "step": sum(map(_steps, members)),
            "loss": sum(member.about["history"][-1]["loss"] for member in members) / len(members),
            **accuracy_and_nll(learner, self.template.examples, self.template.validation),
        }
        self.template.on_validation(record)
        looks = sum(len(member.about["history"]) for member in members) + len(SHARPNESSES)
        return BankState(learner, record["step"], steps_run, seconds, record, looks)

    def discard_checkpoint(self) -> None:
        """Remove all networks' checkpoints: the model is in place."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    @property
    def _checkpoints(self) -> Path:
        return self.template.checkpoint.with_suffix("")

    @property
    def _method(self) -> Bank:
        return cast(Bank, self.template.learner.method)

    def plans(self) -> list[Wanted]:
        """One network per window."""
        examples, training = self.template.examples, self.training
        large = training[training["count"] >= self.template.settings.examples]
        found = windows(
            describe_domains(self.template.learner.encoding.kind, examples, training), self._method.settings
        )
        shared = self.template.ranks.agreed(self._shared_fingerprint)
        plans = []
        for domains in found:
            classes = training[training["domain"].isin(domains)]
            usable = int(large["domain"].isin(domains).sum()) * self.template.learner.encoding.kind.views
            self._check(domains, usable)
            kind = self.template.learner.encoding.kind
            encoding = kind.fitted(examples[spread_rows(classes, SAMPLE)].cpu().numpy())
            learner = replace(self.template.learner, encoding=encoding)
            parts = [shared, json.dumps(encoding.numbers()), content_of(examples, classes)]
            plans.append(Wanted(domains, classes, learner, _hash("\n".join(parts).encode())))
        return plans

    def _check(self, domains: tuple[str, ...], usable: int) -> None:
        if usable < self._method.settings.n_way:
            raise MetaloomError(
                f"params.yaml: bank.n_way is {self._method.settings.n_way}, but the window {', '.join(domains)} has "
                f"{usable} classes with {self.template.settings.examples} examples (train.n_shot + train.n_query): "
                f"lower bank.n_way to {usable} or raise bank.window"
            )

    def _shared_fingerprint(self) -> str:
        """What all networks' fingerprints share: code, settings, seed, device, validation episodes."""
        config = self.template.learner.config
        method = {k: v for k, v in config["method"].items() if k not in ("window", "stride", "route")}
        own = {"method": method, "network": config["network"], "seed": config["seed"]}
        validation = self.template.validation
        rows = torch.cat([torch.as_tensor(each).flatten() for each in (validation.support, validation.query)])
        ran = ran_by(config["network"]["name"], self.template.learner.device)
        parts = [self.template.code, torch.__version__, ran, json.dumps(own)]
        parts += [self.template.settings.model_dump_json(), str(validation.support.shape), str(validation.query.shape)]
        return "\n".join([*parts, _hash(self.template.examples[rows].cpu().numpy().tobytes())])

    def _known(self) -> dict[str, Member]:
        """The previous model's networks by fingerprint, on the host; none where it cannot be read."""
        try:
            learner = Learner.load(self.previous)
        except MetaloomError:
            return {}
        abouts = learner.config.get("members", [])
        return {about["fingerprint"]: Member(one_of(learner.params, i), about) for i, about in enumerate(abouts)}

    def _train(self, plan: Wanted, index: int, networks: int) -> tuple[Member, float]:
        """The network, and the seconds it took."""
        template, steps = self.template, self._method.settings.steps
        trainer = replace(
            template,
            learner=plan.learner,
            sampler=EpisodeSampler.for_training(
                plan.classes, template.settings, plan.learner.encoding.kind.views, template.examples.device
            ),
            checkpoint=self._checkpoints / f"{plan.fingerprint}.safetensors",
            fingerprint=plan.fingerprint,
            on_step=lambda step, loss: template.on_step((index * steps + step) // networks, loss),
            on_validation=lambda record: None,
        )
        state = trainer.run()
        rows = torch.from_numpy(spread_rows(plan.classes, SAMPLE))
        examples = plan.learner.encoding(picked(template.examples, rows, template.learner.device))
        params = with_moments(self._method, state.best or state.params, examples)
        about = {
            "fingerprint": plan.fingerprint,
            "domains": list(plan.domains),
            "normalisation": plan.learner.encoding.numbers(),
            "history": state.history,
        }
        return Member(params.detached(), about), state.seconds

    def _replay(self, member: Member, before: int) -> None:
        """Its curve goes on where the one before ended."""
        for record in member.about["history"]:
            self.template.on_validation(record | {"step": before + record["step"]})

    def _bank(self, members: list[Member]) -> Learner:
        fresh = self.template.learner
        kind = fresh.encoding.kind
        encodings = [kind.encoding(member.about["normalisation"]) for member in members]
        params = joined([member.params for member in members], encodings, fresh.encoding)
        method = Bank(self._method.network.member, self._method.settings, len(members))
        config = fresh.config | {"members": [member.about for member in members]}
        learner = replace(fresh, method=method, params=params, config=config)
        return calibrated(learner, self.template.examples, self.template.validation)


def _steps(member: Member) -> int:
    return int(member.about["history"][-1]["step"])


def content_of(examples: Tensor, classes: pd.DataFrame) -> str:
    """A hash of all examples of these classes, in order, and of where a class ends."""
    digest = hashlib.sha256()
    for first, count in classes[["first", "count"]].itertuples(index=False):
        digest.update(f"{count};".encode())
        digest.update(examples[first : first + count].cpu().numpy().tobytes())
    return digest.hexdigest()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
