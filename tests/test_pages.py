"""What every page has in common: nothing from elsewhere, names that stay names, equal bytes."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from components.pages import page, svg
from components.pages.page import render, short

STYLE = page.SHARED["style.css"].read_text()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(
        '{% extends "base.html" %}{% from "parts.html" import facts, tile %}{% block kind %}Test{% endblock %}'
        "{% block content %}{{ tile(name, 1, 2) }}{{ facts(items) }}{{ picture }}{% endblock %}"
    )
    return path


def test_names_stay_names_and_the_page_needs_nothing_else(template: Path) -> None:
    evil = '"><script>alert(1)</script>'
    values = {"title": evil, "name": evil, "items": [(evil, evil)], "picture": Markup("<svg></svg>")}
    made = render(template, **values)
    assert made == render(template, **values)
    assert "<script" not in made and made.count("&lt;script&gt;") == 4
    assert "<svg></svg>" in made, "a drawing of ours is markup"
    assert STYLE in made and "default-src 'none'" in made
    assert not re.search(r"""(?:src|href)=|url\(|@import""", made)


def test_a_value_that_was_forgotten_is_an_error_of_ours(template: Path) -> None:
    with pytest.raises(UndefinedError, match="picture"):
        render(template, title="t", name="n", items=[])


def test_numbers_and_digests_are_short() -> None:
    assert (short(1 / 3), short(12345), short("a" * 64)) == ("0.3333", "12345", "a" * 16 + "…")
    assert short("A" * 64) == "A" * 64, "no digest of ours"


def test_every_colour_is_named_for_light_and_for_dark() -> None:
    light, dark = (
        set(re.findall(r"--([a-z-]+): #", part)) for part in STYLE.split("@media (prefers-color-scheme: dark)")[:2]
    )
    assert light == dark
    assert set(re.findall(r"var\(--([a-z-]+)\)", STYLE)) <= light | {"mono"}


def test_drawings_escape_names() -> None:
    drawn = svg.drawing(10, 20, [svg.text(1, 2.25, "<b>&", "name"), svg.bar("bar", 0, 0, 0.2, 10)], '"<i>')
    assert drawn == (
        '<svg viewBox="0 0 10 20" role="img" aria-label="&#34;&lt;i&gt;">'
        '<text class="name" x="1.0" y="2.2" text-anchor="start">&lt;b&gt;&amp;</text>'
        '<rect class="bar" x="0.0" y="0.0" width="1.0" height="10.0" rx="5"/></svg>'
    )
