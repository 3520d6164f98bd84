"""Where classes lie in a learner's embedding: a map of them, and how near those of the test are to those of
training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances
from threadpoolctl import threadpool_limits
from torch import Tensor

from metaloom.learner import Learner

MOST = 20  # examples of a class that are embedded
AXES = 30  # principal ones that the map is made of
FEW = 5  # classes: fewer are shown along their two principal axes
STEPS = 500  # of t-SNE, which starts at the principal axes: twice as many move hardly anything


@dataclass(frozen=True)
class Space:
    """Where classes lie.

    Args:
        classes: class, domain, split, row (of its most typical example: the nearest to the class's mean).
        prototypes: mean embedding of each class.
    """

    classes: pd.DataFrame
    prototypes: Float[np.ndarray, "class embed"]

    def of_split(self, split: str) -> tuple[pd.DataFrame, Float[np.ndarray, "class embed"]]:
        """Classes of one split and their prototypes."""
        chosen = (self.classes["split"] == split).to_numpy()
        return self.classes[chosen].reset_index(drop=True), self.prototypes[chosen]


def embed_classes(
    learner: Learner, examples: Shaped[Tensor, "item ..."], classes: pd.DataFrame, most: int = MOST
) -> Space:
    """Every class of the class table, from at most so many of its examples, evenly spread.

    Args:
        learner: whose shared network embeds.
        examples: the whole data set, raw.
        classes: class, domain, split, first, count.
        most: examples of a class.
    """
    rows = [
        first + np.linspace(0, count - 1, min(most, count)).astype(int)
        for first, count in classes[["first", "count"]].itertuples(index=False)
    ]
    z = learner.embed(examples, np.concatenate(rows)).cpu().numpy()
    parts = np.split(z, np.cumsum([len(own) for own in rows])[:-1])
    prototypes = np.stack([part.mean(axis=0) for part in parts])
    typical = [
        int(own[np.linalg.norm(part - prototype, axis=1).argmin()])
        for own, part, prototype in zip(rows, parts, prototypes, strict=True)
    ]
    return Space(classes[["class", "domain", "split"]].assign(row=typical).reset_index(drop=True), prototypes)


def nearness(space: Space) -> pd.DataFrame:
    """The nearest training class of every test class: class, domain, row, nearest, nearest_domain, nearest_row,
    distance, relative (distance over the median distance of a training class to its nearest other one)."""
    test, z = space.of_split("test")
    training, z_training = space.of_split("train")
    between = pairwise_distances(z_training)
    np.fill_diagonal(between, np.inf)
    unit = np.median(between.min(axis=1)) if len(training) > 1 else np.nan
    far = pairwise_distances(z, z_training)
    place = far.argmin(axis=1)
    nearest = training.iloc[place].reset_index(drop=True)
    distance = far[np.arange(len(test)), place]
    return test[["class", "domain", "row"]].assign(
        nearest=nearest["class"],
        nearest_domain=nearest["domain"],
        nearest_row=nearest["row"],
        distance=distance,
        relative=distance / unit,
    )


def class_map(space: Space, seed: int, most: int = 600) -> pd.DataFrame:
    """class, domain, split, row, x, y (0 to 1): all test classes and as many training classes as there is room for,
    near each other where their prototypes are (t-SNE: van der Maaten, Hinton, 2008)."""
    of_test, of_training = (np.flatnonzero(space.classes["split"] == split) for split in ("test", "train"))
    chosen = np.concatenate([_spread(of_test, most), _spread(of_training, most - min(most, len(of_test)))])
    z = space.prototypes[chosen].astype(np.float64)
    z = PCA(min(AXES, *z.shape), random_state=seed).fit_transform(z)
    if len(z) >= FEW:
        perplexity = min(30.0, (len(z) - 1) / 3)
        with threadpool_limits(1):  # its threads wait for each other a thousand times: far longer beside other work
            z = TSNE(init="pca", max_iter=STEPS, perplexity=perplexity, random_state=seed).fit_transform(z)
    places = np.zeros((len(z), 2))
    places[:, : z.shape[1]] = z[:, :2]
    low, high = places.min(axis=0), places.max(axis=0)
    x, y = ((places - low) / np.where(high > low, high - low, 1)).T
    return space.classes.iloc[chosen].reset_index(drop=True).assign(x=x, y=y)


def _spread(places: np.ndarray, most: int) -> np.ndarray:
    return places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)] if len(places) else places
