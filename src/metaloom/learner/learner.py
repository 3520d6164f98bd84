"""A trained method as its user meets it: load, adapt, predict."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from metaloom import __version__
from metaloom.config import METHOD_SETTINGS, MethodSettings, NetworkSettings, Settings
from metaloom.errors import MetaloomError
from metaloom.kinds import kind_from
from metaloom.kinds.encoding import Encoding
from metaloom.learner.placement import picked
from metaloom.learner.task import BATCH, AdaptedTask, checked
from metaloom.learner.temperature import Temperature
from metaloom.methods.base import TASKS_AT_A_TIME, Method, Weighing
from metaloom.methods.catalogue import METHOD_CLASSES, build_method, method_class
from metaloom.methods.model import Params
from metaloom.networks import build_network
from metaloom.networks.layerless import Layerless
from metaloom.system.device import check_device
from metaloom.system.files import atomic_file, makes, makes_again, read_json, write_json
from metaloom.system.plural import several
from metaloom.system.rounding import is_finite
from metaloom.system.seeds import Stream, generator
from metaloom.tasks import EpisodeTable

FORMAT = 1
LogitsOf = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # rows of support and query, labels, ways


@dataclass(frozen=True)
class Learner:
    """A meta-learner and what it has learned.

    Args:
        name: of the method, as in params.
        method: how it adapts.
        params: what it learned.
        encoding: of packed examples, fitted on training classes.
        config: what learner.json holds, enough to rebuild all but `params`.
        temperature: which its logits are divided by.
    """

    name: str
    method: Method
    params: Params = field(repr=False)
    encoding: Encoding
    config: dict[str, Any]
    temperature: Temperature = Temperature()  # noqa: RUF009 (frozen)

    @classmethod
    def create(cls, name: str, settings: Settings, encoding: Encoding) -> Learner:
        """A fresh learner, its weights drawn from their stream of the settings' seed (`metaloom.system.seeds`).

        Args:
            name: of the method, as in params.
            settings: of the method and its network, and the seed.
            encoding: of packed examples, fitted on training classes.

        Raises:
            MetaloomError: the network does not take such examples.
        """
        own = settings.method(name)
        config = {
            "format": FORMAT,
            "method": {"name": name, **own.model_dump()},
            "network": settings.network.model_dump(),
            "input": encoding.saved(),
            "seed": settings.seed,
        }
        method = _method(name, settings.network, own, encoding)
        params = method.init(generator(settings.seed, Stream.WEIGHTS))
        return cls(name, method, params, encoding, json.loads(json.dumps(config)))

    def changed(self, **settings: Any) -> Learner:
        """The same with other values for some of the method's settings.

        Args:
            settings: by name, as in params; they are not checked.
        """
        own = self.method.settings.model_copy(update=settings)
        method = build_method(self.name, self.method.network, own)
        config = self.config | {"method": self.config["method"] | settings}
        return replace(self, method=method, config=config)

    def tempered(self, temperature: Temperature) -> Learner:
        """The same with its logits divided by a temperature: how sure it is of what it says.

        Args:
            temperature: for each number of ways and of labelled examples per class.
        """
        return replace(self, temperature=temperature, config=self.config | {"temperature": temperature.saved()})

    def reading(self, encoding: Encoding) -> Learner:
        """The same learner with another encoding, for example the negative's:
        `learner.reading(learner.encoding.inverted())`.

        Args:
            encoding: that gives inputs of the same shape.
        """
        return replace(self, encoding=encoding, config=self.config | {"input": encoding.saved()})

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and learner.json, each whole or not at all.

        Args:
            folder: of the model; made where there is none.
        """
        groups = {"weights": self.params.kept().weights, "statistics": self.params.statistics}
        flat = {f"{group}/{k}": v.contiguous() for group, tensors in groups.items() for k, v in tensors.items()}
        with atomic_file(Path(folder) / "model.safetensors") as temporary:
            save_file(flat, temporary)
        write_json(Path(folder) / "learner.json", self.config)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu", made_by: str = "") -> Learner:
        """Read what `save` wrote.

        Args:
            folder: of the model.
            device: where it is going to live.
            made_by: the stage that makes it, for the message where it is absent; else train@ and the folder's name.

        Raises:
            MetaloomError: a file is absent, damaged, of another version of metaloom, its weights are another
                network's, or the device is not there.
        """
        folder = Path(folder)
        made_by = made_by or f"train@{folder.name}"
        config = read_json(folder / "learner.json", made_by)
        version = config.get("format") if isinstance(config, dict) else None
        if version != FORMAT:
            raise MetaloomError(
                f"{folder}/learner.json has format {version}; this metaloom reads {FORMAT}: train again"
            )
        try:
            name, method, encoding = _described(config, folder / "learner.json")
            temperature = Temperature.read(config.get("temperature", {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise MetaloomError(
                f"{folder}/learner.json was written by another version of metaloom than {__version__} ({why}): "
                "train again"
            ) from None
        params = _read_params(folder / "model.safetensors", method, check_device(device), made_by)
        return cls(name, method, params, encoding, config, temperature)

    def adapt(
        self,
        support_x: Shaped[np.ndarray | Tensor, "support ..."],
        support_y: Sequence[Any] | np.ndarray,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> AdaptedTask:
        """Learn a task from labelled examples.

        Args:
            support_x: packed examples, (support, *`encoding.packed`): of pictures uint8 pixels (support, height,
                width, channel) at the network's own size, of vectors float32 (support, feature), of texts an array
                of them too.
            support_y: a label for each; any values that sort. Their order is that of the probabilities.
            weights: how often each counts: 2 is as if it stood there twice, 0 as if it did not. None: once each.

        Raises:
            MetaloomError: shapes do not fit, there are fewer than two classes, or the method does not weigh examples.
        """
        examples = checked(support_x, self.encoding, "support")
        classes, labels = np.unique(np.asarray(support_y), return_inverse=True)
        if len(labels) != len(examples) or len(classes) < 2:
            raise MetaloomError(
                f"{len(examples)} support {self.encoding.kind.many} with {len(labels)} labels of "
                f"{several(len(classes), 'class', 'classes')}: give one label per {self.encoding.kind.one}, "
                "and at least two classes"
            )
        own = None if weights is None else self._checked_weights(weights, labels)
        with torch.no_grad():
            x = self.encoding(examples.to(self.device)).to(next(iter(self.params.weights.values())).dtype)
            y = torch.as_tensor(labels, device=self.device)
            if own is None:
                model = self.method.adapt(self.params, x, y, len(classes))
            else:
                counts = torch.as_tensor(own, device=self.device, dtype=x.dtype)
                model = self._weighing().adapt_weighted(self.params, x, y, len(classes), counts)
            t = self.temperature.of_task(labels, len(classes), own)
            model = replace(model, head=model.head.over(t))
        return AdaptedTask(model, self.encoding, classes.tolist())

    def _weighing(self) -> Weighing:
        """The method, which has to be one for which examples may count more or less than once."""
        if isinstance(self.method, Weighing):
            return self.method
        able = ", ".join(name for name, method in METHOD_CLASSES.items() if issubclass(method, Weighing))
        raise MetaloomError(f"{self.name} does not weigh examples: leave the weights out, or take a learner of {able}")

    def _checked_weights(self, weights: Sequence[float] | np.ndarray, labels: np.ndarray) -> np.ndarray:
        self._weighing()
        own = np.asarray(weights, np.float64)
        if own.shape != labels.shape:
            raise MetaloomError(f"there are weights of shape {own.shape} for {len(labels)} examples: give one for each")
        if not np.isfinite(own).all() or (own < 0).any():
            raise MetaloomError("a weight is negative or no number: give 0 or more")
        if not np.bincount(labels, own).all():
            raise MetaloomError("all examples of a class have the weight 0: leave the class out, or weigh one")
        return own

    @property
    def device(self) -> torch.device:
        """Where its weights live."""
        return next(iter(self.params.weights.values())).device

    def embed(
        self, examples: Shaped[Tensor, "item ..."], rows: Int[np.ndarray | Tensor, " row"]
    ) -> Float[Tensor, "row embed"]:
        """The shared network's embeddings of some of the examples, none adapted to.

        Args:
            examples: packed, (item, *`encoding.packed`); they may be on the host.
            rows: of `examples`.
        """
        rows = torch.as_tensor(rows, device=examples.device)
        with torch.no_grad(), self.method.network.threads(self.device):
            parts = [self.method.embed(self.params, self._input(examples, part)) for part in rows.split(BATCH)]
        return torch.cat(parts)

    def answer(
        self, examples: Shaped[Tensor, "item ..."], episodes: EpisodeTable
    ) -> Float[Tensor, "episode query n_way"]:
        """Log-probabilities (natural logarithm) for every query of fixed episodes; queries go way by way.

        A method that only adapts its head embeds each example once, however many episodes it is in.

        Args:
            examples: packed, (item, *`encoding.packed`); they may be on the host.
            episodes: which have rows of `examples`.
        """
        return self.answers(examples, {"": episodes})[""]

    def answers(
        self, examples: Shaped[Tensor, "item ..."], tables: Mapping[str, EpisodeTable]
    ) -> dict[str, Float[Tensor, "episode query n_way"]]:
        """The same for several sets of episodes, whose examples are embedded once for all of them.

        Args:
            examples: as `answer` takes them.
            tables: episodes by name, which the answers have too.
        """
        answer = self.answering(examples, np.unique(np.concatenate([table.rows for table in tables.values()])))
        return {name: answer(table) for name, table in tables.items()}

    def answering(
        self, examples: Shaped[Tensor, "item ..."], rows: Int[np.ndarray, " row"]
    ) -> Callable[[EpisodeTable], Float[Tensor, "episode query n_way"]]:
        """Ready to answer episodes that come later, as `answer` does: what they may ask about is embedded now, once.

        Args:
            examples: as `answer` takes them.
            rows: that the episodes may have, ascending.
        """
        logits_of = self._embedded(examples, torch.as_tensor(rows)) if self.method.frozen else self._adapted(examples)
        return lambda table: self._answer(table, logits_of)

    def _answer(self, table: EpisodeTable, logits_of: LogitsOf) -> Tensor:
        labels = torch.as_tensor(table.labels, device=self.device)
        support, query = (torch.as_tensor(rows) for rows in (table.support_rows, table.query_rows))
        chunks = zip(support.split(TASKS_AT_A_TIME), query.split(TASKS_AT_A_TIME), strict=True)
        with torch.no_grad(), self.method.network.threads(self.device):
            logits = torch.cat([logits_of(*rows, labels, table.n_way) for rows in chunks])
        return (logits / self.temperature.of_task(table.labels, table.n_way)).log_softmax(dim=2)

    def _adapted(self, examples: Tensor) -> LogitsOf:
        """Logits from rows of support and query, the whole network adapted."""

        def logits_of(support: Tensor, query: Tensor, labels: Tensor, n_way: int) -> Tensor:
            model = self.method.adapt(self.params, self._input(examples, support), labels, n_way)
            return model.logits(self._input(examples, query))

        return logits_of

    def _embedded(self, examples: Tensor, used: Tensor) -> LogitsOf:
        """The same from embeddings of all rows that are used."""
        z = self.embed(examples, used)

        def embedded(some: Tensor) -> Tensor:
            return z[torch.searchsorted(used, some.contiguous()).to(z.device)]

        def logits_of(support: Tensor, query: Tensor, labels: Tensor, n_way: int) -> Tensor:
            return self.method.head(self.params, embedded(support), labels, n_way).logits(embedded(query))

        return logits_of

    def _input(self, examples: Tensor, rows: Tensor) -> Tensor:
        return self.encoding(picked(examples, rows, self.device))


def _method(name: str, network: NetworkSettings, own: MethodSettings, encoding: Encoding, **shape: int) -> Method:
    """The method over a network for such examples, with test-time augmentation where method and kind both can."""
    built = build_network(network, own.norm, encoding.shape)
    if method_class(name).test_augmentation:
        built = encoding.kind.with_test_augmentation(built)
    return build_method(name, built, own, **shape)


def _described(config: dict[str, Any], path: Path) -> tuple[str, Method, Encoding]:
    """What learner.json says, but for the weights."""
    options = dict(config["method"])
    name = options.pop("name")
    encoding = kind_from(config["input"], path, "train again").encoding(config["input"])
    shape = {"members": len(config["members"])} if "members" in config else {}
    method = _method(name, NetworkSettings(**config["network"]), METHOD_SETTINGS[name](**options), encoding, **shape)
    return name, method, encoding


def _read_params(path: Path, method: Method, device: torch.device | str, made_by: str) -> Params:
    try:
        flat = load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise MetaloomError(f"{path} cannot be read ({error}): {makes(made_by)}") from None
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "statistics": {}}
    for name, tensor in flat.items():
        group, _, key = name.partition("/")
        if group not in groups:
            raise MetaloomError(f"{path} holds {name}, which no learner has: train again")
        groups[group][key] = tensor
    another = f"{path} holds the {{}} of another network than its learner.json says: train again"
    expected = _expected(method, sum(tensor.numel() for tensor in flat.values()))
    if expected is None:
        raise MetaloomError(another.format("weights"))
    for group, tensors in groups.items():
        shapes = {k: tuple(v.shape) for k, v in getattr(expected, group).items()}
        if shapes != {k: tuple(v.shape) for k, v in tensors.items()}:
            raise MetaloomError(another.format(group))
    for name, tensor in flat.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise MetaloomError(f"{path} holds {name} as {str(tensor.dtype).removeprefix('torch.')}: train again")
        if not tensor.isfinite().all():
            raise MetaloomError(f"{path} holds NaN or an infinity in {name}: train again")
    return Params(**groups)


def _expected(method: Method, numbers: int) -> Params | None:
    """Parameters as the method makes them, for a file with so many numbers; None: it would make far more."""
    if method.network.width > numbers and not isinstance(method.network, Layerless):
        return None
    try:
        return method.init(torch.Generator())
    except (RuntimeError, MemoryError, OverflowError, TypeError, ValueError, ZeroDivisionError):  # sizes beyond all
        return None


def validation_of(folder: Path) -> dict[str, Any]:
    """What metrics.json beside a meta-learner says of the validation episodes.

    Raises:
        MetaloomError: the file is absent or damaged.
    """
    path = folder / "metrics.json"
    found = read_json(path, made_by=f"train@{folder.name}")
    validation = found.get("validation") if isinstance(found, dict) else None
    if not isinstance(validation, dict) or not is_finite(validation.get("accuracy")):
        raise MetaloomError(
            f"{path} is damaged, it gives no accuracy on validation: {makes_again(f'train@{folder.name}')}"
        )
    return validation


def champion(models: str | Path, methods: Sequence[str]) -> str:
    """The method with the best accuracy on the validation episodes; the first named wins a tie.

    Raises:
        MetaloomError: what is known of one of them is absent or damaged.
    """
    scores = {name: validation_of(Path(models) / name)["accuracy"] for name in methods}
    return max(methods, key=lambda name: scores[name])
