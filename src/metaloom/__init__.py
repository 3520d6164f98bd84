"""metaloom: an MLOps workflow that meta-learns."""

__version__ = "0.1.0"
