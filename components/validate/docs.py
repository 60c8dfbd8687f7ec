"""The data docs of Great Expectations, made self-contained and reproducible.

As rendered, the pages load style sheets, scripts and a logo from other hosts (without a network they
are bare text) and contain the time of the run and random ids (equal data would give other bytes).
"""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

DOCS_TIME: Final = "2000-01-01T00:00:00+00:00"  # stands for "no time": the pages depend on the data alone
_SHEET: Final = "docs.css"
_STYLE: Final = Path(__file__).with_name(_SHEET)
_SCRIPT: Final = """<script>
function show(failedOnly) {
  document.querySelectorAll('.hide-succeeded-validation-target-child').forEach(
    mark => mark.parentElement.style.display = failedOnly ? 'none' : '');
}
function showAllValidations() { show(false); }
function hideSucceededValidations() { show(true); }
</script>"""
_REMOVED: Final = (
    r'<link rel="stylesheet"[^>]*https://[^>]*>',
    r'<script[^>]*src="https://[^"]*"[^>]*>\s*</script>',
    r"<script>\s*function showAllValidations.*?</script>",
    r"<footer.*?</footer>",
    r'<img\b[^>]*class="NO-CACHE"[^>]*>',
    r"background: url\('https://[^;]*;",
    r" / needledrop / 2000-01-01T00:00:00Z",
    r"<br> Data asset: None",
)
_ENTRY: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="UTF-8"><title>Validation of the manifest</title>
<link rel="stylesheet" href="{sheet}"></head>
<body><nav class="navbar">Validation of the manifest</nav><div class="container">
<table class="table"><thead><tr><th>Status</th><th>Results</th><th>Expectations</th><th>Failed</th><th>Rules</th></tr></thead>
<tbody>{rows}</tbody></table>
<p class="lead">Data docs of Great Expectations.</p></div></body></html>
"""
_ENTRY_ROW: Final = """
<tr><td><i class="fas fa-{mark}"></i></td><td><a href="validations/{name}.html">{name}</a></td>
<td>{count}</td><td>{failed}</td><td><a href="expectations/{name}.html">expectations</a></td></tr>"""
_TIME: Final = r"\b20(?!000101)\d{6}T\d{6}\.\d{6}Z|2000-01-01T00:00:00(\.0+)?(Z|\+00:00)|2000-01-01 00:00:00\S*"
_UUID: Final = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"


def publish(context: Any, failures: Mapping[str, Sequence[bool]], folder: Path) -> None:
    """Render every validation result of ``context`` into ``folder``; the entry is index.html.

    The entry is ours: Great Expectations fills its own with a script from another host.

    Args:
        context: a context that holds the results.
        failures: per suite, whether each expectation failed.
        folder: an empty folder.
    """
    for name, site in dict(context.variables.data_docs_sites or {}).items():
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)  # a temporary folder
        context.delete_data_docs_site(name)
    rows = [
        _ENTRY_ROW.format(name=name, mark="times" if any(each) else "check-circle", count=len(each), failed=sum(each))
        for name, each in failures.items()
    ]
    with tempfile.TemporaryDirectory() as rendered:
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": rendered}
        site = {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
        context.add_data_docs_site("pages", {**site, "store_backend": store, "show_how_to_buttons": False})
        context.build_data_docs(site_names=["pages"])
        for page in sorted(Path(rendered).glob("*/**/*.html")):
            kind, name = page.relative_to(rendered).parts[:2]
            target = folder / kind / Path(name).with_suffix(".html")
            target.parent.mkdir(exist_ok=True)
            target.write_text(plain_page(page.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "index.html").write_text(_ENTRY.format(sheet=_SHEET, rows="".join(rows)), encoding="utf-8")
    (folder / _SHEET).write_bytes(_STYLE.read_bytes())


def plain_page(html: str) -> str:
    """Return a page, one folder deep, without outside resources, times and random ids."""
    for pattern in _REMOVED:
        html = re.sub(pattern, "", html, flags=re.DOTALL)
    html = re.sub(_TIME, "-", html)
    seen: dict[str, str] = {}
    html = re.sub(_UUID, lambda match: seen.setdefault(match[0], f"part-{len(seen) + 1}"), html)
    html = re.sub(r'"(\.\./)+', '"../', html)
    return html.replace("</head>", f'<link rel="stylesheet" href="../{_SHEET}">\n{_SCRIPT}\n</head>', 1)
