"""Aim's interface in a real browser: a sweep's runs with hyperparameters and downstream metrics in one row.

The browser is driven over its DevTools protocol, JSON over a websocket:
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sweep import ui
from sweep.aim_writer import ui_address

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))  # the sweep made of events is shared with the unit tests

from test_tracking import SyntheticSweep, tracked

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-port=0"
PATIENCE = 90.0
# The table is drawn column by column: what is in one row has the same height on the page.
TOP_OF = """
(text => [...document.querySelectorAll("*")]
    .filter(element => element.children.length === 0 && element.textContent.trim() === text)
    .map(element => element.getBoundingClientRect()).filter(box => box.height > 0)
    .map(box => (box.top + box.bottom) / 2))
"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome here")


class Page:
    """One tab of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.calls = socket, 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls += 1
        await self.socket.send_json({"id": self.calls, "method": method, "params": params})
        while True:
            answer = await self.socket.receive_json(timeout=PATIENCE)
            if answer.get("id") == self.calls:
                result: dict[str, Any] = answer["result"]
                return result

    async def evaluate(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def text(self) -> str:
        return str(await self.evaluate("document.body ? document.body.innerText : ''"))

    async def open(self, url: str, expected: str) -> None:
        """Go to `url` and wait until the page says `expected`."""
        await self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while expected not in await self.text():
            assert time.monotonic() < deadline, f"{url} never showed {expected!r}:\n{(await self.text())[:2000]}"
            await asyncio.sleep(0.2)

    async def heights(self, text: str) -> list[float]:
        found: list[float] = await self.evaluate(f"{TOP_OF}({text!r})")
        return found

    async def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"]))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The DevTools port of a browser."""
    profile = tmp_path_factory.mktemp("browser")
    command = [str(BROWSER), *OPTIONS.split(), "--window-size=1800,1000", f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told, deadline = profile / "DevToolsActivePort", time.monotonic() + PATIENCE
    try:
        while not (told.exists() and told.read_text().strip()):
            assert browser.poll() is None and time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.1)
        yield int(told.read_text().split()[0])
    finally:
        browser.terminate()
        browser.wait()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyntheticSweep]:
    """A sweep of three configurations, shown."""
    sweep = tracked(tmp_path_factory.mktemp("shown") / "sweep", configurations=3)
    process = ui.serve(sweep.directory, wait=False)
    assert process is not None
    yield sweep
    ui.stop(sweep.directory, process)


def visit(port: int, url: str, expected: str, looked_for: list[str], picture: Path) -> dict[str, list[float]]:
    """Open `url`, take a picture, and say at which heights of the page each text stands."""

    async def look() -> dict[str, list[float]]:
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                address = (await answer.json(content_type=None))["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                await page.open(url, expected)
                await asyncio.sleep(1)  # the table is laid out after its text is there
                await page.screenshot(picture)
                found = {text: await page.heights(text) for text in looked_for}
                await page.call("Page.close")
                return found

    return asyncio.run(look())


def shown(value: float) -> str:
    """A number as Aim's table prints it."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def test_hyperparameters_and_downstream_metrics_stand_in_one_row(
    port: int, sweep: SyntheticSweep, tmp_path: Path
) -> None:
    address = ui_address(sweep.directory)
    places = ui.publish(address, ui.views(sweep.records))
    rows = {}
    for number in range(3):
        metrics = sweep.records.final_metrics(f"{number:016x}")
        numbers = [10.0**number, metrics["linear/all/val/top1"], metrics["rotation/equi/val/r2"]]
        rows[f"duet #{number} seed 0"] = [shown(value) for value in numbers]
    texts = [*rows, *(text for values in rows.values() for text in values)]
    url = places["Hyperparameters against downstream metrics"]
    heights = visit(port, url, "duet #0 seed 0", texts, tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    lines = {name: heights[name][0] for name in rows}
    assert len(set(lines.values())) == 3
    for run, values in rows.items():
        for value in values:
            assert any(abs(height - lines[run]) < 8 for height in heights[value]), (run, value, heights)


def test_curves_and_scatter_plots_open_on_the_sweep(port: int, sweep: SyntheticSweep, tmp_path: Path) -> None:
    places = ui.publish(ui_address(sweep.directory), ui.views(sweep.records))
    for name in ("Pretraining curves", "linear/all/val/top1 against method.lambda"):
        names = [f"duet #{number} seed 0" for number in range(3)]
        heights = visit(port, places[name], names[0], names, tmp_path / "view.png")
        assert all(heights[run] for run in names), (name, heights)
        assert (tmp_path / "view.png").stat().st_size > 10_000
