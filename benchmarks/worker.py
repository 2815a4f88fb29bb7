"""The explorer's worker in headless Chromium: how long until it can be used, and how fast content goes.

`python benchmarks/worker.py [--visits N]` wants playwright, and Debian's chromium.

Each visit is a fresh browser: the first with an empty profile, the second with what that left. Times are from the start of navigation to
the first listing, each beside its bar; `worker alone` is the first visit's until Pyodide and the core have started. Then 64 MiB go up and
down, compared by hash. Nothing is asserted. What the page adds, and how quick it is then, `benchmarks/explorer.py` tells.
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

from tarbox_core.drivers import embedded

ROOT: Final = Path(__file__).resolve().parents[1]
BARS: Final = {"first": 5000, "second": 3000}  # ms

LISTED: Final = """async (url) => {
  await told('open', {url});
  await told('list', {path: '/'});
  return [performance.now(), events.find((each) => each.event === 'started').ms];
}"""
MOVED: Final = """async () => {
  const bytes = new Uint8Array(64 << 20);
  for (let at = 0; at < bytes.length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  const times = [performance.now()];
  await ask('upload', {path: '/large'}, {file: new Blob([bytes])});
  times.push(performance.now());
  const {file} = await ask('download', {path: '/large'});
  times.push(performance.now());
  if ((await sha(bytes)) !== (await sha(await file.arrayBuffer()))) throw new Error('other bytes came back');
  return [times[1] - times[0], times[2] - times[1]];
}"""


def measure(folder: Path, url: str, visits: int) -> None:
    from playwright.sync_api import sync_playwright

    from tests.browser.pages import lay_out, login
    from tests.browser.server import serving
    from tests.pg.cli import Tarbox

    tarbox = Tarbox(url, folder)
    for words in (["init"], ["tenant", "create", tarbox.tenant]):
        subprocess.run([sys.executable, "-m", "tarbox_cli", *words], env=tarbox.env, check=True, stdout=subprocess.DEVNULL)
    lay_out(tarbox)
    found: dict[str, list[float]] = {"first": [], "second": [], "worker alone": []}
    with serving(tarbox, "--tenant", tarbox.tenant) as server, sync_playwright() as playwright:
        address = f"ws://{server.host}:{server.port}/gateway/{tarbox.tenant}"
        cookies: list[Any] = []

        def visit(profile: Path, then: str | None = None) -> tuple[list[float], Any]:
            context = playwright.chromium.launch_persistent_context(str(profile), executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            try:
                page = context.new_page()
                if not cookies:
                    login(page, server)
                    cookies.extend(context.cookies())
                    return [], None
                context.add_cookies(cookies)
                page.goto(f"{server.origin}/")
                return page.evaluate(LISTED, address), page.evaluate(then) if then else None
            finally:
                context.close()

        visit(folder / "login")
        moved: Any = None
        for number in range(visits):
            profile = folder / f"profile{number}"
            first, _ = visit(profile)
            second, moved = visit(profile, MOVED if number == visits - 1 else None)
            found["first"].append(first[0])
            found["worker alone"].append(first[1])
            found["second"].append(second[0])
    for name, times in found.items():
        bar = f"bar {BARS[name]}, ratio {statistics.median(times) / BARS[name]:.2f}" if name in BARS else ""
        print(f"{name:<14}{statistics.median(times):>7.0f} ms  {bar:<20} ({', '.join(f'{time:.0f}' for time in times)})")
    for name, took in zip(("64 MiB up", "64 MiB down"), moved, strict=True):
        print(f"{name:<14}{took:>7.0f} ms  {64000 / took:.1f} MiB/s")
    print(f"load average  {os.getloadavg()[0]:>7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    folder = Path(tempfile.mkdtemp(prefix="tarbox-worker-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        measure(folder, embedded.start(folder / "pg"), options.visits)
    finally:
        embedded.stop(folder / "pg")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
