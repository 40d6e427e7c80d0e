"""How Sphinx builds the documentation; ``make docs`` calls it.

Pages are plain Markdown: what is made from code is in them already (``tools/pages.py``), so that
building them needs neither the library nor a database driver.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

project = "Flask-DBKit"
author = "Flask-DBKit contributors"
copyright = "Flask-DBKit contributors"  # noqa: A001 - Sphinx wants this name
release = version = tomllib.loads((_HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]["version"]

extensions = ["myst_parser", "sphinx_copybutton"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"Flask-DBKit {release}"
html_static_path: list[str] = []

_REDIRECT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Moved</title>
<link rel="canonical" href="{target}">
<script>
const moved = {anchors};
const old = location.hash.slice(1);
location.replace(old in moved ? moved[old] : old ? "{page}#" + old : "{target}");
</script>
<noscript><meta http-equiv="refresh" content="0; url={target}"></noscript>
</head>
<body><p>This page is now <a href="{target}">here</a>.</p></body>
</html>
"""


def redirects() -> dict[str, str]:
    """Return the pages that lead from addresses of earlier versions to those of this one."""
    pages = {}
    for old, new in json.loads((_HERE / "redirects.json").read_text(encoding="utf-8")).items():
        up = "../" * old.count("/")
        page = f"{up}{new['page']}.html"
        anchors = {
            name: f"{up}{to.replace('#', '.html#')}" if "#" in to else f"{page}#{to}"
            for name, to in new["anchors"].items()
        }
        target = f"{page}#{new['anchor']}" if new["anchor"] else page
        pages[old] = _REDIRECT.format(target=target, page=page, anchors=json.dumps(anchors))
    return pages


def _write_redirects(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for old, text in redirects().items():
            path = Path(app.outdir) / f"{old}.html"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Write the redirects beside the pages."""
    app.connect("build-finished", _write_redirects)
