"""`metaloom judge`: whether a new version may take the place of the present one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaloom.errors import MetaloomError
from metaloom.system.files import strict_json
from metaloom.system.plural import several
from metaloom.system.quantities import points
from metaloom.system.terminal import say, show

if TYPE_CHECKING:
    from metaloom.judging import Verdict
    from metaloom.judging.ledger import Entry
    from metaloom.versioning.registry import Judged

PROD = "prod"
NOT_WORSE, WORSE, UNDECIDED = 3, 4, 5  # exit codes; 0: better, and no guard holds
CODES = {"better": 0, "not worse": NOT_WORSE, "worse": WORSE, "undecided": UNDECIDED}
QUICK = 0.5  # minutes of judging in `metaloom promote`


def judge(
    champion: Annotated[
        str | None, typer.Argument(help="A model version, branch, tag or commit; without it what is prod.")
    ] = None,
    challenger: Annotated[str, typer.Argument(help="Another one; without it the present commit.")] = "HEAD",
    json_: Annotated[bool, typer.Option("--json", help="The verdict with all of its evidence as JSON.")] = False,
    note: Annotated[bool, typer.Option(help="Write it into the ledger: a note beside the challenger's commit.")] = True,
) -> None:
    """Have two versions answer the same fresh questions until it is decided which is better.

    The exit code is 0 where the challenger is better, 3 where it is not worse, 4 where it is worse or a guard of
    params.yaml holds it, and 5 where it is not decided.
    """
    from metaloom.judging import judge as judged
    from metaloom.versioning.project import find_root
    from metaloom.versioning.registry import version_in

    root = find_root()
    verdict = judged(root, champion or version_in(root, PROD), challenger, note=note)
    if json_:
        print(strict_json({"outcome": verdict.outcome, "message": verdict.message} | verdict.evidence))
    else:
        show(verdict.message)
        for each in verdict.evidence["domains"]:
            low, high = (points(each[end], None) for end in ("low95", "high95"))
            say(f"  {each['domain']}: {points(each['gain'], None)} points ({low} to {high})")
    raise typer.Exit(WORSE if verdict.held else CODES[verdict.outcome])


def before_promotion(root: Path, champion: str, challenger: str) -> Judged | None:
    """What the ledger says of the two, or else a short judgement; None where the models cannot be judged.

    A challenger that labelled inputs of real use have shown to be worse is refused.

    Args:
        root: of the project.
        champion: a version.
        challenger: a commit.
    """
    from metaloom.judging.ledger import written
    from metaloom.judging.records import judgement_of, shadowed
    from metaloom.versioning.registry import Judged

    used = shadowed(root, champion, challenger)
    if used is not None and used.outcome == "worse":
        return Judged(True, f"in shadow: {_of_before(used)}", written(used))
    found = judgement_of(root, champion, challenger)
    told = ""
    if found is None:
        verdict = _judged(root, champion, challenger)
        if verdict is None:
            return None
        told, found = verdict.message, judgement_of(root, champion, challenger)
    if found is None:
        return None
    told = told or f"judged before: {_of_before(found)}"
    if used is not None:
        told = f"{told}; in shadow: {_of_before(used)}"
    refused = found.outcome == "worse" or bool(found.held)
    return Judged(refused, told, f"{told}\n\n{written(found)}")


def _of_before(entry: Entry) -> str:
    low, high = (points(each, None) for each in (entry.low95, entry.high95))
    asked = several(entry.episodes, "labelled input" if entry.of_shadow else "episode")
    return f"{entry.outcome}, {points(entry.gain, None)} points ({low} to {high}), {asked}"


def _judged(root: Path, champion: str, challenger: str) -> Verdict | None:
    from metaloom.judging import judge as judged

    try:
        return judged(root, champion, challenger, minutes=QUICK)
    except MetaloomError as error:
        say(f"not judged, so the bundles' own figures decide: {error}")
        return None
