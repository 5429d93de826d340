"""Every page of the site in a browser without a screen: what a reader on a phone, or without a network, would miss.

    mkdocs build --strict && python scripts/check_site.py            # all pages of site/; or those named
    python scripts/check_site.py --pictures FOLDER index.html        # also as pictures, on both screens, light and dark

A page fails that writes an error or a warning to the console, asks anything but its own files, is wider than a phone of
390 points or hides what is, or has a picture that is missing or without words. The search has to find a page. Pages
are opened as files: nothing listens to a port, and chromium is driven through two pipes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SITE = Path(__file__).parents[1] / "site"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PHONE, DESKTOP = (390, 844), (1280, 900)
PATIENCE = 30.0  # seconds for one answer
LOOK = """(() => {
  const width = document.documentElement.clientWidth, faults = [];
  const wide = document.scrollingElement.scrollWidth;
  if (wide > WIDTH) faults.push(`${wide} points wide on a phone of WIDTH`);
  const scrolls = (e) => e && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of document.querySelectorAll("article *"))
    if (e.getBoundingClientRect().right > width + 1 && e.getClientRects().length && !scrolls(e))
      faults.push(`<${e.localName}> is cut: ${e.textContent.trim().slice(0, 40)}`);
  for (const e of document.images) {
    if (!e.alt.trim()) faults.push(`picture without words: ${e.src}`);
    if (e.complete && !e.naturalWidth) faults.push(`missing picture: ${e.src}`);
  }
  if (!document.title || !document.documentElement.lang) faults.push("no title, or no language");
  return faults;
})()"""
SEARCH = """(async () => {
  const box = document.querySelector("[data-md-component=search-query]");
  box.focus();
  box.value = "WORD";
  box.dispatchEvent(new Event("keyup", {bubbles: true}));
  box.dispatchEvent(new Event("input", {bubbles: true}));
  for (let i = 0; i < 100; i++) {
    await new Promise((next) => setTimeout(next, 100));
    const found = [...document.querySelectorAll(".md-search-result__link")];
    if (found.length) return found.map((link) => link.getAttribute("href"));
  }
  return [];
})()"""


class Browser:
    """One tab of chromium, spoken to in its own language (Chrome DevTools Protocol) through two pipes."""

    def __init__(self, sending: int, receiving: int) -> None:
        self.sending, self.receiving = os.fdopen(sending, "wb"), receiving
        self.rest, self.count, self.events = b"", 0, []  # type: bytes, int, list[dict[str, Any]]
        self.session = ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        forget = "try { localStorage.clear() } catch {}"  # which colours another page was shown in
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=forget)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; events that come before it are kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.sending.write(json.dumps(message).encode() + b"\0")
        self.sending.flush()
        while (answer := self.next()).get("id") != self.count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def next(self) -> dict[str, Any]:
        """One message of the browser."""
        while b"\0" not in self.rest:
            part = os.read(self.receiving, 1 << 20)
            if not part:
                raise RuntimeError("chromium has ended")
            self.rest += part
        line, self.rest = self.rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def value(self, script: str) -> Any:
        """What a script says on the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def show(self, page: Path, size: tuple[int, int], dark: bool = False) -> None:
        """Open a page on a screen of so many points, and wait until it is there with all that it asks for."""
        self.events.clear()
        is_phone = size[0] < 500
        shape = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": is_phone}
        self.ask("Emulation.setDeviceMetricsOverride", **shape)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=page.resolve().as_uri())
        begun = time.monotonic()
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.next())
            if time.monotonic() - begun > PATIENCE:
                raise RuntimeError(f"{page}: does not load")
        self.value("new Promise((next) => setTimeout(next, 100))")  # what its scripts do then

    def picture(self, file: Path) -> None:
        """What is seen now, as PNG."""
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A chromium of its own, ended afterwards."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is installed")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        words = [program, *FLAGS, f"--user-data-dir={home}", "about:blank"]
        ends = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(["bash", "-c", ends, "bash", *words], pass_fds=(theirs_in, theirs_out), **silent)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(ours_out, ours_in)
        finally:
            process.terminate()
            process.wait(PATIENCE)
            os.close(ours_in)


def complaints(events: list[dict[str, Any]], site: Path) -> list[str]:
    """What a page has written to the console, and what it has asked that is not of the site."""
    found, home = [], site.resolve().as_uri()
    for event in events:
        about = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            found.append(f"exception: {about['exceptionDetails'].get('exception', {}).get('description', '')}")
        elif event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            found.append(f"console: {[part.get('value') for part in about['args']]}")
        elif event["method"] == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            found.append(f"console: {about['entry']['text']} {about['entry'].get('url', '')}")
        elif event["method"] == "Network.requestWillBeSent":
            url = about["request"]["url"]
            if not url.startswith((home, "data:", "about:", "blob:")):
                found.append(f"asks {url}")
    return found


def all_pages(site: Path) -> list[Path]:
    """Every page but that of a missing address, which a server sends and no link names."""
    return sorted(page for page in site.rglob("*.html") if page.name != "404.html")


def faults(tab: Browser, page: Path, site: Path) -> list[str]:
    """What is wrong with one page, on a phone."""
    tab.show(page, PHONE)
    seen = tab.value(LOOK.replace("WIDTH", str(PHONE[0])))
    return [*seen, *complaints(tab.events, site)]


def found_by_search(tab: Browser, page: Path, word: str) -> list[str]:
    """Addresses that the search of a page answers, on a desktop."""
    tab.show(page, DESKTOP)
    links: list[str] = tab.value(SEARCH.replace("WORD", word))
    return links


def pictures(tab: Browser, page: Path, folder: Path) -> None:
    """A page on both screens, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in (("phone", PHONE), ("desktop", DESKTOP)):
        for dark in (False, True):
            tab.show(page, size, dark)
            tab.picture(folder / f"{page.stem}-{name}-{'dark' if dark else 'light'}.png")


def main() -> int:
    """Look at the pages, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="below the site; all if none is named")
    parser.add_argument("--site", type=Path, default=SITE)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the pages")
    asked = parser.parse_args()
    pages = [asked.site / page for page in asked.pages] or all_pages(asked.site)
    if not pages:
        sys.exit(f"{asked.site}: no pages: mkdocs build --strict")
    bad = 0
    with browser() as tab:
        for page in pages:
            for fault in faults(tab, page, asked.site):
                bad += 1
                print(f"{page.relative_to(asked.site)}: {fault}")
            if asked.pictures:
                pictures(tab, page, asked.pictures)
        if not any("pressure" in link or "multigrid" in link for link in found_by_search(tab, pages[0], "multigrid")):
            bad += 1
            print("the search finds no page about multigrid")
    print(f"{len(pages)} pages, {bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
