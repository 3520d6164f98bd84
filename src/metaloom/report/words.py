"""Numbers and names as the page writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup

from metaloom.config import DOMAIN_SUFFIX, Setting
from metaloom.system import quantities
from metaloom.system.quantities import UNKNOWN, Number, known

SPACE = "\N{NO-BREAK SPACE}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"

LEARNERS = {
    "protonet": ("ProtoNet", "meta-learned embedding, nearest class mean"),
    "ridge": ("Ridge", "meta-learned embedding, ridge regression on it"),
    "maml": ("MAML", "meta-learned start, a few gradient steps"),
    "anil": ("ANIL", "meta-learned embedding, a few gradient steps of the head"),
    "reptile": ("Reptile", "meta-learned start near the solutions of all tasks, a few gradient steps"),
    "shared": ("Shared", "embedding of a classifier of all training classes, a new head"),
    "bank": ("Bank", "a network for each window of similar domains, chosen by the support set"),
    "scratch": ("From scratch", "the same network, trained on the support set alone"),
    "logistic": ("Logistic regression", "on the raw input"),
    "neighbour": ("Nearest neighbour", "on the raw input"),
    "svm": ("Linear SVM", "on the raw input"),
    "forest": ("Random forest", "on the raw input"),
    "finetune_head": ("New head", "on a network pre-trained by classification"),
    "finetune_all": ("Fine-tuned", "all layers of a network pre-trained by classification"),
    "logistic_embedded": ("Logistic, embedded", "logistic regression on the champion's embeddings"),
    "neighbour_embedded": ("Neighbour, embedded", "nearest neighbour on the champion's embeddings"),
    "svm_embedded": ("SVM, embedded", "linear SVM on the champion's embeddings"),
    "forest_embedded": ("Forest, embedded", "random forest on the champion's embeddings"),
}
GROUPS = {  # what a learner is, and what it learns from
    "meta": ("Meta-learners", "trained on tasks of the training classes"),
    "task": ("Single-task learners", "only the task's labelled examples"),
    "transfer": ("Transfer learning", "pre-trained by ordinary classification of the training classes"),
    "embedding": ("Other heads", "scikit-learn on the champion's frozen embeddings"),
}


@dataclass(frozen=True)
class SettingWords:
    """How a setting is called: "5-way 1-shot", of any classes or within one domain."""

    name: str
    n_way: int
    n_shot: int
    within_domain: bool

    @property
    def title(self) -> str:
        return f"{self.n_way}-way {self.n_shot}-shot"

    @property
    def scope(self) -> str:
        return "within one domain" if self.within_domain else "any classes"

    @property
    def full(self) -> str:
        return f"{self.title}, {self.scope}" if self.within_domain else self.title

    @property
    def chance(self) -> float:
        return 1 / self.n_way


def setting_words(name: str) -> SettingWords:
    """`5w1s_domain` → its ways, shots and scope."""
    setting = Setting.parse(name.removesuffix(DOMAIN_SUFFIX))
    return SettingWords(name, setting.n_way, setting.n_shot, name.endswith(DOMAIN_SUFFIX))


def learner_title(name: str) -> str:
    """What the page calls a learner."""
    return LEARNERS.get(name, (name, ""))[0]


def learner_hint(name: str) -> str:
    """What a learner does, in a few words; empty where its name says it."""
    return LEARNERS.get(name, (name, ""))[1]


def with_interval(share: Number | None, ci95: Number | None) -> str:
    """As in `quantities`, with spaces that do not break."""
    return quantities.with_interval(share, ci95).replace(" ", SPACE)


def three_decimals(value: Number | None) -> str:
    """0.06512 → "0.065"."""
    return f"{value:.3f}" if value is not None and known(value) else UNKNOWN


def points(difference: Number | None, ci95: Number | None) -> str:
    """As in `quantities`, with spaces that do not break."""
    return quantities.points(difference, ci95).replace(" ", SPACE)


def unbroken(text: str) -> str:
    """A sentence whose ± stay with their numbers."""
    return text.replace(f" {PLUS_MINUS} ", f"{SPACE}{PLUS_MINUS} ").replace(f"{PLUS_MINUS} ", f"{PLUS_MINUS}{SPACE}")


def marked(text: str) -> Markup:
    """`what is between backquotes` as code, all else as it is."""
    parts = (Markup("<code>{}</code>") if place % 2 else Markup("{}") for place in range(text.count("`") + 1))
    return Markup("").join(part.format(each) for part, each in zip(parts, text.split("`"), strict=True))


def chances(p: Number | None) -> str:
    """A p-value as it is read: "p < 0.001"."""
    if p is None or not known(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def milliseconds(value: Number | None) -> str:
    """3.14159 → "3.1 ms"."""
    if value is None or not known(value):
        return UNKNOWN
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def named(text: str) -> Markup:
    """A name that may go on in a new line after its own marks, so that no word is cut."""
    return Markup("<wbr>").join(re.findall(r"[^_/.:-]*[_/.:-]?", text)[:-1])


def class_title(class_name: str) -> str:
    """The last two parts of a class's name: its domain's own name and the class."""
    return "/".join(class_name.split("/")[-2:])
