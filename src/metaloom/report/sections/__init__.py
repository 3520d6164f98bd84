"""The parts of the page: each module reads artifacts, returns plain values, and has a template of its name."""
