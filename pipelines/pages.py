"""Pages of HTML: their templates, and the policy that lets a page run and show only what is its own."""

import base64
import hashlib
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("celebface.pipelines"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def render(template: str, **values: Any) -> str:
    """Fills in a template; whatever the values hold, they are text."""
    return _ENVIRONMENT.get_template(template).render(**values)


def source(*templates: str) -> str:
    """Style or script as it stands, of one file or of several in a row."""
    assert _ENVIRONMENT.loader is not None
    return "".join(_ENVIRONMENT.loader.get_source(_ENVIRONMENT, name)[0] for name in templates)


def digest(text: str) -> str:
    """What a Content-Security-Policy names an inline style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
