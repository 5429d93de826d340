"""The site: built without a warning, and looked at in a browser without a screen, as `scripts/check_site.py` does."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs import PATIENCE, ROOT

SPEC = importlib.util.spec_from_file_location("check_site", ROOT / "scripts/check_site.py")
check_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_site)
PAGES = ["index.html", "tutorials/channel.html", "reference/cases.html", "reference/case.html", "results/measured.html"]
NARROW_AND_WHOLE = """<!doctype html><html lang="en"><title>t</title><meta name="viewport" content="width=device-width">
<article>%s</article>"""
FAULTY = {
    '<div style="width: 700px">wide</div>': "points wide on a phone",
    '<div style="overflow: hidden"><table style="width: 700px"><tr><td>cut</table></div>': "<table> is cut: cut",
    '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">': "picture without words",
    '<img src="nowhere.png" alt="words">': "missing picture",
    '<script src="https://example.org/library.js"></script>': "asks https://example.org/library.js",
    '<script>console.error("lost")</script>': "console: ['lost']",
    "<script>nowhere()</script>": "exception: ReferenceError",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, built strictly; no warning is said."""
    pytest.importorskip("material", reason="pip install mkdocs-material")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


@pytest.fixture(scope="module")
def tab() -> Iterator[check_site.Browser]:
    if not any(map(shutil.which, check_site.NAMES)):
        pytest.skip("no chromium: apt-get install chromium")
    with check_site.browser() as opened:
        yield opened


def test_every_page_is_there(site):
    pages = {str(page.relative_to(ROOT / "docs").with_suffix(".html")) for page in (ROOT / "docs").rglob("*.md")}
    built = {str(page.relative_to(site)) for page in check_site.all_pages(site)}
    assert {page.replace("README", "index") for page in pages} == built


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_readable_on_a_phone_and_asks_for_nothing(site, tab, page):
    assert check_site.faults(tab, site / page, site) == []


@pytest.mark.slow
def test_the_search_works_without_a_server(site, tab):
    found = check_site.found_by_search(tab, site / "tutorials" / "channel.html", "multigrid")
    assert any(link.split("#")[0].split("?")[0].endswith("0010-multigrid.html") for link in found), found
    assert check_site.complaints(tab.events, site) == []


@pytest.mark.slow
def test_what_is_wrong_is_found(tab, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(NARROW_AND_WHOLE % "<p>right</p>")
    assert check_site.faults(tab, page, tmp_path) == []
    for wrong, words in FAULTY.items():
        page.write_text(NARROW_AND_WHOLE % wrong)
        found = check_site.faults(tab, page, tmp_path)
        assert any(words in fault for fault in found), (wrong, found)
