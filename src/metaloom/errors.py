"""The one exception that a user is meant to see, and the exit codes."""

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class MetaloomError(Exception):
    """Something the user can fix: the message says what was wrong, where, and what to do.

    The command line prints it as one line without a traceback and exits with `BAD_INPUT`.
    """


ERROR_FILE = "METALOOM_ERROR_FILE"  # where a stage leaves its message when a flow runs it, which prints it once
