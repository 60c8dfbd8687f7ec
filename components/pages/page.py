"""Pages from Jinja2 templates. Each is one file that needs no network, in light and dark, on wide and narrow screens."""

import re
from pathlib import Path
from typing import Any, Final

SHARED: Final = {name: Path(__file__).with_name(name) for name in ("base.html", "parts.html", "style.css")}
"""What every template may extend, import or include."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def render(template: Path, **values: Any) -> str:
    """Return a page; equal values give equal text.

    Args:
        template: extends base.html.
        values: what it shows. Text is escaped; only `markupsafe.Markup` is taken for HTML.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined

    files = {**SHARED, template.name: template}
    environment = Environment(
        loader=DictLoader({name: path.read_text(encoding="utf-8") for name, path in files.items()}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["short"] = short
    return environment.get_template(template.name).render(values)


def short(value: Any) -> str:
    """Return a value as a person wants to read it: four figures, and of a sha256 the beginning."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return f"{text[:16]}…" if _DIGEST.fullmatch(text) else text
