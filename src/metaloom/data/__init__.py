"""Sources of examples, what is wrong with them, and the packed form that everything else reads."""
