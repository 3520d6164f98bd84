"""A pull step for Prefect's workers, for the deployments of prefect.yaml."""

from __future__ import annotations

from metaloom.retraining import clones


def clone(
    repository: str, branch: str = "", commit: str = "", folder: str = "", handover: float = 10
) -> dict[str, str]:
    """Clone the project below the worker's folder, or bring its clone up to date, and `dvc pull`.

    Prefect's own `git_clone` removes a clone that it cannot fetch, and with it what a retraining has left there.

    Args:
        repository: the URL, as `git clone` takes it.
        branch: that is retrained; empty: the repository's own.
        commit: that is retrained, whatever has come since; empty: the newest of the branch.
        folder: of the project in the repository; empty: its root.
        handover: minutes between copies of half-done training in the remotes, for other workers; 0: none.

    Returns:
        `directory`: of the project, where Prefect runs the flow.

    Raises:
        MetaloomError: git or DVC refuses.
    """
    return {"directory": str(clones.clone(repository, branch, commit, folder, handover))}
