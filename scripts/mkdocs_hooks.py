"""Hooks of the documentation site, see mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

# Docstrings name objects with Sphinx roles, which Markdown shows as text.
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?")


def on_page_content(html: str, **_: Any) -> str:
    """Show a Sphinx role as the name that it refers to."""
    return ROLE.sub("<code>", html)
