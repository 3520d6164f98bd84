"""The estimator: scikit-learn's own checks, and what they cannot know about images."""

from __future__ import annotations

import copy
import pickle
import pickletools
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_array

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import Learner
from metaloom.methods import METHOD_CLASSES, Weighing
from metaloom.sklearn import FewShotClassifier

SIZE = 16
NO_IMAGES = "fits float features of any number; this estimator takes uint8 pixels of its learner's size and no others"
REFUSALS = "wants the message about another fault in its features, but that they are no uint8 pixels is found first"
EXPECTED = {
    "check_classifier_data_not_an_array": NO_IMAGES,
    "check_classifiers_classes": NO_IMAGES,
    "check_classifiers_one_label": NO_IMAGES,
    "check_classifiers_train": NO_IMAGES,
    "check_dict_unchanged": NO_IMAGES,
    "check_dont_overwrite_parameters": NO_IMAGES,
    "check_estimators_dtypes": NO_IMAGES,
    "check_estimators_fit_returns_self": NO_IMAGES,
    "check_estimators_overwrite_params": NO_IMAGES,
    "check_estimators_pickle": NO_IMAGES,
    "check_f_contiguous_array_estimator": NO_IMAGES,
    "check_fit2d_predict1d": NO_IMAGES,
    "check_fit_check_is_fitted": NO_IMAGES,
    "check_fit_idempotent": NO_IMAGES,
    "check_fit_score_takes_y": NO_IMAGES,
    "check_methods_sample_order_invariance": NO_IMAGES,
    "check_methods_subset_invariance": NO_IMAGES,
    "check_n_features_in": NO_IMAGES,
    "check_n_features_in_after_fitting": NO_IMAGES,
    "check_pipeline_consistency": NO_IMAGES,
    "check_positive_only_tag_during_fit": NO_IMAGES,
    "check_readonly_memmap_input": NO_IMAGES,
    "check_classifiers_one_label_sample_weights": NO_IMAGES,
    "check_sample_weight_equivalence_on_dense_data": NO_IMAGES,
    "check_sample_weights_list": NO_IMAGES,
    "check_sample_weights_not_an_array": NO_IMAGES,
    "check_sample_weights_not_overwritten": NO_IMAGES,
    "check_sample_weights_pandas_series": NO_IMAGES,
    "check_sample_weights_shape": NO_IMAGES,
    "check_supervised_y_2d": NO_IMAGES,
    "check_dtype_object": REFUSALS,
    "check_estimators_nan_inf": REFUSALS,
    "check_fit2d_1feature": REFUSALS,
    "check_fit2d_1sample": REFUSALS,
}
IN_FLOAT32 = {"check_sample_weight_equivalence_on_dense_data": "wants 7 digits; below, 5 are looked at"}


# of random patterns, some of which have light edges
pytestmark = pytest.mark.filterwarnings("ignore:the images look like the negative")


def learner_of(tiny, name: str = "protonet") -> Learner:
    """With batch norm: group norm takes an image's contrast away, which in scikit-learn's checks is a feature."""
    own = tiny.method(name).model_copy(update={"norm": "batch"})
    return Learner.create(
        name, tiny.model_copy(update={name: own, "seed": 1}), PictureEncoding(Pictures(SIZE, 1), (0.0,), (64.0,))
    )


def a_task(per_class: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Noisy patterns of three classes."""
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.integers(0, 2, (3, 1, 4, 4, 1)) * 255, np.ones((4, 4, 1)))
    images = (patterns + rng.integers(-60, 60, (3, per_class, SIZE, SIZE, 1))).clip(0, 255).astype(np.uint8)
    return images.reshape(-1, SIZE, SIZE, 1), np.repeat(["b", "a", "c"], per_class)


@pytest.fixture(scope="module")
def saved(tiny_settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner")
    learner_of(tiny_settings).save(folder)
    return folder


@pytest.fixture
def fitted(tiny_settings) -> FewShotClassifier:
    return FewShotClassifier(learner_of(tiny_settings)).fit(*a_task())


class OfFeatures(FewShotClassifier):
    """Draws features as bands of grey, so that scikit-learn's checks have something to fit."""

    def _examples(self, X, encoding, what):
        grey = (255 / (1 + np.exp(-check_array(X)))).astype(np.uint8)
        height = -(-SIZE * SIZE // grey.shape[1])
        return super()._examples(grey.repeat(height, axis=1)[:, : SIZE * SIZE], encoding, what)


@pytest.mark.slow
def test_scikit_learn_s_checks_on_features_drawn_as_images(saved):
    results = check_estimator(OfFeatures(str(saved)), expected_failed_checks=IN_FLOAT32, on_skip=None)
    assert {each["check_name"] for each in results if each["status"] != "passed"} <= {
        "check_array_api_input",
        *IN_FLOAT32,
    }
    assert len(results) > 50


def test_scikit_learn_s_checks_as_they_are(tiny_settings):
    results = check_estimator(
        FewShotClassifier(learner_of(tiny_settings)), expected_failed_checks=EXPECTED, on_skip=None
    )
    assert {each["check_name"] for each in results if each["status"] == "xfail"} == set(EXPECTED)


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_it_answers_as_the_learner_does(name, tiny_settings):
    learner = learner_of(tiny_settings, name)
    images, labels = a_task()
    expected = learner.adapt(images[::2], labels[::2])
    got = FewShotClassifier(learner).fit(images[::2], labels[::2])
    np.testing.assert_array_equal(got.predict_proba(images), expected.predict_proba(images))
    assert got.predict(images).tolist() == expected.predict(images)
    assert got.classes_.tolist() == expected.classes == ["a", "b", "c"]
    assert got.score(images, labels) == np.mean(got.predict(images) == labels)


def test_a_weight_is_how_often_an_example_stands_there(fitted, saved):
    (X, y), weights = a_task(), np.arange(18) % 4
    again = np.repeat(np.arange(18), weights)
    found = FewShotClassifier(saved).fit(X, y, sample_weight=weights).predict_proba(X)
    np.testing.assert_allclose(found, FewShotClassifier(saved).fit(X[again], y[again]).predict_proba(X), atol=1e-5)
    assert np.abs(found - fitted.predict_proba(X)).max() > 0.01
    ones = FewShotClassifier(saved).fit(X, y, sample_weight=np.ones(18)).predict_proba(X)
    np.testing.assert_allclose(ones, FewShotClassifier(saved).fit(X, y).predict_proba(X), atol=1e-5)
    less = FewShotClassifier(saved).fit(X, y, np.where(np.arange(18) % 6, 0.5, 2.0)).predict_proba(X)
    assert np.isfinite(less).all() and not np.allclose(less, ones, atol=1e-3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(17), "sample_weight.shape == "),
        (np.full(18, -1.0), "[Nn]egative"),
        (np.full(18, np.nan), "NaN"),
        (np.arange(18) >= 6, "all examples of a class have the weight 0: leave the class out, or weigh one"),
    ],
)
def test_weights_that_are_none(weights, message, saved):
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(saved).fit(*a_task(), sample_weight=weights)


@pytest.mark.parametrize("name", [name for name, method in METHOD_CLASSES.items() if not issubclass(method, Weighing)])
def test_methods_that_do_not_weigh_examples_say_so(name, tiny_settings):
    with pytest.raises(
        ValueError, match=f"^{name} does not weigh examples: leave the weights out, or take a learner of"
    ):
        FewShotClassifier(learner_of(tiny_settings, name)).fit(*a_task(), sample_weight=np.ones(18))


def test_rows_of_pixels_are_images(fitted, saved):
    images, labels = a_task()
    rows = pd.DataFrame(images.reshape(len(images), -1)).rename(columns="pixel {}".format)
    of_rows = FewShotClassifier(saved).fit(rows, labels)
    np.testing.assert_array_equal(of_rows.predict_proba(rows), fitted.predict_proba(images))
    assert of_rows.n_features_in_ == fitted.n_features_in_ == SIZE * SIZE
    assert of_rows.feature_names_in_[1] == "pixel 1"
    np.testing.assert_array_equal(fitted.predict_proba(torch.from_numpy(images)), fitted.predict_proba(images))


def test_negatives_of_the_training_pictures_are_said(saved):
    """The learner's were drawn on black."""
    drawn = np.zeros((4, SIZE, SIZE, 1), np.uint8)
    drawn[::2, 4:9, 5:8], drawn[1::2, 5:8, 4:9] = 255, 255
    with pytest.warns(UserWarning, match="the images look like the negative of those in training: give 255 - X"):
        FewShotClassifier(saved).fit(255 - drawn, ["a", "b"] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FewShotClassifier(saved).fit(drawn, ["a", "b"] * 2)


def test_pipeline_cross_validation_and_parameters(tiny_settings, saved):
    images, labels = a_task()
    inverted = make_pipeline(FunctionTransformer(np.invert), FewShotClassifier(learner_of(tiny_settings)))
    assert cross_val_score(inverted, images, labels, cv=3, error_score="raise").mean() > 0.8
    assert cross_val_score(FewShotClassifier(saved), images, labels, cv=3).mean() > 0.8
    learner = learner_of(tiny_settings)
    copied = clone(FewShotClassifier(learner))
    assert copied.get_params().keys() == {"learner"}
    for key, value in learner.params.weights.items():
        assert torch.equal(copied.learner.params.weights[key], value)
    assert copied.set_params(learner=saved).fit(images, labels).learner == saved


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_a_pickle_holds_files_and_answers_the_same(name, tiny_settings):
    images, labels = a_task()
    classifier = FewShotClassifier(learner_of(tiny_settings, name)).fit(images, labels)
    data = pickle.dumps(classifier)
    named = {argument for code, argument, _ in pickletools.genops(data) if code.name in ("SHORT_BINUNICODE", "GLOBAL")}
    assert not {each for each in named if each.startswith("torch") or each.startswith("metaloom.methods")}
    for again in (pickle.loads(data), copy.deepcopy(classifier)):
        np.testing.assert_allclose(again.predict_proba(images), classifier.predict_proba(images), rtol=1e-5)
        assert again.fit(images, labels).predict(images).tolist() == classifier.predict(images).tolist()


def test_before_fit(saved, tiny_settings):
    images, labels = a_task()
    with pytest.raises(NotFittedError):
        FewShotClassifier(saved).predict(images)
    unfitted = pickle.loads(pickle.dumps(FewShotClassifier(learner_of(tiny_settings))))
    assert unfitted.fit(images, labels).score(images, labels) > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x - 128.0, y), r"image 1 has pixels from -\d+ to \d+: give 0 to 255, or floats from 0 to 1"),
        (lambda x, y: (x[None], y), r"the images are an array \(1, 18, 16, 16, 1\): give \(image, height, width\)"),
        (lambda x, y: (x.reshape(18, -1)[:, 1:], y), r"an array \(18, 255\): .* rows of 256 pixels \(16 x 16 x 1\)"),
        (lambda x, y: (x.astype(str), y), "the images are <U"),
        (lambda x, y: (["absent.png", "b.png"], y[5:7]), "absent.png: there is no such file"),
        (lambda x, y: (x, y[:5]), "inconsistent numbers of samples"),
        (lambda x, y: (x[:6], y[:6]), "at least two classes"),
        (lambda x, y: (x, np.linspace(0, 1, 18)), "Unknown label type"),
        (lambda x, y: (x[:0], y[:0]), r"0 sample\(s\)"),
    ],
)
def test_fit_refuses_what_it_cannot_learn_from(change, message, saved):
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(saved).fit(*change(*a_task()))


def test_predict_refuses_other_images(fitted):
    images, _ = a_task()
    with pytest.raises(ValueError, match=r"the images are an array \(1, 18, 16, 16, 1\)"):
        fitted.predict(images[None])
    with pytest.raises(ValueError, match="X has 255 features, but FewShotClassifier is expecting 256"):
        fitted.predict(images.reshape(18, -1)[:, 1:])


def test_pictures_in_any_form_are_the_same_task(fitted, saved, tmp_path):
    images, labels = a_task()
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    expected = fitted.predict_proba(images)
    pictures = [Image.open(path) for path in paths]
    for given in (paths, pd.Series(paths), [str(each) for each in paths], pictures, images[..., 0], images / 255):
        np.testing.assert_array_equal(FewShotClassifier(saved).fit(given, labels).predict_proba(given), expected)
    assert FewShotClassifier(saved).fit(paths, labels).n_features_in_ == SIZE * SIZE


def test_negatives_are_read_once_whatever_form_they_come_in(tiny_settings):
    images, labels = a_task()
    learner = learner_of(tiny_settings)
    expected = FewShotClassifier(learner).fit(images, labels).predict_proba(images)
    negative = learner.reading(learner.encoding.inverted())
    for given in (255 - images, list(255 - images), (255 - images).reshape(len(images), -1)):
        np.testing.assert_array_equal(FewShotClassifier(negative).fit(given, labels).predict_proba(given), expected)


def test_a_learner_that_is_none(saved, tmp_path):
    with pytest.raises(TypeError, match="learner is a int"):
        FewShotClassifier(3).fit(*a_task())
    with pytest.raises(MetaloomError, match="learner.json not found"):
        FewShotClassifier(tmp_path).fit(*a_task())
    shutil.copytree(saved, tmp_path / "cut")
    (tmp_path / "cut/model.safetensors").write_bytes(b"cut")
    with pytest.raises(MetaloomError, match="cannot be read"):
        FewShotClassifier(tmp_path / "cut").fit(*a_task())
