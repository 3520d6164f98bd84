"""The figures in metadata.json: how good a bundle's model is, and what its smaller forms cost."""

from __future__ import annotations

from typing import Literal

from metaloom.handoff.metadata.base import Open, Strict
from metaloom.system.certainty import few_test_classes, of_other_classes
from metaloom.system.quantities import with_interval


class Accuracy(Strict):
    """The accuracy of one task's model, from metaloom.learner.estimate; shares of 1.

    Args:
        kind: how it was measured.
        accuracy: share of right answers.
        low95: lower end of its 95% interval.
        high95: upper end.
        examples: that were asked.
        folds: of the cross-validation.
    """

    kind: Literal["held_out", "cross_validation"]
    accuracy: float
    low95: float
    high95: float
    examples: int
    folds: int | None = None


class Score(Open):
    """The meta-learner's score over episodes; `ci95` is the half width of the 95% interval, None where there is none.

    `classes` were asked about; `classes_low95` and `classes_high95` are the ends of the interval over classes.

    All is None where no episode was answered.
    """

    accuracy: float | None
    ci95: float | None = None
    nll: float | None
    episodes: int
    classes: int | None = None
    classes_low95: float | None = None
    classes_high95: float | None = None

    @property
    def few_classes(self) -> bool:
        """Whether the interval over episodes says little about other classes than those that were asked about."""
        return few_test_classes(self.classes)

    @property
    def in_words(self) -> str:
        """The accuracy with its interval, and the one over classes where these are few."""
        if self.accuracy is None:
            return "not measured"
        others = of_other_classes(self.classes, self.classes_low95, self.classes_high95)
        return with_interval(self.accuracy, self.ci95) + (f" ({others})" if others else "")


class Validation(Score):
    """The score on the validation episodes that chose the model: the best of so many looks at them."""

    setting: str
    looks: int | None = None


class DomainScore(Open):
    """The meta-learner's score on test queries of one domain, in one setting; shares of 1."""

    setting: str
    domain: str
    accuracy: float
    low95: float | None
    high95: float | None
    queries: int


class Rival(Open):
    """The best that does without meta-learning, on test episodes of a setting.

    Args:
        setting: that was asked.
        learner: its name, as in params.
        difference: the meta-learner's accuracy less its own, over the episodes that both answered.
        ci95: half width of the 95% interval of that; None where there is none.
        classes_ci95: of the one over classes, where these are few.
        episodes: that both answered.
    """

    setting: str
    learner: str
    difference: float
    ci95: float | None
    classes_ci95: float | None = None
    episodes: int


class Metrics(Strict):
    """How good it is.

    Args:
        task: of this very model; None where it could not be measured.
        estimate: cross-validated on the support set alone; None where a class has a single example.
        validation: of the meta-learner.
        evaluation: of the meta-learner on test episodes, by setting.
        domains: the same by domain.
        rival: the best that does without meta-learning; None where it is not known.
    """

    task: Accuracy | None
    estimate: Accuracy | None
    validation: Validation
    evaluation: dict[str, Score] = {}
    domains: list[DomainScore] = []
    rival: Rival | None = None


class Cost(Strict):
    """What a variant saves and what it costs; the accuracies are of the same episodes.

    Args:
        bytes: of the file.
        smaller: than model.onnx, by this factor.
        milliseconds: median for one example, one thread.
        milliseconds_of_model: model.onnx beside it in the same run.
        difference: of the mean accuracy, variant less model.onnx.
        ci95: half width of its 95% interval, paired by episode; None where there is none.
        episodes: that were asked.
    """

    bytes: int
    smaller: float
    milliseconds: float
    milliseconds_of_model: float
    difference: float
    ci95: float | None
    episodes: int
