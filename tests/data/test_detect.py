"""What a folder, archive or file holds: the kind of example, the columns, and what params.yaml has to say of it."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from tables import draw_tables
from texts import drawn_texts, write_texts

from metaloom.config import Settings, load_settings
from metaloom.config.editing import write_params
from metaloom.data.detect import changes, detect, refuse_changes
from metaloom.data.sources import Listing, list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind
from metaloom.kinds.text.kind import Text
from metaloom.kinds.vectors.kind import Vectors


def rows(columns: list[str], lines: list[list[str]]) -> str:
    return "\n".join(",".join(map(str, line)) for line in [columns, *lines])


def found(path: Path, settings: Settings, **given: str) -> tuple[Kind, dict[str, str]]:
    detected = detect(path, settings, given)
    assert detected is not None
    return detected.kind, detected.columns


def arrow(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A table as `datasets.Dataset.save_to_disk` writes it: a stream whose classes are numbers with names beside."""
    names = sorted({label for _, label in rows})
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("text", pa.string()), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = [[text for text, _ in rows], [names.index(label) for _, label in rows]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))
    (path.parent / "dataset_info.json").write_text(json.dumps({"features": features}))
    (path.parent / "state.json").write_text("{}")
    return path


def test_texts_vectors_and_pictures_are_told_apart(tmp_path: Path, settings: Settings, shapes: Path):
    assert found(shapes, settings)[0].name == "pictures"
    texts = write_texts(tmp_path / "home.jsonl", drawn_texts("home"))
    assert found(texts, settings) == (Text(), {"text": "text", "label": "label"})
    draw_tables(tmp_path / "tables", domains=2)
    assert found(tmp_path / "tables", settings) == (Vectors(), {"label": "class"})
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    assert detect(tmp_path / "notes.pdf", settings, {}) is None
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        archive.write(texts, "set/.hidden.csv")
        archive.write(texts, "set/home.jsonl")
    detected = detect(tmp_path / "many.zip", settings, {})
    assert detected is not None and detected.in_words().endswith(f"of {tmp_path}/many.zip!set/home.jsonl)")


def test_columns_of_other_names_are_found_by_what_is_in_them(tmp_path: Path, settings: Settings):
    table = tmp_path / "t.csv"
    lines = [[number, f"{text} {number}", label, "en"] for number, (text, label) in enumerate(drawn_texts("home"))]
    table.write_text(rows(["nr", "body", "wish", "language"], lines))
    kind, columns = found(table, settings)
    assert kind == Text(text="body", label="wish") and columns == {"text": "body", "label": "wish"}
    assert found(table, settings, label="language")[0] == Text(text="body", label="language")
    with pytest.raises(
        MetaloomError, match=r"^--label wisch: .*t.csv has no column wisch, only .*; did you mean wish\?$"
    ):
        detect(table, settings, {"label": "wisch"})
    table.write_text(rows(["sepal", "petal", "species"], [[1.5, 2, "a"], [1.5, 2, "a"], [1, 3, "b"], [2, 2, "b"]]))
    assert found(table, settings) == (Vectors(label="species"), {"label": "species"})
    table.write_text("class;x\na;1.5\na;nan\nb;\nb;1e400\n")  # what a number may lack is said when it is read
    assert found(table, settings) == (Vectors(), {"label": "class"})
    assert [row.label for row in Vectors().table(table.read_bytes()).rows] == ["a", "a", "b", "b"]


def test_what_cannot_be_told_is_asked_with_what_to_type(tmp_path: Path, settings: Settings):
    table = tmp_path / "t.csv"
    table.write_text(rows(["body", "a", "b"], [[text, word, word] for text, word in drawn_texts("home")]))
    with pytest.raises(MetaloomError, match=r"t.csv has the columns body, a, b: which one is of classes\? .*--label"):
        detect(table, settings, {})
    table.write_text(rows(["one", "two"], [["a b c", "d e f"]] * 3))
    with pytest.raises(MetaloomError, match=r"which one is of texts\? Say it with --text COLUMN"):
        detect(table, settings, {})
    table.write_text("site,fault,x,y\n" + "".join(f"s{n % 3},f{n % 2},{n}.5,{n}\n" for n in range(12)))
    with pytest.raises(MetaloomError, match=r"are of numbers, which .* --label COLUMN and --domain COLUMN"):
        detect(table, settings, {})
    with pytest.raises(MetaloomError, match=r"has the columns site, fault, x, y: which one is of classes, and"):
        detect(table, settings, {}, "vectors")
    given = {"label": "fault", "domain": "site"}
    assert found(table, settings, **given) == (Vectors(**given), given)
    (tmp_path / "u.csv").write_text("text,label\na,b\n")
    Image.new("L", (20, 20)).save(tmp_path / "logo.png")
    with pytest.raises(MetaloomError, match=r"holds 1 picture and 2 tables: say which you mean with --kind pictures"):
        detect(tmp_path, settings, {})
    assert detect(tmp_path, settings, {}, "pictures") is not None
    with pytest.raises(MetaloomError, match=r"^vectors have no such column: leave out --text$"):
        detect(tmp_path, settings, {"text": "x"}, "vectors")
    with pytest.raises(MetaloomError, match=r"^pictures have no columns to name: leave out --label; "):
        detect(tmp_path / "logo.png", settings, {"label": "x"})


def test_pictures_in_tables_are_not_read_as_texts(tmp_path: Path, settings: Settings):
    """Their file names have words in them, and would be texts of the classes that stand beside."""
    table = tmp_path / "index.csv"
    table.write_text(rows(["file name", "kind"], [[f"Pic 0{n}.PNG", f"c{n % 3}"] for n in range(12)]))
    with pytest.raises(
        MetaloomError, match=r"index.csv names pictures in its column file name: put it beside them as m"
    ):
        detect(table, settings, {})
    for number in range(3):
        Image.new("L", (20, 20)).save(tmp_path / f"Pic 0{number}.PNG")
    with pytest.raises(MetaloomError, match=r"^pictures have no columns to name: leave out --label; a table that says"):
        detect(tmp_path, settings, {"label": "kind"})
    with pytest.raises(MetaloomError, match=r"^pictures have no columns to name: leave out --domain; "):
        detect(tmp_path, settings, {"domain": "kind"}, "pictures")
    assert detect(table, settings, {"text": "file name", "label": "kind"}, "text") is not None
    pd.DataFrame({"image": [{"bytes": b"\x89PNG", "path": "a.png"}] * 4, "label": list("aabb")}).to_parquet(
        tmp_path / "p.parquet"
    )
    with pytest.raises(MetaloomError, match=r"p.parquet holds pictures or other files in its column image: write each"):
        detect(tmp_path / "p.parquet", settings, {})
    texts = [[f"{text} {n}", label, f"{n}.jpg"] for n, (text, label) in enumerate(drawn_texts("home"))]
    table.write_text(rows(["text", "label", "photo"], texts))  # beside texts they are no matter
    assert found(table, settings)[0].name == "text"
    hashed = pd.DataFrame(texts, columns=["text", "label", "hash"])
    hashed.assign(hash=hashed["hash"].str.encode("ascii")).to_parquet(tmp_path / "h.parquet")
    assert found(tmp_path / "h.parquet", settings)[0].name == "text"


def test_rows_of_numbers_are_not_read_as_the_words_beside_them(tmp_path: Path, settings: Settings):
    table = tmp_path / "t.csv"
    lines = [[n / 7, n, n * 3, f"wear {n % 2}", f"Line {n % 3}"] for n in range(24)]
    table.write_text(rows(["a", "b", "c", "label", "group"], lines))
    with pytest.raises(MetaloomError, match=r"which of domains\? Say .*, and leave out all .* \(group is none\)$"):
        detect(table, settings, {})
    with pytest.raises(
        MetaloomError, match=r": which of domains\? Say it with --domain COLUMN, and leave .* \(group is"
    ):
        detect(table, settings, {"label": "label"}, "vectors")
    assert found(table, settings, domain="group")[0] == Vectors(domain="group")
    noted = [[*line, f"seen by person {n}"] for n, line in enumerate(lines)]
    table.write_text(rows(["a", "b", "c", "label", "group", "operator note"], noted))
    with pytest.raises(MetaloomError, match=r"has 3 columns of numbers, and texts in operator note: say `--text 'oper"):
        detect(table, settings, {"domain": "group"})
    assert found(table, settings, text="operator note", domain="group")[0].name == "text"
    said = settings.model_copy(update={"text": settings.text.model_copy(update={"text": "operator note"})})
    assert found(table, said, domain="group")[0].name == "text"
    dated = pd.DataFrame(lines, columns=list("abclg")).assign(when=pd.Timestamp("2026-11-29")).drop(columns="g")
    dated.rename(columns={"l": "label"}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(MetaloomError, match=r"\(when is none\)$"):
        detect(tmp_path / "d.parquet", settings, {}, "vectors")
    with pytest.raises(MetaloomError, match="has columns that are no numbers: when; leave them out"):
        Vectors().table((tmp_path / "d.parquet").read_bytes())


def test_columns_that_only_the_settings_name_need_not_be_there_in_what_comes_alone(tmp_path: Path, repo: Path):
    table = tmp_path / "t.csv"
    table.write_text(rows(["class", "x"], [[f"c{n % 2}", n] for n in range(8)]))
    settings = load_settings(repo / "params.yaml", {"kind": "vectors", "vectors.domain": "site"})
    with pytest.raises(MetaloomError, match=r"t.csv has no column site, only class, x: change vectors.domain$"):
        detect(table, settings, {})
    detected = detect(table, settings, {}, alone=True)
    assert detected is not None and changes(detected, settings) == {"vectors.domain": None}


def test_settings_are_changed_where_nobody_has_chosen_them(tmp_path: Path, repo: Path):
    params = tmp_path / "params.yaml"
    params.write_text((repo / "params.yaml").read_text())
    before, settings = params.read_text().splitlines(), load_settings(params, {})
    table = write_texts(tmp_path / "home.csv", drawn_texts("home"))
    detected = detect(table, settings, {"domain": "label", "label": "text"})
    assert detected is not None
    values = changes(detected, settings)
    assert values == {"kind": "text", "network.name": "linear", "text.label": "text", "text.domain": "label"}
    refuse_changes(values, settings, table, Path("data"), alone=True)
    with pytest.raises(MetaloomError, match=r"data is of `kind: pictures`: `metaloom data add .*home.csv --only`"):
        refuse_changes(values, settings, table, Path("data"), alone=False)
    write_params(params, values)
    assert changes(detected, load_settings(params, {})) == {}
    after = params.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 4 and all(old.partition("#")[1:] == new.partition("#")[1:] for old, new in changed)
    chosen = load_settings(params, {"kind": "vectors"})
    with pytest.raises(
        MetaloomError, match=r"holds texts, and params.yaml says `kind: vectors`: `--kind text` writes `kind"
    ):
        refuse_changes(changes(detected, chosen), chosen, table, Path("data"), alone=True)
    refuse_changes(changes(detected, chosen), chosen, table, Path("data"), alone=True, chosen=True)
    del (plain := yaml.safe_load(params.read_text()))["text"]["label"]
    params.write_text(yaml.safe_dump(plain))
    with pytest.raises(MetaloomError, match=r"has no value for text.label to replace: write `text.label: x` into it"):
        write_params(params, {"text.label": "x"})


def listed(folder: Path, kind: Kind) -> Listing:
    return list_sources(folder, kind)


def test_a_dataset_of_hugging_face_is_one_domain_with_names_for_its_classes(tmp_path: Path, settings: Settings):
    own, data = drawn_texts("home"), tmp_path / "data"
    arrow(data / "wishes/train/data-00000-of-00002.arrow", own[::2])
    arrow(data / "wishes/train/data-00001-of-00002.arrow", own[1::4])
    arrow(data / "wishes/test/data-00000-of-00001.arrow", own[3::4])
    assert found(data, settings) == (Text(), {"text": "text", "label": "label"})
    listing = listed(data, Text())
    assert {item.domain for item in listing.items} == {"wishes"} and {item.split for item in listing.items} == {""}
    assert {item.class_name for item in listing.items} == {f"wishes/{label}" for _, label in own}
    assert listing.notes == [
        "wishes has the same classes in its folders for test (6), train (6): they are put together class by class"
    ]
    table = pa.ipc.open_stream(data / "wishes/test/data-00000-of-00001.arrow").read_all()
    pq.write_table(table, tmp_path / "p.parquet")
    assert {row.label for row in Text().table((tmp_path / "p.parquet").read_bytes()).rows} <= {each for _, each in own}


def test_tables_for_training_and_test_are_parts_of_one(tmp_path: Path):
    own = drawn_texts("home")
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_texts(tmp_path / split / "home.csv", own[split == "test" :: 2])
        write_texts(tmp_path / split / f"{split}.csv", drawn_texts("port" if split == "test" else "farm"))
    items = listed(tmp_path, Text()).items
    assert {item.domain for item in items} == {"home", "train", "test"}
    flat = tmp_path / "flat"
    flat.mkdir()
    write_texts(flat / "train.csv", drawn_texts("farm"))
    write_texts(flat / "Val.csv", drawn_texts("home"))
    write_texts(flat / "test.csv", drawn_texts("port"))
    listing = listed(flat, Text())
    assert {item.domain for item in listing.items} == {"flat"}
    assert {item.split for item in listing.items} == {"train", "validation", "test"}
    assert "other classes in each of its folders" in listing.notes[0]


def test_numpy_s_files_are_tables_of_numbers(tmp_path: Path, settings: Settings):
    numbers, classes = np.arange(12).reshape(6, 2), np.array(["a", "b"] * 3)
    np.savez(tmp_path / "parts.npz", X=numbers, y=classes)
    assert found(tmp_path, settings) == (Vectors(), {})
    items = listed(tmp_path, Vectors()).items
    assert [(item.domain, item.class_name) for item in items[:4]] == [("parts", "parts/a")] * 3 + [("parts", "parts/b")]
    kind, own = Vectors().table((tmp_path / "parts.npz").read_bytes())
    assert kind == Vectors(columns=("0", "1")) and np.frombuffer(own[1].content, np.float32).tolist() == [2, 3]
    np.save(tmp_path / "new.npy", numbers)  # to classify
    assert [row.label for row in Vectors().table((tmp_path / "new.npy").read_bytes()).rows] == [None] * 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.ones(3)}, "has 0 arrays of numbers (row, number), not one: np.savez(FILE, X=rows, y=classes) writes"),
        ({"X": np.ones((3, 2)), "y": np.ones(2)}, "has 2 values in `y` for 3 rows: give one for each"),
        ({"X": np.ones((3, 2)), "columns": np.array(["a"])}, "has 1 names in `columns` for 2 numbers"),
        (
            {"X": np.ones((3, 2)), "y": np.array(["a", None, 1], object)},
            "write classes as text, np.array(classes, str)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str):
    np.savez(tmp_path / "parts.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(MetaloomError) as error:
        Vectors().table((tmp_path / "parts.npz").read_bytes())
    assert message in str(error.value)


def test_an_array_that_says_it_is_larger_than_any_memory_is_refused():
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6)})
    with pytest.raises(MetaloomError, match="no file of NumPy arrays that fits into memory"):
        Vectors().table(head.getvalue() + bytes(8))


def test_missing_classes_of_a_dataset_are_missing():
    frame = pd.DataFrame({"a": [0.5, 1.5], "label": [0, -1]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    features = {"label": {"names": ["x"], "_type": "ClassLabel"}}
    named = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, named.schema) as writer:
        writer.write_table(named)
    assert [row.label for row in Vectors().table(sink.getvalue().to_pybytes()).rows] == ["x", None]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_one_wrong_byte_of_a_numpy_file_is_one_line(save):
    buffer = io.BytesIO()
    save(buffer, np.arange(60, dtype=np.float32).reshape(20, 3))
    content = buffer.getvalue()
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 255
        with contextlib.suppress(MetaloomError):  # or it is read: a byte of a number, or of a date
            Vectors().table(bytes(damaged))
