"""Files, locks, processes, devices, terminal and git: nothing here knows of learning."""
