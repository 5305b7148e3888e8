"""Putting a page together from its template, style, scripts and data."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_SHARED_SCRIPTS = ("data.js", "criteria.js", "format.js", "thumbnails.js", "table.js", "scatter.js")


def render_page(kind: Literal["report", "compare"], *, title: str, payload: dict[str, Any]) -> str:
    """Return a whole page as text.

    The page's content security policy allows the scripts that are put in here, by their hashes, and
    nothing from the network.

    Args:
        kind: Which page.
        title: Its title, plain text.
        payload: Its data, as `build_payload` returns it.
    """
    own = [_read(name) for name in (*_SHARED_SCRIPTS, "controls.js", f"{kind}.js")]
    scripts = [get_plotlyjs(), "(() => {\n'use strict';\n" + "\n".join(own) + "\n})();"]
    scripts = [script.replace("\r\n", "\n") for script in scripts]  # as a browser hashes them
    template = _environment().get_template(f"{kind}.html.j2")
    return template.render(
        title=title,
        # Our own files and plotly's, which must reach the browser as they are.
        style=Markup(_read("page.css")),
        scripts=[Markup(script) for script in scripts],
        script_sources=Markup(" ".join(_hash_source(script) for script in scripts)),
        payload=Markup(embed_json(payload)),
    )


def embed_json(data: Any) -> str:
    """Return data as JSON that is safe inside a ``<script>`` element.

    ``<``, ``>`` and ``&`` are written as escapes, so that no text in the data can end the element.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("filterwatch.visuals", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read(name: str) -> str:
    return (files("filterwatch.visuals") / "templates" / name).read_text(encoding="utf-8")


def _hash_source(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
