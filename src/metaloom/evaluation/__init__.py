"""Figures over fixed episodes, and how sure one can be of them."""
