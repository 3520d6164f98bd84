"""Settings that fit the data: what `auto` stands for, and what of the user's own numbers does not fit."""
