"""Files, locks, processes, devices, terminal, git, and numbers in words: nothing here knows of learning."""
