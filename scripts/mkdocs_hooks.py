"""Hooks of the documentation site, see mkdocs.yml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Docstrings name objects with Sphinx roles, which Markdown shows as text.
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the notebooks of the repository as pages."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        page = "\n\n".join(notebook_blocks(json.loads(path.read_text("utf-8"))))
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to notebooks to their pages."""
    return re.sub(r"\]\(\.\./(examples/\w+)\.ipynb\)", r"](\1.md)", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show a Sphinx role as the name that it refers to."""
    return ROLE.sub("<code>", html)


def notebook_blocks(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield the cells of a notebook and their outputs as Markdown."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = source.replace("](../docs/", "](../")
            yield re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source)
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" in data:
                yield "".join(data["text/html"])
            elif "image/png" in data:
                url = f"data:image/png;base64,{''.join(data['image/png']).strip()}"
                yield f'<img alt="figure" src="{url}">'
            else:
                text = output.get("text") or data["text/plain"]
                yield f"```text\n{''.join(text).rstrip()}\n```"
