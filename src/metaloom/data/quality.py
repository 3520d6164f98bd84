"""Which examples are used, and what is wrong with the others."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from metaloom.config import PrepareSettings, least_examples
from metaloom.data.scan import Scan
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind

_SHOWN = 3


@dataclass(frozen=True)
class Quality:
    """The report that becomes quality.json, and the indices of the items that are used."""

    report: dict[str, Any]
    used: list[int]


def judge(scan: Scan, min_examples: int | Literal["auto"]) -> Quality:
    """Sort out unreadable examples, exact duplicates, examples in two classes and classes that are too small.

    Of duplicates within a class the first stays; an example that lies in two classes contradicts itself and is
    dropped everywhere. A class counts as small by the examples that are left after that.
    """
    items = scan.listing.items
    unreadable = [
        {"source": item.source, "reason": reason} for item, reason in zip(items, scan.reasons, strict=True) if reason
    ]
    keep, duplicate, conflict = _unique(scan)
    usable = Counter(items[index].class_name for index in keep)
    classes = sorted({item.class_name for item in items})
    least = needed(min_examples, usable.values())
    small = [{"class": name, "examples": usable[name]} for name in classes if usable[name] < least]
    used = [index for index in keep if usable[items[index].class_name] >= least]
    problems = {
        "unreadable": unreadable,
        "duplicate": duplicate,
        "conflict": conflict,
        "small_class": small,
        "empty_class": scan.listing.empty,
        "ignored": scan.listing.ignored,
    }
    return Quality(_report(scan, used, classes, problems), used)


def _report(scan: Scan, used: list[int], classes: list[str], problems: dict[str, list[Any]]) -> dict[str, Any]:
    items = scan.listing.items
    conflicting = sum(len(group["sources"]) for group in problems["conflict"])
    bad = len(problems["unreadable"]) + len(problems["duplicate"]) + conflicting
    traits = ((items[index].domain, items[index].class_name, scan.traits[index]) for index in used)
    report = {
        "examples": len(items),
        "used": len(used),
        "classes": len(classes) - len(problems["small_class"]),
        "domains": len({items[index].domain for index in used}),
        "bad_share": round(bad / len(items), 6),
        "problems": problems,
        "notes": scan.listing.notes + twins(classes) + scan.listing.kind.oddities(traits),
    }
    return report | ({"reading": scan.reading} if scan.reading else {})


def said(report: dict[str, Any]) -> list[str]:
    """The sentences of a report of `judge`: how examples are read, and what one may not expect of them."""
    return [*([report["reading"]] if "reading" in report else []), *report["notes"]]


def twins(classes: Iterable[str]) -> list[str]:
    """A sentence for each group of names that look the same: other code points for a letter, or another case.

    Args:
        classes: names of classes with that of their domain, as paths.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for name in classes:
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            groups[_folded("/".join(parts[:depth]))].add("/".join(parts[:depth]))
    alike = [sorted(names) for _, names in sorted(groups.items()) if len({name.split("/")[-1] for name in names}) > 1]
    return [
        f"{' and '.join(map(_spelled, names))} differ in {_difference(names)} alone: if they are one, give them one "
        "name (`metaloom data merge` does it for folders)"
        for names in alike
    ]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _difference(names: list[str]) -> str:
    composed = {unicodedata.normalize("NFC", name) for name in names}
    return "how Unicode writes a letter (NFC and NFD)" if len(composed) == 1 else "upper and lower case"


def _spelled(name: str) -> str:
    """With what form it has, where there is more than one."""
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return name if composed == decomposed else f"{name} ({'NFC' if name == composed else 'NFD'})"


def needed(min_examples: int | Literal["auto"], counts: Iterable[int]) -> int:
    """Usable examples that a class needs, where the classes have so many."""
    return least_examples(counts) if min_examples == "auto" else min_examples


def _unique(scan: Scan) -> tuple[list[int], list[dict[str, str]], list[dict[str, list[str]]]]:
    items = scan.listing.items
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(scan.digests):
        if not scan.reasons[index]:
            groups[digest].append(index)
    keep, duplicate, conflict = [], [], []
    for group in groups.values():
        first, *rest = group
        if len({items[index].class_name for index in group}) > 1:
            conflict.append({"sources": [items[index].source for index in group]})
            continue
        keep.append(first)
        duplicate += [{"source": items[index].source, "of": items[first].source} for index in rest]
    duplicate.sort(key=lambda each: each["source"])
    conflict.sort(key=lambda each: each["sources"])
    return sorted(keep), duplicate, conflict


def check_quality(
    report: dict[str, Any], settings: PrepareSettings, kind: Kind, where: str, lists: str = "metaloom data check"
) -> None:
    """Stop when too much of the data is bad, or nothing is left.

    Args:
        report: of `judge`.
        settings: how much may be bad.
        kind: of the examples.
        where: the data are.
        lists: the command that lists all that is wrong with them.

    Raises:
        MetaloomError: it names the first few files and what to do about them.
    """
    if report["bad_share"] > settings.max_bad_share:
        raise MetaloomError(
            f"{where}: {report['bad_share']:.1%} of {report['examples']} {kind.many} are unusable, more than "
            f"prepare.max_bad_share ({settings.max_bad_share:.1%}): {_first_bad(report['problems'], kind)}. "
            f"Fix or remove them (`{lists}` lists all), or raise prepare.max_bad_share"
            + "".join(f". {note}" for note in report["notes"])
        )
    if not report["used"]:
        least = needed(settings.min_examples, (each["examples"] for each in report["problems"]["small_class"]))
        raise MetaloomError(
            f"{where}: no class has {least} usable {kind.many}: add some, or lower prepare.min_examples in params.yaml"
        )


def _first_bad(problems: dict[str, Any], kind: Kind) -> str:
    lines = [f"{each['source']} {each['reason']}" for each in problems["unreadable"][:_SHOWN]]
    lines += [f"{each['source']} is the same {kind.one} as {each['of']}" for each in problems["duplicate"][:_SHOWN]]
    lines += [
        f"{' and '.join(each['sources'][:2])} are one {kind.one} in two classes"
        for each in problems["conflict"][:_SHOWN]
    ]
    return "; ".join(lines)
