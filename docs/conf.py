"""How Sphinx builds the documentation; ``make docs`` calls it."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# Autodoc looks at the columns of the mixins, which SQLAlchemy takes for a mistake.
warnings.filterwarnings("ignore", "Unmanaged access of declarative attribute")

project = "Flask-DBKit"
author = "Flask-DBKit contributors"
copyright = "Flask-DBKit contributors"  # noqa: A001 - Sphinx wants this name
release = version = installed_version("flask-sqlalchemy-dbkit")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "from_code",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

# Types stand in the signature; the docstrings tell what they cannot.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"Flask-DBKit {release}"
html_static_path: list[str] = []
# Snippets are Python unless a block says otherwise.
highlight_language = "python"
