"""The kind `vectors`: rows of numbers, from tables to a trained and measured learner."""

from __future__ import annotations

import tarfile
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import torch
from tables import FEATURES, draw_tables

from metaloom.config import load_settings
from metaloom.data import archives
from metaloom.data.add import inspect_addition
from metaloom.data.files import read_examples
from metaloom.data.packed import Dataset
from metaloom.data.scan import scan
from metaloom.data.sources import list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import KINDS, Row, Table, kind_from, kind_of
from metaloom.kinds.vectors.encode import VectorEncoding, jittered
from metaloom.kinds.vectors.kind import Vectors
from metaloom.networks import build_network
from metaloom.stages import prepare, train
from metaloom.tasks import class_table


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    """A project folder whose params say vectors."""
    params = (repo / "params.yaml").read_text().replace("kind: pictures ", "kind: vectors ")
    (tmp_path / "params.yaml").write_text(params.replace("min_examples: auto", "min_examples: 4"))
    monkeypatch.chdir(tmp_path)
    draw_tables(tmp_path / "data", domains=3)
    return tmp_path


def test_rows_of_csv_and_parquet_are_packed_alike(here):
    prepare.main("data", "artifacts/dataset")
    packed = Dataset.load("artifacts/dataset")
    assert packed.kind == Vectors(columns=tuple("abcdef")) and (here / "artifacts/dataset/examples.npy").is_file()
    assert packed.examples.dtype == np.float32 and packed.examples.shape == (3 * 4 * 8, FEATURES)
    row = packed.items[packed.items["source"] == "line1.csv#3"].iloc[0]
    table = pd.read_csv(here / "data/line1.csv")
    np.testing.assert_array_equal(packed.examples[row["row"]], table.drop(columns="class").to_numpy(np.float32)[2])
    assert (row["domain"], row["class"]) == ("line1", f"line1/{table['class'][2]}")
    assert (packed.items["domain"] == "line0").sum() == 32  # the Parquet file


def test_a_domain_column_wins_over_the_file_s_name(here):
    table = pd.read_csv(here / "data/line1.csv").assign(domain="press")
    table.to_csv(here / "data/line1.csv", index=False)
    prepare.main("data", "artifacts/dataset")
    assert set(Dataset.load("artifacts/dataset").items["domain"]) == {"line0", "press", "line2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c,d,e,f\n1,2,3,4,5,6\n", "line9.csv, row 1, has no class: name it in a column `class`"),
        ("class,a\nx,red\n", "line9.csv has columns that are no numbers: a; leave them out"),
        (
            "class,a,b,c,d,e,f\nx,1,2,3,4,5,6\n,2,2,3,4,5,6\n",
            "line9.csv, row 2, has no class: name it in a column `class`",
        ),
        ("class,a,b,c,d,e,f\n ,1,2,3,4,5,6\n", "line9.csv, row 1, has no class: name it in a column `class`"),
        ("class\nx\n", "line9.csv has no column of numbers: add one, or remove it"),
        (",class,a\n0,x,1\n", r"line9.csv has a column without a name \(.*to_csv\(index=False\)\): leave it out"),
        ("class,a, \nx,1,2\n", "line9.csv has a column without a name"),
        ("class,a\n0,x,1\n", "line9.csv has a column without a name"),
        ("", r"line9.csv is no CSV or Parquet table \(No columns .*\): fix or remove it"),
        ("PAR1 but no more", "line9.csv is no CSV or Parquet table"),
    ],
)
def test_tables_that_cannot_be_read_are_named(here, content, message):
    (here / "data/line9.csv").write_text(content)
    with pytest.raises(MetaloomError, match=message):
        prepare.main("data", "artifacts/dataset")
    assert not (here / "artifacts/dataset").exists()


def test_an_empty_domain_is_the_file_s_own_and_names_are_texts(here):
    table = pd.read_csv(here / "data/line1.csv").replace({"class": {"c0": "NA", "c1": "None", "c2": "007"}})
    domains = ["press" if number % 2 else "" for number in range(len(table))]
    table.assign(domain=domains).to_csv(here / "data/line1.csv", index=False)
    prepare.main("data", "artifacts/dataset")
    items = Dataset.load("artifacts/dataset").items
    own = items[items["source"].str.startswith("line1.csv#")]
    assert set(own["class"]) == {
        f"{domain}/{name}" for domain in ("line1", "press") for name in ("NA", "None", "007", "c3")
    }


def test_missing_names_in_parquet_are_missing(here):
    table = pd.DataFrame({"class": ["NA", None], "domain": [None, "press"], "a": [1.0, 2.0]})
    table.to_parquet(here / "line.parquet")
    rows = Vectors().table((here / "line.parquet").read_bytes()).rows
    assert [(row.domain, row.label) for row in rows] == [(None, "NA"), ("press", None)]
    (here / "line.csv").write_text("class,domain,a\nx,,1\nx,press,2\n")
    assert [example.label for example in read_examples(here / "line.csv", Vectors())] == ["line/x", "press/x"]


def test_rows_that_do_not_fit_are_left_out_with_the_reason(here):
    table = pd.read_csv(here / "data/line1.csv")
    table.iloc[0, 1] = np.nan
    table = pd.concat([table, table.iloc[[5]]])  # a row that is there already
    table.to_csv(here / "data/line1.csv", index=False)
    prepare.main("data", "artifacts/dataset")
    problems = Dataset.load("artifacts/dataset").quality["problems"]
    reasons = {each["source"]: each["reason"] for each in problems["unreadable"]}
    assert reasons["line1.csv#1"] == "has a number that is missing or infinite"
    assert problems["duplicate"] == [{"source": "line1.csv#33", "of": "line1.csv#6"}]


def test_only_tables_and_archives_may_be_added(here, settings):
    (here / "notes.txt").touch()
    with pytest.raises(
        MetaloomError, match=r"none of these files: \.zip, .*, \.csv, \.tsv, \.parquet, \.arrow, \.npz, \.npy$"
    ):
        inspect_addition(here / "notes.txt", here / "data", None, Vectors(), settings.prepare, overwrite=False)


def test_a_table_that_is_too_large_is_to_be_split(here, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**10)
    with pytest.raises(MetaloomError, match="MiB: split it into several files, each with a column `domain`"):
        prepare.main("data", "artifacts/dataset")


class Ragged(Vectors):
    """Every second row is longer by one."""

    def table(self, content):
        rows = super().table(content).rows
        return Table(
            self, [row._replace(content=row.content + b"\0" * (number % 2 * 4)) for number, row in enumerate(rows)]
        )


def test_rows_of_another_length_are_found_without_packing_too(here, tmp_path):
    listing = list_sources(here / "data/line1.csv", Ragged())
    reasons = scan(listing).reasons
    assert reasons[:2] == ["", f"has {FEATURES + 1} numbers where the first example has {FEATURES}"]
    assert reasons == scan(listing, tmp_path / "packed.npy").reasons


def test_an_archive_of_tables_is_unpacked_once_to_list_it_and_once_to_read_it(here, monkeypatch):
    prepare.main("data", "artifacts/dataset")
    loose = Dataset.load("artifacts/dataset")
    (here / "packed").mkdir()
    with tarfile.open(here / "packed/all.tar.gz", "w:gz") as archive:
        for table in sorted((here / "data").iterdir()):
            archive.add(table, table.name)
    passes = []
    read = archives.read_archive
    monkeypatch.setattr(archives, "read_archive", lambda path, wanted: passes.append(wanted) or read(path, wanted))
    prepare.main("packed", "artifacts/dataset")
    packed = Dataset.load("artifacts/dataset")
    assert passes == [{"line0.parquet", "line1.csv", "line2.parquet"}] * 2
    np.testing.assert_array_equal(packed.examples, loose.examples)
    assert set(packed.items["domain"]) == {"all/line0", "all/line1", "all/line2"}
    assert packed.items["source"][0] == "all.tar.gz!line0.parquet#1"


def test_columns_go_by_their_names(here):
    prepare.main("data", "artifacts/dataset")
    first = Dataset.load("artifacts/dataset")
    table = pd.read_csv(here / "data/line1.csv")
    table[["f", "class", "b", "a", "e", "d", "c"]].to_csv(here / "data/line1.csv", index=False)
    prepare.main("data", "artifacts/dataset")
    again = Dataset.load("artifacts/dataset")
    np.testing.assert_array_equal(again.examples, first.examples)
    assert again.kind == Vectors(columns=tuple("abcdef"))


def test_a_learner_has_the_kind_of_its_data(here):
    params = here / "params.yaml"
    params.write_text(params.read_text().replace("scaling: standard", "scaling: none"))
    prepare.main("data", "artifacts/dataset")
    packed, settings = Dataset.load("artifacts/dataset"), load_settings()
    network = settings.network.model_copy(update={"name": "mlp", "width": 8})
    settings = settings.model_copy(update={"network": network})
    learner = train._fresh_learner("protonet", settings, packed, class_table(packed.items), torch.device("cpu"))
    assert learner.config["input"]["columns"] == list("abcdef") and learner.config["input"]["scaling"] == "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": "length"}, "b is missing, length is new; give it the same names"),
        ({name: name * 2 for name in "abcdef"}, "a is missing, .* d is missing and 8 more; give it the same names"),
    ],
)
def test_columns_of_other_names_are_refused(here, change, message):
    pd.read_csv(here / "data/line1.csv").rename(columns=change).to_csv(here / "data/line1.csv", index=False)
    with pytest.raises(MetaloomError, match=f"line1.csv has other columns than .*: {message}"):
        prepare.main("data", "artifacts/dataset")


def test_a_kind_of_a_model_without_names_takes_columns_by_their_places():
    kind = kind_from({"kind": "vectors", "scaling": "standard"})
    assert isinstance(kind, Vectors) and kind.columns == ()
    ((_, _, content),) = kind.table(b"z,a\n1,2\n").rows
    assert kind.decode(content).tolist() == [1, 2]
    named = kind_from({"kind": "vectors", "scaling": "standard", "columns": ["a", "z"]})  # as JSON has them
    assert isinstance(named, Vectors)
    ((_, _, content),) = named.table(b"z,a\n1,2\n").rows
    assert named.decode(content).tolist() == [2, 1]


def test_scaling_is_scikit_learn_s_standard_scaler():
    from sklearn.preprocessing import StandardScaler

    rows = np.random.default_rng(0).normal([1, 100, -5], [1, 30, 0.01], (50, 3)).astype(np.float32)
    rows[:, 2] = 7.0  # a feature that never changes
    encoding = Vectors().fitted(rows)
    expected = StandardScaler().fit_transform(rows.astype(np.float64))
    np.testing.assert_allclose(encoding(torch.from_numpy(rows)).numpy(), expected, atol=1e-4)
    plain = Vectors("none").fitted(rows)
    np.testing.assert_array_equal(plain(torch.from_numpy(rows)).numpy(), rows)


def test_an_encoding_comes_back_from_its_plain_values():
    encoding = Vectors("none").fitted(np.ones((3, 4), np.float32))
    saved = encoding.saved()
    assert kind_from(saved).encoding(saved) == encoding
    assert encoding.shape == encoding.packed == (4,) and encoding.raw == ("batch", 4)
    with pytest.raises(MetaloomError, match="no kind of examples 'sounds': this metaloom knows pictures, vectors"):
        kind_from({"kind": "sounds"})
    with pytest.raises(MetaloomError, match="^a.json: what it says of pictures lacks channels, image_size: ask again$"):
        kind_from({"kind": "pictures", "fit": "pad"}, "a.json", "ask again")
    with pytest.raises(MetaloomError, match="rows have no negative: leave out --invert"):
        encoding.inverted()


def test_jitter_of_strength_zero_changes_nothing_and_of_one_stays_in_its_bounds():
    x, chances = torch.randn(20, 5), torch.rand(20, 2)
    torch.testing.assert_close(jittered(x, chances, 0.0), x)
    moved = jittered(x, torch.tensor([1.0, 0.5]).expand(20, 2), 1.0)
    torch.testing.assert_close(moved, 1.5 * x)


def test_networks_that_take_pictures_alone_refuse_vectors(settings):
    with pytest.raises(MetaloomError, match=r"network.name is conv4, .* of shape \(7,\): set network.name to mlp"):
        build_network(settings.network, "group", (7,))


def test_every_kind_has_its_section_and_a_row_of_words(settings):
    for name, kind in KINDS.items():
        own = kind_of(settings.model_copy(update={"kind": name}))
        assert isinstance(own, kind) and own.name == name and own.described()["kind"] == name
        settled = own.settled(0, 0)
        assert kind_from(settled.described()) == settled
        assert own.one and own.many and own.layout and own.formats


def test_a_row_is_shown_as_a_line():
    rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    shown = Vectors().shown(rows)
    uri = unquote(shown.uri(3))
    assert uri.startswith("data:image/svg+xml,<svg") and uri.count(",") == 6  # the type's comma and five points
    assert len(shown) == 30
    with pytest.raises(IndexError):
        shown.uri(30)
    assert "<circle" in unquote(Vectors().shown(rows[:, :1]).uri(0))


def test_golden_rows_have_a_single_one_and_one_far_away():
    encoding = VectorEncoding(Vectors(), (1.0, 2.0), (1.0, 0.5))
    golden = encoding.golden(np.ones((20, 2), np.float32))
    assert {name: len(rows) for name, rows in golden.items()} == {"examples": 8, "single": 1, "far": 1}
    np.testing.assert_array_equal(golden["far"], [[11.0, 7.0]])


def test_numbers_are_written_as_short_as_they_are_read():
    text = "class,length,width\nbolt,-1.7343,0.1\nnut,3.0,1e-20\n"
    kind = Vectors().table(text.encode()).kind
    written = kind.written(kind.table(text.encode()).rows)
    assert written.split() == text.split()
    drawn = np.random.default_rng(0).standard_normal((2000, 2)).astype(np.float32)
    rows = [Row(None, "bolt", own.tobytes()) for own in drawn]
    again = kind.table(kind.written(rows).encode()).rows
    assert [row.content for row in again] == [row.content for row in rows]
