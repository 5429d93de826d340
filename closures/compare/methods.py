"""What a paper says of a comparison: a paragraph of methods, and BibTeX, to paste and to correct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closures.compare.runs import UNKNOWN
from solver import __version__

SOFTWARE = """@software{{les_solver,
  title = {{les-solver: large-eddy simulation with learned closures in the loop}},
  author = {{{{the les-solver authors}}}},
  version = {{{version}}}{note}
}}"""
ARTICLES = {  # of references, by the beginning of their citation
    "Moser, Kim & Mansour (1999)": """@article{moser1999,
  title = {Direct numerical simulation of turbulent channel flow up to {Re}_tau = 590},
  author = {Moser, Robert D. and Kim, John and Mansour, Nagi N.},
  journal = {Physics of Fluids},
  volume = {11},
  number = {4},
  pages = {943--945},
  year = {1999}
}""",
}


def paragraph(record: Mapping[str, Any]) -> str:
    """What was done, in words: nothing in it that the record does not say."""
    rows, reference = record["rows"], record["reference"]
    sound = [row for row in rows if row["averaging_time"]]
    grid, labels = " x ".join(map(str, record["grid"])), _listed([row["label"] for row in rows])
    others = [d["key"] for d in record["differences"] if not d["key"].startswith(("closure", "initial.seed"))]
    rest = f"the cases also differ in {_listed(others)}" if others else "all else was the same"
    commits = f" (commit {found})" if (found := _commits(record)) else ""
    code = f"les-solver {__version__}{commits}"
    said = [f"{record['title']} was simulated on {grid} points with {code}, with {labels}; {rest}."]
    seeds = max(len(row["seeds"]) for row in rows)
    if seeds > 1:
        said.append(f"Each was run from {seeds} initial fields that differ in their random numbers.")
    said += [f"{found['label']} was trained {len(found['members'])} times." for found in record.get("trainings", ())]
    if sound:
        times = [row["averaging_time"] for row in sound]
        said.append(f"Averages are over {_range(times)} time units of the case in all.")
    if reference:
        basis = f", {reference['basis']}" if reference.get("basis") else ""
        said.append(f"Errors are against {reference['citation']}{basis}, with 95 % intervals from batches of time.")
        said.append(
            f"A closure is called better or worse than '{record['baseline']}' where the difference is significant"
        )
        said.append("at 5 % after Holm's correction for all quantities and closures of the table, and larger than that")
        said.append("between references.")
    broken = [f"{row['label']} ({row['status']})" for row in rows if row["status"] != "finished"]
    if broken:
        said.append(f"Not finished: {_listed(broken)}.")
    return " ".join(said)


def bibtex(record: Mapping[str, Any]) -> str:
    """The software at the commit of the runs, and the reference where it is known."""
    note = f",\n  note = {{commit {found}}}" if (found := _commits(record)) else ""
    entries = [SOFTWARE.format(version=__version__, note=note)]
    citation = (record["reference"] or {}).get("citation", "")
    return "\n\n".join(entries + [entry for name, entry in ARTICLES.items() if citation.startswith(name)])


def _commits(record: Mapping[str, Any]) -> str:
    """Those that are known: a wheel has the version alone."""
    return ", ".join(sorted({str(origin["commit"]) for origin in record["provenance"]} - {UNKNOWN}))


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
