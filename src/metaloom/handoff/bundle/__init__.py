"""A bundle: what is in it, how it is written, verified, looked into and asked."""
