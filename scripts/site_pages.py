"""A hook of MkDocs: no page of docs/ is missing on the site; decisions come after their index, by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Adds to the navigation the decisions, and what mkdocs.yml does not name."""
    docs = Path(config["docs_dir"])
    there = sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))
    decisions = [page for page in there if page.startswith("decisions/")]
    decisions.sort(key=lambda page: not page.endswith("README.md"))  # the index first
    more = [page for page in there if page not in {*named(config["nav"]), *decisions}]
    config["nav"] += [{"Decisions": decisions}] + ([{"More": more}] if more else [])
    return config


def named(item: Any) -> list[str]:
    """The pages in a part of the navigation."""
    if isinstance(item, str):
        return [item]
    return [page for part in (item.values() if isinstance(item, dict) else item) for page in named(part)]
