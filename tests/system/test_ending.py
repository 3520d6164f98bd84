"""SIGTERM, and once more: `timeout` sends it to a process and then to its group."""

from __future__ import annotations

import subprocess
import sys

TWICE = """
import os, signal, sys, time
from metaloom.system import ending

ended = []
ending.end_after = lambda: ended.append(True)
signal.signal(signal.SIGTERM, lambda *_: None)
ending.end_after_sigterm()
os.kill(os.getpid(), signal.SIGTERM)
deadline = time.monotonic() + 30
while not ended and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.2)  # its thread ends, if it does
files = [open(sys.argv[1] + str(each), "wb", buffering=0) for each in range(20)]  # take any descriptor that is free
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
print(len(ended), [os.path.getsize(file.name) for file in files if os.path.getsize(file.name)])
"""


def test_a_second_signal_is_written_into_no_file_of_ours(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path / "file")], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1 []\n", "", 0)
