"""What may be wrong with a workspace, and how each is put right: `metaloom doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.plural import several, some
from metaloom.system.provenance import DATA, LOCK
from metaloom.versioning import leftovers
from metaloom.versioning.config_file import BROKEN, CONFIG, as_committed, lost, take_committed
from metaloom.versioning.intact import Hashes, damaged, put_back
from metaloom.versioning.objects import NAMED, damaged_objects, fetch, tree_of
from metaloom.versioning.packed import packed_before, packed_in_data
from metaloom.versioning.project import DAG, open_project
from metaloom.versioning.purged import PURGED, purged
from metaloom.versioning.purging import objects_held, remove_objects
from metaloom.versioning.reached import unreached


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the workspace.

    Args:
        what: it is.
        remedy: what to do, in words.
        fix: does it and returns whether that helped; None where only the user can.
        stops: until it is put right nothing else can be looked at.
    """

    what: str
    remedy: str
    fix: Callable[[], bool] | None = None
    stops: bool = False


def of_config(root: Path) -> Iterator[Fault]:
    """DVC's own settings: without them its remotes are not known, and nothing of the project can be opened."""
    if how := lost(root):
        kept = as_committed(root)
        remedy = f"git checkout {CONFIG}" if kept else "write it again (`dvc remote add`)"
        if kept and (root / CONFIG).is_file():
            remedy += f" (what was never committed is lost then; `--fix` keeps it as {BROKEN})"
        yield Fault(f"{CONFIG} {how}", remedy, partial(take_committed, root) if kept else None, stops=True)


def of_dvc(root: Path) -> Iterator[Fault]:
    """Locks and dvc.lock are put right by whatever reads the project, and so here, but for what only the user can."""
    leftovers.put_right(root)
    if leftovers.conflicts(root):
        yield Fault(f"{LOCK} has conflicts of git", f"git checkout --ours {LOCK}, then run")


def of_outputs(root: Path) -> Iterator[Fault]:
    """What dvc.lock and data.dvc name and is not there; a clone in which nothing was made yet lacks nothing."""
    with open_project(root, lock=True) as repo:
        if not any(stage.cmd for stage in repo.index.stages):
            yield Fault(f"{DAG} names no stages", f"git checkout {DAG}", stops=True)
        lacking, made = {}, False
        for stage in repo.index.stages:
            named = [out for out in stage.outs if out.use_cache and out.hash_info]
            lacking[stage.addressing] = [str(out) for out in named if not out.exists]
            made |= any(out.exists for out in named)
    for name, found in lacking.items():
        if found and made:
            yield Fault(
                f"{some(found, NAMED)} of {name} {'is' if len(found) == 1 else 'are'} missing",
                "`metaloom run` takes it from DVC's cache or a remote, or else makes it again",
                partial(_bring_back, root, name),
            )


def of_cache(root: Path) -> Iterator[Fault]:
    """Objects of the cache, each hashed now; and those that it lacks, though the workspace has them whole.

    Damaged ones are looked for before DVC is asked about them: it removes what it finds, and says nothing.
    """
    with open_project(root, lock=True) as repo:
        cache = Path(repo.cache.local.path)
    if objects := damaged_objects(cache):
        yield Fault(
            f"{several(len(objects), 'file')} in DVC's cache {'is' if len(objects) == 1 else 'are'} damaged",
            "they are removed, and come again from the workspace or a remote",
            partial(_renew, root, objects),
        )
        return
    with open_project(root, lock=True) as repo:
        lacking = [str(out) for out in _only_here(repo, Hashes(root))]
    if lacking:
        yield Fault(
            f"DVC's cache lacks {some(lacking, NAMED)}, which the workspace has",
            "`--fix` copies it there",
            partial(_renew, root, []),
        )


def of_hashes(root: Path) -> Iterator[Fault]:
    """Outputs in the workspace, each hashed now."""
    with open_project(root, lock=True) as repo:
        hashes = Hashes(root, fresh=True)
        stages = [stage for stage in repo.index.stages if not _replaced(stage)]
        files = {stage.addressing: [file for each in stage.outs for file in damaged(each, hashes)] for stage in stages}
    hashes.save()
    for name, found in files.items():
        if found:
            yield Fault(
                f"{some(found, NAMED)} of {name} {'is' if len(found) == 1 else 'are'} damaged",
                "it comes back from DVC's cache or a remote, or else the next run makes it again",
                partial(_put_back, root, name),
            )


def _replaced(stage: Any) -> bool:
    """Whether the next run makes other outputs, or versions those that are there: data/ is its user's to change."""
    if stage.cmd:
        return bool(stage.changed_deps() or stage.changed_stage())
    return any(out.changed_checksum() for out in stage.outs)


def of_remotes(root: Path) -> Iterator[Fault]:
    """Whether each remote answers, and whether what comes from it is verified."""
    with open_project(root) as repo:
        names, default = list(repo.config["remote"]), repo.config["core"].get("remote")
        plain = repo.config.load_one("repo").get("remote", {})
        if default and default not in names:
            yield Fault(
                f"{CONFIG} has no remote {default}, which it names as the default", f"dvc remote add {default} URL"
            )
        for name in names:
            if trouble := unreached(repo, name):
                yield Fault(f"remote {name} cannot be used ({trouble})", "see its url, login and network")
    for name, config in plain.items():
        if not config.get("verify"):
            yield Fault(
                f"remote {name} is not verified by `dvc pull` (metaloom itself verifies it)",
                f"dvc remote modify {name} verify true",
                partial(_verify, root, name),
            )


def of_purged(root: Path) -> Iterator[Fault]:
    """What was purged and is there again: from another clone, or added once more."""
    gone = sorted(purged(root))
    if not gone:
        return
    with open_project(root) as repo:
        found = objects_held(repo, gone)
        packed = list(_packed(repo, root, set(gone)))
        tree = tree_of(repo, root / DATA) if (root / DATA).is_dir() else ()
        files = ["/".join((DATA, *key)) for key, _, oid in tree if oid.value in gone]
    yield from packed
    if files:
        were = "was" if len(files) == 1 else "were"
        yield Fault(f"{some(files, NAMED)} {were} purged ({PURGED})", f"metaloom data purge {files[0]}")
        return
    for where, held in found.items():
        yield Fault(
            f"{several(len(held), 'example')} in {where} {'was' if len(held) == 1 else 'were'} purged ({PURGED})",
            "`--fix` removes it there",
            partial(_remove_again, root, held),
        )


def _packed(repo: Any, root: Path, gone: set[str]) -> Iterator[Fault]:
    """Archives that have it inside."""
    try:
        for each in packed_in_data(root, gone):
            yield Fault(
                f"{each.member} in {each.archive} was purged ({PURGED})",
                "make that archive again without it, then `metaloom data add --replace`",
            )
        for each in packed_before(repo, root, gone):
            yield Fault(
                f"{each.member} in {each.archive} of an older version was purged ({PURGED})",
                f"metaloom data purge {each.oid}",
            )
    except MetaloomError as error:
        yield Fault(f"whether what was purged is in an archive is not known: {error}", "put it right, then look again")


def _remove_again(root: Path, oids: list[str]) -> bool:
    with open_project(root, lock=True) as repo:
        with suppress(MetaloomError):  # a remote that cannot be reached has a line of its own
            remove_objects(repo, oids)
        return not objects_held(repo, oids)


def _put_back(root: Path, name: str) -> bool:
    """False where the stage has to run."""
    with open_project(root, lock=True) as repo:
        (stage,) = (each for each in repo.index.stages if each.addressing == name)
        return not put_back(stage, root, fresh=True)


def _bring_back(root: Path, name: str) -> bool:
    """False where neither DVC's cache nor a remote has it."""
    with open_project(root, lock=True) as repo:
        (stage,) = (each for each in repo.index.stages if each.addressing == name)
        lacking = [out for out in stage.outs if out.use_cache and out.hash_info and not out.exists]
        with suppress(MetaloomError):  # a remote that cannot be reached has a line of its own
            for out in lacking:
                if fetch(repo, out):
                    out.checkout(force=True)
        return all(out.exists for out in lacking)


def _renew(root: Path, objects: list[Path]) -> bool:
    for path in objects:
        path.unlink(missing_ok=True)
    with open_project(root, lock=True) as repo:
        for out in _only_here(repo, Hashes(root)):
            out.save()
            out.commit()
        outs = [out for stage in repo.index.stages for out in stage.outs if out.use_cache and out.hash_info]
        return not any(out.changed_cache() for out in outs if out.exists)


def _only_here(repo: Any, hashes: Hashes) -> list[Any]:
    """Outputs that the workspace has whole, and DVC's cache has not."""
    outs = [out for stage in repo.index.stages for out in stage.outs if out.use_cache and out.hash_info and out.exists]
    return [out for out in outs if out.changed_cache() and not out.changed_checksum() and not damaged(out, hashes)]


def _verify(root: Path, name: str) -> bool:
    with open_project(root) as repo, repo.config.edit("repo") as config:
        config["remote"][name]["verify"] = True
    return True
