"""Meta-training: the loop, its checkpoints, its processes, and the choice of what is kept."""
