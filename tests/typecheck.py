"""Annotations are checked on every test run, as a type checker reads them: an int is a float."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
