"""Templates filled into one page that needs nothing else; whatever comes from data is escaped."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from metaloom.system import quantities
from metaloom.system.plural import several


def fill(template: str, parts: dict[str, Any], **more: Any) -> str:
    """Fill a template of this room.

    Args:
        template: its file.
        parts: what it shows, by the names that it knows it by.
        more: what the templates that it includes know too.
    """
    environment = Environment(
        loader=PackageLoader("metaloom.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        quantities=quantities,
        several=several,
        style=Markup(_source(environment, "style.css")),
        script=Markup(_source(environment, "page.js")),
        script_hash=_integrity(_source(environment, "page.js")),
        **more,
    )
    return environment.get_template(template).render(parts)


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _integrity(script: str) -> str:
    """Lets the page run this one script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
