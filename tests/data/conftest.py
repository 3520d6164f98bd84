from __future__ import annotations

from small_project import small, template

__all__ = ["small", "template"]
