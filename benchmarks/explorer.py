"""The explorer's page in headless Chromium: what a person waits for, from what was asked until it is on the screen.

`python benchmarks/explorer.py [--visits N]` wants playwright, and Debian's chromium.

A visit is a fresh browser that goes to the page's address: the first with an empty profile, the second with what that left; until the
first listing. Then, in one page: a folder of 100,000 entries until its first screen and until its last entry, scrolling it for 3 s, and a
text of 1 MB until it can be read, the first time (which loads the editor) and again. Each beside its bar; nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tarbox_core.drivers import embedded

ROOT: Final = Path(__file__).resolve().parents[1]
BARS: Final = {"first visit": 5000, "second visit": 3000, "100,000 entries": 1000, "1 MB text": 500}  # ms
ENTRIES: Final = 100_000
TEXT: Final = b"".join(b"%07d the quick brown fox jumps over the lazy dog\n" % n for n in range(20_000))[: 1 << 20]

# Resolves at the frame after a condition holds.
UNTIL: Final = """
const frame = () => new Promise(requestAnimationFrame);
const until = async (holds) => { while (!holds()) await frame(); await frame(); return performance.now(); };
const shows = (name) => [...document.querySelectorAll('.list .row:not([hidden]) .name')].some((each) => each.textContent === name);
const edited = () => document.querySelector('.stage .editor')?.shadowRoot?.querySelector('.cm-line')?.textContent;
"""
LISTED: Final = f"async () => {{ {UNTIL} return until(() => shows('big.txt')); }}"
FOLDER: Final = f"""async () => {{ {UNTIL}
  const began = performance.now();
  location.hash = '#/many';
  const first = await until(() => shows('000001'));
  const last = await until(() => document.querySelector('footer.status').textContent.startsWith('100,000'));
  return [first - began, last - began];
}}"""
SCROLLED: Final = f"""async () => {{ {UNTIL}
  const tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({{duration}}) => duration))).observe({{type: 'longtask'}});
  const rows = document.querySelector('.list .rows');
  const frames = [];
  let then = performance.now();
  for (const end = then + 3000; then < end;) {{
    rows.scrollTop += 1500;
    await frame();
    const now = performance.now();
    frames.push(now - then);
    then = now;
  }}
  await new Promise((resolve) => setTimeout(resolve, 100));
  return [frames.length, Math.max(...frames), tasks.length];
}}"""
OPENED: Final = f"""async () => {{ {UNTIL}
  location.hash = '#/';
  await until(() => shows('big.txt'));
  const began = performance.now();
  const name = [...document.querySelectorAll('.list .row:not([hidden]) .name')].find((each) => each.textContent === 'big.txt');
  name.dispatchEvent(new MouseEvent('dblclick', {{bubbles: true}}));
  return (await until(edited)) - began;
}}"""


def prepared(folder: Path, url: str) -> Any:
    """A tenant with a text of 1 MB at its top, and a folder of very many entries."""
    import pg8000.native

    from tests.browser.pages import fill
    from tests.pg.cli import Tarbox

    tarbox = Tarbox(url, folder)
    for words in (["init"], ["tenant", "create", tarbox.tenant], ["mkdir", "/many"], ["write", "/big.txt"]):
        subprocess.run([sys.executable, "-m", "tarbox_cli", *words], input=TEXT, env=tarbox.env, check=True, stdout=subprocess.DEVNULL)
    socket = parse_qs(urlsplit(url).query)["host"][0] + "/.s.PGSQL.5432"
    superuser = pg8000.native.Connection(embedded.SUPERUSER, unix_sock=socket, database="tarbox")
    (stat,) = tarbox.json("stat", "/many")
    fill(superuser, tarbox.tenant, {"ino": stat["inode"], "layer": stat["layer"]}, ENTRIES)
    superuser.run("analyze")
    superuser.close()
    return tarbox


def measure(folder: Path, url: str, visits: int) -> None:
    from playwright.sync_api import sync_playwright

    from tests.browser.pages import STATIC, built, login
    from tests.browser.server import serving

    tarbox = prepared(folder, url)
    built()
    (folder / "static").symlink_to(STATIC)
    found: dict[str, list[float]] = {}
    with serving(tarbox, "--tenant", tarbox.tenant) as server, sync_playwright() as playwright:
        cookies: list[Any] = []

        def visit(profile: Path, work: Any) -> None:
            context = playwright.chromium.launch_persistent_context(str(profile), executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            try:
                context.add_cookies(cookies)
                work(context.new_page())
            finally:
                context.close()

        def admitted(page: Any) -> None:
            login(page, server)
            cookies.extend(page.context.cookies())

        def listed(name: str) -> Any:
            def work(page: Any) -> None:
                page.goto(f"{server.origin}/")
                found.setdefault(name, []).append(page.evaluate(LISTED))

            return work

        def used(page: Any) -> None:
            page.goto(f"{server.origin}/")
            page.evaluate(LISTED)
            found["text, editor too"] = [page.evaluate(OPENED)]
            for _ in range(visits):
                first, last = page.evaluate(FOLDER)
                found.setdefault("100,000 entries", []).append(first)
                found.setdefault("all of them", []).append(last)
                found.setdefault("1 MB text", []).append(page.evaluate(OPENED))
            page.evaluate(FOLDER)
            scrolled.extend(page.evaluate(SCROLLED))

        scrolled: list[float] = []
        visit(folder / "login", admitted)
        for number in range(visits):
            for name in ("first visit", "second visit"):
                visit(folder / f"profile{number}", listed(name))
        visit(folder / "profile0", used)
    for name, times in found.items():
        time = statistics.median(times)
        bar = f"bar {BARS[name]}, ratio {time / BARS[name]:.2f}" if name in BARS else ""
        print(f"{name:<18}{time:>7.0f} ms  {bar:<22} ({', '.join(f'{each:.0f}' for each in times)})")
    frames, longest, tasks = scrolled
    print(f"{'scrolling':<18}{frames / 3:>7.0f} frames/s, the longest {longest:.0f} ms; tasks over 50 ms: {tasks:.0f}")
    print(f"{'load average':<18}{os.getloadavg()[0]:>7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    folder = Path(tempfile.mkdtemp(prefix="tarbox-explorer-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        measure(folder, embedded.start(folder / "pg"), options.visits)
    finally:
        embedded.stop(folder / "pg")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
