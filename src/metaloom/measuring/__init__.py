"""How long a run is going to take here, measured on a few steps, and how much work fits into so many minutes."""
