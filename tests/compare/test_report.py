"""The report: self-contained, readable without seeing, the same numbers everywhere, and sortable in a browser."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from closures.compare import compare
from closures.compare.methods import bibtex, paragraph
from closures.compare.report import markdown
from tests.compare.ensembles import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"]
PATIENCE = 120  # seconds
SMAGORINSKY = {"uv": -0.2, "v_rms": -0.1, "sgs_share": 0.3}
CLICK = """<script>
const heads = document.querySelectorAll("#errors thead button");
const order = () => [...document.querySelectorAll("#errors tbody tr")].map(row => row.dataset.member).join(",");
const seen = [order()];
for (const i of [3, 3, 0]) { heads[i].click(); seen.push(order()); }
document.title = seen.join(" | ");
</script>"""


class Page(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.cells: dict[str, dict[str, dict[str, str]]] = {}
        self.open: list[str] = []
        self.member = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = {key: value or "" for key, value in attrs}
        self.links += [found[key] for key in ("src", "href", "srcset", "action", "data") if key in found]
        if tag == "img":
            self.images.append(found)
        if tag == "tr":
            self.member = found.get("data-member", "")
        if tag == "td" and self.member and "data-key" in found:
            self.cells.setdefault(self.member, {})[found["data-key"]] = found
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    runs = [
        write_run(folder / "none", "none", 5, {"w_rms": 0.12}),
        write_run(folder / "wale", "wale", 5),
        write_run(folder / "smagorinsky", "smagorinsky", 5, SMAGORINSKY, seconds_per_step=0.013),
        write_run(folder / "vreman", "vreman", 5, status="diverged", statistics=False),
    ]
    return compare(runs, reference="MKM180", out=folder / "report")


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page((report / "report.html").read_text(encoding="utf-8"))


def test_it_needs_nothing_from_anywhere(report, page):
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert not page.open
    text = (report / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|https?://", text)


def test_every_figure_has_an_alternative_text_with_its_facts(report, page):
    assert {path.stem for path in (report / "figures").glob("*.png")} >= {"errors", "profiles", "cost", "subgrid"}
    text = unescape((report / "report.html").read_text(encoding="utf-8"))
    assert len(page.images) == len(list((report / "figures").glob("*.png")))
    for image in page.images:
        assert len(image["alt"]) > 40
        assert "smagorinsky" in image["alt"]
        assert "vreman" not in image["alt"]  # it has no numbers to draw
        assert text.count(image["alt"]) == 1  # the caption does not repeat it
    assert any(image["alt"].startswith("Five panels: mean velocity") for image in page.images)


def test_rows_equal_the_json(report, page):
    record = json.loads((report / "report.json").read_text())
    assert [row["label"] for row in record["rows"]] == ["none", "wale", "smagorinsky", "vreman"]
    for row in record["rows"]:
        cells = page.cells[row["label"]]
        assert list(cells) == [q["key"] for q in record["quantities"]]
        for key, cell in cells.items():
            expected = row["errors"][key]["value"] if row["errors"] else None
            assert (float(cell["data-value"]) if cell["data-value"] else None) == expected
            word = row["words"].get(key, "")
            assert cell["class"] == word.replace(" ", "-")


def test_csv_and_markdown_say_the_same(report):
    record = json.loads((report / "report.json").read_text())
    with (report / "table.csv").open() as file:
        table = {(line["member"], line["quantity"]): line for line in csv.DictReader(file)}
    text = (report / "summary.md").read_text()
    for row in record["rows"]:
        line = next(x for x in text.splitlines() if x.startswith(f"| {row['label']} |"))
        for q in record["quantities"]:
            cell = table[row["label"], q["key"]]
            assert cell["word"] == row["words"].get(q["key"], "")
            if row["errors"]:
                error = row["errors"][q["key"]]
                assert float(cell["value"]) == pytest.approx(error["value"], rel=1e-8)
                assert f"{100 * error['value']:.1f} ± {100 * error['ci95']:.1f}" in line
            else:
                assert math.isnan(float(cell["value"]))


def test_what_closures_carry_is_told_and_not_judged(report, page):
    record = json.loads((report / "report.json").read_text())
    rows = {row["label"]: row.get("subgrid") for row in record["rows"]}
    share = rows["smagorinsky"]["share_at_y_plus_15"]
    assert share["value"] == pytest.approx(0.3)
    assert 0 <= share["ci95"] < 1e-6
    assert rows["smagorinsky"]["work_mean"]["value"] > 0
    assert rows["none"]["share_at_y_plus_15"]["value"] == 0
    assert rows["vreman"] is None
    assert not any("sgs" in q["key"] or "work" in q["key"] for q in record["quantities"])
    (picture,) = [image["alt"] for image in page.images if "share at y+ = 15" in image["alt"]]
    assert "smagorinsky 30, " in picture


def test_a_narrow_terminal_costs_quantities_never_names(report):
    """At 80 columns every closure, its status and the leading error are there; what is not is named."""
    record = json.loads((report / "report.json").read_text())
    whole, narrow = markdown(record), markdown(record, 80)
    assert max(map(len, (line for line in whole.splitlines() if line.startswith("|")))) > 120
    table = [line for line in narrow.splitlines() if line.startswith("|")]
    assert max(map(len, table)) <= 80
    assert table[0].startswith(f"| closure | status | {record['quantities'][0]['label']}")
    for row in record["rows"]:
        assert any(line.startswith(f"| {row['label']} | {row['status']}") for line in table)
    (left_out,) = (line for line in narrow.splitlines() if line.startswith("Too wide"))
    shown = table[0].split(" | ")
    assert all(q["label"] in left_out or any(q["label"] in head for head in shown) for q in record["quantities"])
    assert markdown(record, 400) == whole
    assert any(line.startswith("| smagorinsky |") for line in markdown(record, 15).splitlines())


def test_the_paragraph_for_a_paper_says_what_the_record_says(report):
    record = json.loads((report / "report.json").read_text())
    said = paragraph(record)
    assert "with none, wale, smagorinsky and vreman; all else was the same" in said
    assert f"against {record['reference']['citation']}" in said
    assert "Not finished: vreman (diverged at t = " in said
    assert "initial fields" not in said  # one of each
    other = record | {"differences": [{"key": "flow.nu", "values": []}, {"key": "closure.name", "values": []}]}
    assert "vreman; the cases also differ in flow.nu." in paragraph(other)
    assert bibtex(record).startswith("@software{les_solver,")
    assert "(commit 0123456789)" in said
    assert "note = {commit 0123456789}" in bibtex(record)
    installed = record | {"provenance": [p | {"commit": "unknown"} for p in record["provenance"]]}  # from a wheel
    assert "commit" not in paragraph(installed) + bibtex(installed)
    assert bibtex(record).count("{") == bibtex(record).count("}")
    assert ("@article{moser1999," in bibtex(record)) == record["reference"]["citation"].startswith("Moser, Kim")
    text = unescape((report / "report.html").read_text(encoding="utf-8"))
    assert said in text
    assert bibtex(record) in text


def test_trainings_of_one_network_are_told_together(tmp_path):
    """Mean and Student's interval of their scatter; a closure that was trained once is not among them."""
    folders = [
        write_run(tmp_path / word, "wale", 5, {"v_rms": bias}) for word, bias in (("a", 0.1), ("b", 0.2), ("c", 0.4))
    ]
    for folder, weights in zip(folders, ("0123456789", "4567890123", "89abcdef01"), strict=True):
        facts = json.loads((folder / "provenance.json").read_text())
        (folder / "provenance.json").write_text(json.dumps(facts | {"closure": {"weights_sha256": weights}}))
    out = compare([write_run(tmp_path / "none", "none", 5), *folders], reference="MKM180", out=tmp_path / "report")
    record = json.loads((out / "report.json").read_text())
    (found,) = record["trainings"]
    rows = [row for row in record["rows"] if row["label"] in found["members"]]
    assert (found["label"], len(rows)) == ("wale", 3)
    values = np.array([row["errors"]["v_rms"]["value"] for row in rows])
    assert found["errors"]["v_rms"]["value"] == pytest.approx(values.mean())
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    assert found["errors"]["v_rms"]["ci95"] == pytest.approx(half)
    assert half > 0.1
    assert "wale was trained 3 times." in (text := unescape((out / "report.html").read_text(encoding="utf-8")))
    assert '<table id="trainings">' in text
    assert "**wale**, mean over 3 trainings: " in (out / "summary.md").read_text()


def test_verdicts_in_words(report):
    record = json.loads((report / "report.json").read_text())
    verdicts = {row["label"]: row["verdict"] for row in record["rows"]}
    assert verdicts["none"] == "the baseline"
    assert verdicts["wale"].startswith("Better: ")
    assert "w'" in verdicts["wale"].partition(".")[0]
    assert re.search(r"Worse: .*-uv", verdicts["smagorinsky"])
    assert verdicts["vreman"] == "diverged at t = 103.5: worse than any number"
    assert {p["word"] for p in record["pairs"]} <= {"better", "worse", "not distinguishable"}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser_it_sorts_without_errors(report, tmp_path):
    record = json.loads((report / "report.json").read_text())
    text = (report / "report.html").read_text(encoding="utf-8")
    file = tmp_path / "report.html"
    file.write_text(text.replace("</body>", CLICK + "</body>"), encoding="utf-8")
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found, done.stderr
    given, up, down, names = (order.split(",") for order in found[1].split(" | "))
    column = record["quantities"][1]["key"]
    rows = {row["label"]: row["errors"] and row["errors"][column]["value"] for row in record["rows"]}
    numbers = sorted((label for label, value in rows.items() if value is not None), key=rows.__getitem__)
    assert given == list(rows)
    assert up == [*numbers, "vreman"]
    assert down == [*numbers[::-1], "vreman"]
    assert names == sorted(rows)
