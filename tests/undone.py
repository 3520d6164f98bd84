"""Would the tests have found the faults of issue "Nothing lost, nobody let in"? Each remedy undone, and its test run.

    python tests/undone.py [NAME …] [--out build/undone.json]

The last commit is cloned. For each fault the text that is its remedy is taken back, as it was before, and the named
tests run: they have to fail, and to pass without it. --out is added to, so that a run that was stopped goes on.
`tests/test_mutations.py` looks whether each text stands in the sources once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mutants import Mutant
from mutations import ONE_PROCESS, REPO, place_of

SECONDS = 900  # that a fault's tests may take
HANGS = 400  # seconds of a single one: with a remedy undone some wait for ever
FAULTS = "tests/faults/test_"

UNDONE: dict[str, tuple[Mutant, str]] = {
    name: (Mutant(name, room, breaks, old, new), tests)
    for name, room, breaks, old, new, tests in (
        (
            "arriving",
            "pipeline",
            "files that come into data/ while `prepare` reads it count as read and are never trained",
            "elif version and watched and (moved := version.moved()):",
            "elif version and not watched and (moved := version.moved()):",
            f"{FAULTS}arriving_data.py::test_what_comes_in_between_waits_for_the_next_run",
        ),
        (
            "read_and_named",
            "pipeline",
            "what came between reading and DVC's hashing is taken for trained",
            "if not read or read == named:",
            "if True:",
            f"{FAULTS}arriving_data.py::test_what_comes_before_dvc_looks_is_not_named_as_trained",
        ),
        (
            "upload",
            "versioning",
            "an upload that goes on while data/ is added leaves a version with damaged files",
            "if tree is not None and (before == stamps(folder) or not remove_damaged(repo, tree)):",
            "if tree is not None:",
            f"{FAULTS}arriving_data.py::test_an_upload_that_goes_on_while_data_is_added_leaves_a_version_that_is_whole",
        ),
        (
            "empty_run",
            "versioning",
            "DVC fails for ever on a folder of its run cache that it was killed before writing into",
            "        limit_silence(repo)\n        remove_empty_runs(repo)",
            "        limit_silence(repo)",
            f"{FAULTS}after_a_crash.py::test_a_folder_of_the_run_cache_without_an_entry_is_taken_for_none",
        ),
        (
            "older_commit",
            "versioning",
            "files of a commit that is older than the remote or the cache folder count as lost",
            "    now, place = _places_now(root, bool(rev))",
            "    now, place = {}, _places_now(root, bool(rev))[1]",
            f"{FAULTS}remotes.py::test_an_older_commit_is_sought_where_files_lie_now",
        ),
        (
            "second_signal",
            "system",
            "a second SIGTERM writes its number into whatever file has the descriptor of a socket that was closed",
            "        while told.recv(1):  # of further",
            "        while False:  # of further",
            "tests/system/test_ending.py",
        ),
        (
            "second_serve",
            "cli",
            "a second `metaloom serve` takes the first one's login away",
            "            _serve_alone(root)\n",
            "            pass\n",
            f"{FAULTS}state_files.py::test_a_second_serve_does_not_take_the_first_one_s_login_away",
        ),
        (
            "lost_note",
            "flows",
            "a note that a loss of power has emptied is a traceback to every command that looks at runs",
            "except (ValueError, KeyError, TypeError):  # the machine lost",
            "except ZeroDivisionError:  # the machine lost",
            f"{FAULTS}state_files.py::test_a_note_of_a_run_that_cannot_be_read_is_dropped",
        ),
        (
            "seen_damage",
            "versioning",
            "doctor says that all is well where something else has written to an output",
            "stages = [stage for stage in repo.index.stages if not _replaced(stage)]",
            "stages = [stage for stage in repo.index.stages if not stage.changed()]",
            f"{FAULTS}doctor.py::test_an_output_that_was_written_to_is_named_and_put_back",
        ),
        (
            "lacking_object",
            "versioning",
            "doctor says that all is well where DVC's cache lacks what the workspace has",
            "lacking = [str(out) for out in _only_here(repo, Hashes(root))]",
            "lacking: list[str] = []",
            f"{FAULTS}doctor.py::test_an_object_that_the_cache_lacks_comes_from_the_workspace",
        ),
        (
            "damaged_list",
            "versioning",
            "gc deletes the files of a version whose list of files is damaged",
            'if lists := damaged_objects(Path(repo.cache.local.path), "*.dir"):',
            "if lists := list[Path]():",
            f"{FAULTS}gc.py::test_where_a_folders_list_is_damaged_nothing_goes",
        ),
        (
            "cut_pointer",
            "versioning",
            "a data.dvc that was cut off in its last line is a traceback, or counts as whole",
            "return path == DATA or not DATA.startswith(path)",
            "return True",
            f"{FAULTS}after_a_crash.py::test_a_pointer_that_was_cut_off_in_its_last_line_is_put_back",
        ),
        (
            "release_for_version",
            "retraining",
            "training starts from a release of the code that has the name of the version",
            'return f"{BUNDLE}@{version}"',
            "return version",
            "tests/retraining/test_from_champion.py::test_a_release_of_the_code_that_has_the_name_of_the_version_is_not_meant",
        ),
        (
            "random_for_lost",
            "versioning",
            "training starts from random weights where those of the model in the stage cannot be had",
            "self.files.info(path)",
            "return self.files.exists(path)",
            "tests/retraining/test_from_champion.py::test_where_the_model_cannot_be_had_nothing_is_trained",
        ),
        (
            "name_in_mail",
            "retraining",
            "a name in a message is HTML in a mail, and an order in a chat",
            'text = told(f"{settings.name}: {message}")',
            'text = f"{settings.name}: {message}"',
            "tests/retraining/test_telling.py::test_a_name_is_text_in_a_mail_and_in_a_chat",
        ),
        (
            "name_in_log",
            "flows",
            "a name has a terminal obey it out of a run's log in Prefect",
            "get_run_logger().info(shown(result.message))",
            "get_run_logger().info(result.message)",
            f"{FAULTS}hostile_names.py::test_what_a_retraining_comes_to_in_prefect",
        ),
        (
            "given_before",
            "flows",
            "what was given to a training of an earlier time counts as given to this one",
            "if is_given(self.root, key, name):",
            "if True:",
            "tests/flows/test_several_workers.py::test_what_was_given_to_the_same_training_of_an_earlier_time_is_made_again",
        ),
        (
            "settle",
            "pipeline",
            "a scheduled run starts in the middle of an upload",
            "while (young := _newest(Path(root, DATA)) + settle - clock()) > 0:",
            "while (young := 0.0) > 0:",
            f"{FAULTS}arriving_data.py::test_a_scheduled_run_waits_for_data_to_settle",
        ),
        (
            "skipped",
            "retraining",
            "a scheduled run asks for the version of data/ alone, and is skipped when settings or code have changed",
            'parts = (asked(root, "ls-tree", commit, "--", *inputs), data, splits.strip(), code_state())',
            "parts = (data, splits.strip(), code_state())",
            "tests/retraining/test_nights.py::test_committed_settings_are_due_and_words_are_not",
        ),
        (
            "flipped_output",
            "versioning",
            "a flipped byte in an output is used",
            "return bool(other) or put_back(stage, repo.root_dir)",
            "return bool(other)",
            f"{FAULTS}flipped_bytes.py::test_an_output_is_put_back_from_the_cache",
        ),
        (
            "flipped_remote",
            "versioning",
            "a flipped byte in a remote is taken",
            'remote["verify"] = True',
            'remote.setdefault("verify", False)',
            f"{FAULTS}flipped_bytes.py::test_what_a_remote_has_damaged_is_not_taken",
        ),
        (
            "no_password",
            "cli",
            "another user of the machine starts runs on the temporary server",
            '"PREFECT_SERVER_API_AUTH_STRING": login}',
            '"PREFECT_NO_LOGIN": login}',
            f"{FAULTS}other_user.py",
        ),
        (
            "readable_password",
            "cli",
            "another user reads the password of the temporary server",
            "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)",
            "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)",
            f"{FAULTS}other_user.py::test_the_login_is_this_users_alone_and_goes_with_the_server",
        ),
        (
            "sparse",
            "handoff",
            "weights of a sparse initialiser lie in another file, and the bundle passes as verified",
            "for tensor in _parts(graph, 5) + _of_sparse(_parts(graph, 15)):",
            "for tensor in _parts(graph, 5):",
            f"{FAULTS}hostile_bundles.py::test_weights_in_another_file_are_found_wherever_they_hide",
        ),
        (
            "subgraph",
            "handoff",
            "weights in a graph that an operator carries lie in another file, and the bundle passes as verified",
            "for subgraph in _parts(attribute, 6) + _parts(attribute, 11):",
            "for subgraph in _parts(attribute, 11):",
            f"{FAULTS}hostile_bundles.py::test_weights_in_another_file_are_found_wherever_they_hide",
        ),
        (
            "deep_json",
            "handoff",
            "JSON that is nested too deeply ends verify in a traceback",
            'except (ValueError, RecursionError, MemoryError) as error:\n        return None, [f"{path.name}: no valid',
            'except (ValueError, MemoryError) as error:\n        return None, [f"{path.name}: no valid',
            f"{FAULTS}hostile_bundles.py::test_what_is_wrong_is_one_line",
        ),
        (
            "incomplete_metadata",
            "handoff",
            "a metadata.json with an empty list of graphs passes as verified",
            "if not isinstance(graphs, dict) or not graphs.keys() & {MODEL, FLEET} or not",
            "if not isinstance(graphs, dict) or not",
            "tests/handoff/test_verify_bundle.py::test_wrong_values_are_found_behind_right_checksums",
        ),
        (
            "endless",
            "handoff",
            "a bundle with an endless Loop keeps `predict` for ever",
            "timer = threading.Timer(seconds, end)\n    timer.daemon = True\n    timer.start()\n    try:",
            "timer = threading.Timer(seconds, end)\n    try:",
            f"{FAULTS}hostile_bundles.py::test_a_prediction_ends_within_its_limits",
        ),
        (
            "strange_weights",
            "versioning",
            "`adapt` uses weights that are not those of the run",
            "if named and named != (held := _hash_now(folder)):",
            "if named and not (held := _hash_now(folder)):",
            f"{FAULTS}hostile_bundles.py::test_weights_that_are_not_the_runs_are_refused",
        ),
        (
            "html",
            "system",
            "a class name's HTML is HTML in MODEL_CARD.md",
            'return MARKDOWN.sub(r"\\\\\\g<0>", shown(" ".join(text.split())))',
            'return shown(" ".join(text.split()))',
            f"{FAULTS}hostile_names.py::test_the_model_card",
        ),
        (
            "script",
            "system",
            "`</script>` in a domain's name runs in DVC's page of plots",
            "return text.translate(ANGLES)",
            "return text",
            f"{FAULTS}hostile_names.py",
        ),
        (
            "formula",
            "system",
            "a class name is a formula where `predict --csv` is opened",
            'return f"\'{text}" if text.startswith(FORMULA) and not _is_number(text) else text',
            "return text",
            f"{FAULTS}hostile_names.py::test_predictions_on_a_terminal_in_a_table_and_as_json",
        ),
        (
            "escape_sequence",
            "system",
            "a file's name gives commands to the terminal",
            'c if c.isprintable() or c in KEPT else c.encode("unicode_escape").decode() for c in text',
            "c for c in text",
            f"{FAULTS}hostile_names.py::test_messages",
        ),
        (
            "empty_rwlock",
            "versioning",
            "an empty .dvc/tmp/rwlock, as a full disk leaves it, fails every later run",
            "if (content := _content(path)) is None or not _stale(path, content):\n        return\n    import",
            "if path:\n        return\n    import",
            f"{FAULTS}after_a_crash.py::test_a_broken_rwlock_is_cleared",
        ),
        (
            "pid_again",
            "versioning",
            "a killed run's PID that lives again as another process keeps the project busy",
            "process.create_time() <= written + INEXACT and process.status()",
            "process.status()",
            f"{FAULTS}after_a_crash.py::test_a_pid_that_lives_again_as_another_process_holds_nothing",
        ),
        (
            "cut_lock",
            "versioning",
            "a dvc.lock that was cut off fails every later run",
            "for line in (*_free_readers(root / READERS), *_whole_again(root, LOCK), *_whole_again(root, POINTER)):",
            "for line in (*_free_readers(root / READERS), *_whole_again(root, POINTER)):",
            f"{FAULTS}after_a_crash.py::test_a_lock_that_was_cut_off_is_put_back",
        ),
        (
            "lock_in_pieces",
            "versioning",
            "SIGKILL while dvc.lock is written leaves a part of it",
            "_common._dump_data = _yaml._dump_data = dump",
            "_common._dump_data = _yaml._dump_data = plain",
            f"{FAULTS}after_a_crash.py::test_dvc_writes_its_lock_whole_or_not_at_all",
        ),
        (
            "unreserved",
            "system",
            "a full disk ends `prepare` with SIGBUS",
            "os.posix_fallocate(file.fileno(), 0, size)",
            "file.fileno()",
            f"{FAULTS}after_a_crash.py::test_room_is_reserved_before_it_is_mapped",
        ),
        (
            "orphans",
            "system",
            "workers outlive a stage that was killed",
            "    threading.Thread(target=_end_with_parent, daemon=True).start()\n    threadpool_limits(1)",
            "    threadpool_limits(1)",
            f"{FAULTS}after_a_crash.py::test_workers_end_with_a_parent_that_is_killed",
        ),
        (
            "unmarked",
            "flows",
            "a flow that was killed with `metaloom serve` stays Running for hours",
            "while living(root) or ((served or killed(root)) and time.monotonic() < end):",
            "while living(root):",
            f"{FAULTS}killed_flows.py::test_serve_and_flow_are_killed",
        ),
        (
            "server_dies",
            "cli",
            "the temporary server dies, and serve stays up and triggers nothing",
            "        threading.Thread(target=_end_without, args=(process, root, log, ours), daemon=True).start()",
            "        log.exists()",
            f"{FAULTS}server_dies.py",
        ),
        (
            "stalled",
            "system",
            "a stage that hangs runs without end",
            "elif self._stall and now - self._moved > self._stall:",
            "elif False:",
            f"{FAULTS}hangs.py::test_a_stage_that_hangs_is_ended",
        ),
        (
            "silent_remote",
            "versioning",
            "a remote that hangs in the middle of a push holds the run for ever",
            "        verify_remotes(repo)\n        limit_silence(repo)",
            "        verify_remotes(repo)",
            f"{FAULTS}remotes.py::test_s3_that_hangs",
        ),
        (
            "away",
            "cli",
            "the server is away for minutes, and the run counts as failed",
            '"PREFECT_CLIENT_MAX_RETRIES": "8"',
            '"PREFECT_CLIENT_MAX_RETRIES": "0"',
            f"{FAULTS}server_away.py::test_the_server_is_away_when_a_run_ends",
        ),
        (
            "two_triggers",
            "retraining",
            "of two triggers at the same moment both work in the project",
            "with project_lock(root / FOLDER, wait):",
            "if True:",
            "tests/retraining/test_loop_faults.py::test_two_nights_that_overlap",
        ),
        (
            "read_only",
            "versioning",
            "a cache that cannot be written has no remedy",
            'if line := next(filter(None, lines), ""):',
            'if line := "":',
            f"{FAULTS}read_only.py::test_a_cache_that_cannot_be_written",
        ),
        (
            "latin_1",
            "system",
            "params.yaml is no valid YAML under Latin-1",
            "os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **UTF8})",
            "UTF8.copy()",
            f"{FAULTS}locale.py",
        ),
        (
            "forbidden",
            "versioning",
            'a 403 is called "in neither cache nor a remote"',
            "if any(_refuses(each) for each in causes):",
            "if not causes:",
            f"{FAULTS}remotes.py::test_s3_403_is_a_403",
        ),
        (
            "not_arrived",
            "versioning",
            "a pushed file that is missing in the remote is taken for sent",
            "if missing := wanted.keys() - set(remote.oids_exist(wanted)):",
            "if missing := wanted.keys() - set(wanted):",
            f"{FAULTS}remotes.py::test_a_folder_as_remote_is_asked_what_it_holds",
        ),
        (
            "promoted_lost",
            "versioning",
            "the bundle of a promoted version goes with the garbage",
            'KEPT = {"all_branches": True, "all_tags": True}',
            'KEPT = {"all_branches": False, "all_tags": False}',
            f"{FAULTS}gc.py",
        ),
        (
            "failed_export",
            "pipeline",
            "a stage that fails leaves its outputs removed, a good bundle among them",
            "if OURS not in str(stage.cmd):\n            clear(",
            "if True:\n            clear(",
            "tests/flows/test_stages.py::test_the_last_good_output_stays_when_a_stage_of_ours_fails",
        ),
    )
}


def main(names: list[str], out: Path) -> int:
    """Print a line for each fault; 1 where a test did not find it, or fails without it."""
    known = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "metaloom")
        subprocess.run(["git", "clone", "--quiet", REPO, root], check=True)
        (root / ".venv").symlink_to(REPO / ".venv")
        for name in names:
            known[name] = known.get(name) or found(root, *UNDONE[name])
            print(f"{name}: {known[name]['verdict']} ({UNDONE[name][0].breaks})", flush=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    missed = [name for name in names if not known[name]["found"]]
    print(f"{len(names) - len(missed)} of {len(names)} found")
    return bool(missed)


def found(root: Path, undone: Mutant, tests: str) -> dict[str, object]:
    """Whether the tests pass as they are, and fail with the remedy undone."""
    path = root / place_of(undone, root).path
    sound = path.read_text(encoding="utf-8")
    before = ended(root, tests)
    path.write_text(sound.replace(undone.old, undone.new), encoding="utf-8")
    after = ended(root, tests)
    path.write_text(sound, encoding="utf-8")
    is_found = before.startswith("passed") and after.startswith("failed")
    verdict = "found" if is_found else "NOT FOUND"
    return {"found": is_found, "verdict": f"{verdict}: as it is {before}, undone {after}", "tests": tests}


def ended(root: Path, tests: str) -> str:
    """How the tests end, and what pytest says in its last line."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "--no-header",
        "-p",
        "no:cacheprovider",
        f"--timeout={HANGS}",
        *ONE_PROCESS,
    ]
    env = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, "-m", "not sweep", tests], cwd=root, env=env, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"failed: no end in {SECONDS} s"
    last = (done.stdout.strip().splitlines() or [""])[-1].strip("= ")
    return f"{ {0: 'passed', 1: 'failed'}.get(done.returncode, f'ended with {done.returncode}') }: {last}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", default=list(UNDONE), metavar="NAME")
    parser.add_argument("--out", type=Path, default=REPO / "build/undone.json")
    asked = parser.parse_args()
    sys.exit(main(asked.names, asked.out))
