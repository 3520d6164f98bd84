"""The kind `text`: tables of texts, TF-IDF of their n-grams, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import torch
from texts import THINGS, draw_texts, drawn_texts, write_texts

from metaloom.data.packed import Dataset
from metaloom.data.quality import judge
from metaloom.data.scan import scan
from metaloom.data.sources import list_sources
from metaloom.data.support import read_support
from metaloom.errors import MetaloomError
from metaloom.kinds import Row, kind_from
from metaloom.kinds.text.encode import TextEncoding
from metaloom.kinds.text.grams import ALPHABET, frequent, hashed
from metaloom.kinds.text.kind import Text
from metaloom.networks import build_network
from metaloom.stages import prepare

ODD = [
    "",
    "  ",
    "Über ÉCLAIR",
    "one\ttwo\r\nthree",
    "🙂 ok 🙂🙂",
    "e\u0301 é",
    "日本語のテキスト",
    "A-B c_d 12.5%",
    "x",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    """A project folder whose params say text."""
    params = (repo / "params.yaml").read_text().replace("kind: pictures ", "kind: text ")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    draw_texts(tmp_path / "data", domains=3)
    return tmp_path


def packed(texts: list[str], kind: Text | None = None) -> np.ndarray:
    kind = kind or Text(characters=64)
    return np.stack([kind.pack(np.array(text)) for text in texts])


def refusal(content: bytes, kind: Text | None = None) -> str:
    with pytest.raises(MetaloomError) as error:
        (kind or Text()).table(content)
    return str(error.value)


def test_all_forms_of_tables_are_packed_alike(here):
    pd.DataFrame(drawn_texts("port", 3), columns=["Utterance", "Intent"]).to_parquet(here / "data/port.parquet")
    prepare.main("data", "artifacts/dataset")
    made = Dataset.load("artifacts/dataset")
    assert made.kind == Text(characters=128) and made.examples.dtype == np.int32 and made.examples.shape[1] == 128
    assert set(made.items["domain"]) == {"clinic", "farm", "home", "port"}
    for domain, end, shots in (
        ("clinic", ".csv", 8),
        ("farm", ".tsv", 8),
        ("home", ".jsonl", 8),
        ("port", ".parquet", 3),
    ):
        for number, (text, label) in enumerate(drawn_texts(domain, shots), start=1):
            item = made.items[made.items["source"] == f"{domain}{end}#{number}"].iloc[0]
            assert item["class"] == f"{domain}/{label}"
            np.testing.assert_array_equal(made.examples[item["row"]], Text(characters=128).pack(np.array(text)))


def test_columns_are_found_by_usual_names_or_those_of_the_settings():
    rows = Text().table("\ufeffdomain,Query,Intent\nbank, pay   my\tbill ,bill\nbank,NA,none\n".encode()).rows
    assert [(row.domain, row.label, row.content) for row in rows] == [
        ("bank", "bill", b"pay my bill"),
        ("bank", "none", b"NA"),
    ]
    named = Text(text="body", label="topic", domain="team")
    ((domain, label, content),) = named.table(b'{"body": "hi \\u00e9", "topic": "greet", "team": "a", "id": 3}\n').rows
    assert (domain, label, content.decode()) == ("a", "greet", "hi é")
    assert Text().table(b"text\nhello\n").rows[0].label is None  # texts to classify have none
    assert Text().table(b"text;label\nhello, you;a\n").rows == [Row(None, "a", b"hello, you")]


def test_tables_that_do_not_fit_are_refused_in_a_line():
    assert refusal(b"a,b\n1,2\n") == "has no column of texts, only a, b: call it `text`, or name it in text.text"
    assert refusal(b"text,x\nhi,2\n", Text(text="body")) == "has no column body, only text, x: change text.text"
    assert refusal(b"text,x\nhi,2\n", Text(domain="team")).startswith("has no column team")
    assert refusal("text\nüber\n".encode("latin-1")) == "is no UTF-8 (byte 5): save it in this encoding"
    lines = b'{"text": "a", "label": "b"}\n\n{"text": "a", \n'
    assert refusal(lines) == "has no JSON object in line 3: fix or remove it"
    assert "Expected 2 fields in line 3, saw 3" in refusal(b"text,label\na,b\na,b,c\n")
    assert refusal(b'[{"text": "a", "label": "b"}]').startswith(
        "is one list of JSON objects: write each object in a line"
    )
    assert refusal(b'{"text": {"en": "hi"}, "label": "b"}').startswith("has lists or objects in its column text: write")
    assert refusal(b'text,label\n"never closed,a\n').startswith(
        "is no CSV, TSV, JSON lines or Parquet table (Error tok"
    )
    unlike = "text,label\n" + "".join(f"text {row},id{row}\n" for row in range(1000))
    assert refusal(unlike.encode()).startswith("has 1,000 values in 1,000 rows of its column label, so these are no")


def test_texts_that_say_nothing_are_left_out_with_the_reason(here):
    rows = [*drawn_texts("home"), ("", "door"), ("a\0b", "door"), ("x" * 1200, "door")]
    (here / "one").mkdir()
    write_texts(here / "one/home.jsonl", rows)
    report = judge(scan(list_sources(here / "one", Text())), 2).report
    assert report["problems"]["unreadable"] == [
        {"source": "home.jsonl#49", "reason": "is empty: write a text, or remove the row"},
        {"source": "home.jsonl#50", "reason": "has a NUL character: remove it"},
    ]
    assert report["notes"] == ["1 text of more than 1,000 characters: the rest is not read (text.length)"]
    write_texts(here / "one/home.jsonl", rows[:5])
    (here / "one/shop.csv").write_text("text,price\napple,3\n")
    with pytest.raises(MetaloomError, match=r"shop.csv, row 1, has no class: name it in a column `class`"):
        list_sources(here / "one", Text())


def test_a_text_of_a_megabyte_is_read_as_far_as_it_counts(here):
    rows = [*drawn_texts("home"), ("word " * 210_000, "door")]
    write_texts(here / "data/home.csv", rows)
    (here / "data/home.jsonl").unlink()
    prepare.main("data", "artifacts/dataset")
    made = Dataset.load("artifacts/dataset")
    assert made.examples.shape[1] == 1000 and made.quality["notes"][0].startswith(
        "1 text of more than 1,000 characters"
    )


def test_the_encoding_is_scikit_learn_s_tf_idf():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text for domain in THINGS for text, _ in drawn_texts(domain)] + ODD[2:]
    encoding = TextEncoding.of(packed(texts), Text(characters=64, features=400))
    assert len(encoding.grams) == 400 and not any(" " in gram[1:-1] or not gram.strip() for gram in encoding.grams)
    capitals = str.maketrans(
        {chr(point): chr(point + 32) for point in range(65, 91)} | {mark: " " for mark in "\t\r\n"}
    )
    plain = [f" {text.translate(capitals)} " for text in texts]
    expected = TfidfVectorizer(
        analyzer="char", ngram_range=(2, 4), lowercase=False, vocabulary=list(encoding.grams)
    ).fit(plain)
    found = encoding(torch.from_numpy(packed(texts))).numpy()
    np.testing.assert_allclose(found, 20 * expected.transform(plain).toarray(), atol=1e-5)
    assert not encoding(torch.from_numpy(packed(["", "  "]))).any()


def test_the_n_grams_are_those_of_the_most_texts():
    grams, texts = frequent(packed(["ab ab", "ab", "b"]), 5)
    assert dict(zip(grams, texts, strict=True)) == {"b ": 3, " a": 2, " ab": 2, " ab ": 2, "ab": 2}
    with pytest.raises(MetaloomError, match="the training texts have no letters"):
        TextEncoding.of(packed([" "]), Text(characters=64))
    assert (ALPHABET + 1) ** 4 < 2**63


def test_an_encoding_comes_back_from_its_plain_values():
    encoding = TextEncoding.of(packed(["how are you", "who is he"]), Text(characters=64))
    saved = json.loads(json.dumps(encoding.saved()))
    assert kind_from(saved).encoding(saved) == encoding
    assert (encoding.packed, encoding.raw, encoding.raw_type) == ((64,), ("batch",), "str_")
    assert encoding.unpacked(packed(["How\tare é🙂"])).tolist() == ["how are é🙂"]
    np.testing.assert_array_equal(encoding.taken(["Hi", "you"]), packed(["hi", "you"]))
    rows = packed(["hi"])
    assert encoding.taken(rows) is rows


def test_networks_for_pictures_refuse_texts(settings):
    with pytest.raises(MetaloomError, match=r"takes? examples of shape \(9,\): set network.name to mlp, .*linear"):
        build_network(settings.network, "group", (9,))


def test_nearest_mean_of_a_fresh_linear_network_is_that_of_its_inputs(settings):
    network = build_network(settings.network.model_copy(update={"name": "linear"}), "batch", (3, 2))
    weights, x = network.init(torch.Generator()), torch.randn(2, 5, 3, 2)
    z, used = network(weights, x)
    torch.testing.assert_close(z, x.flatten(2) / 2)
    of_tasks = {"scale": torch.stack([weights["scale"], 2 * weights["scale"]])}
    torch.testing.assert_close(network(of_tasks, x)[0], torch.stack([z[0], 2 * z[1]]))
    assert used == {} and network.embed == 6


def test_a_text_is_shown_as_a_quotation():
    shown = Text().shown(packed(["Is <b> a & tag?", "word " * 60], Text(characters=400)))
    assert (
        "is &lt;b&gt;</tspan>" in unquote(shown.uri(0)) and "word</tspan>" in unquote(shown.uri(1)) and len(shown) == 2
    )
    assert 'font-size="20.0"' in unquote(shown.uri(0)) and 'font-size="9.5"' in unquote(shown.uri(1))
    assert "…" in unquote(shown.uri(1)) and "…" not in unquote(shown.uri(0))
    wide = unquote(Text().shown(packed(["日本語のテキスト" * 2])).uri(0))  # letters as wide as they are high
    assert 'font-size="17.0"' in wide and ">日本語のテ<" in wide
    with pytest.raises(IndexError):
        shown.uri(2)


def test_a_support_set_keeps_the_length_of_training(tmp_path):
    path = write_texts(tmp_path / "mine.csv", [("x" * 300, "a"), ("yes", "b")])
    support = read_support(path, Text(characters=128), (128,))
    assert support.examples.shape == (2, 128) and support.labels == ["a", "b"]


def test_features_without_training_tell_texts_apart():
    found = hashed(torch.from_numpy(packed(["open the door", "open a door", "sell apples"])))
    alike = found @ found.T
    assert alike[0, 1] > alike[0, 2] and not torch.isnan(hashed(torch.from_numpy(packed([""])))).any()
