"""Kinds of examples: how each is read, packed, normalised, augmented, shown, and taken into a graph."""
