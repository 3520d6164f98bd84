"""The stages of dvc.yaml, run one by one, each in a process of its own, and what a run says at its end."""
