"""The pages for people, in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.e2e.conftest import Running

DATA = Path(__file__).resolve().parents[1] / "data"
AXE = Path(__file__).resolve().parents[1] / "clients" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SHOTS = os.environ.get("SCREENSHOTS")
"""A folder to put screenshots into, for somebody to look at."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package `chromium`)")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


class Tab:
    """A page that must not complain: no console error, no uncaught exception, nothing from elsewhere."""

    def __init__(self, context: BrowserContext, url: str, path: str) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(url + path)

    def _heard(self, message: ConsoleMessage) -> None:
        # A refused reading is an answer to this page; the browser calls every status from 400 an error.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture(params=["light", "dark"])
def tab(request: pytest.FixtureRequest, browser: Browser, gateway: Running) -> Iterator[Tab]:
    narrow = request.param == "dark"
    viewport = {"width": 360, "height": 740} if narrow else {"width": 1280, "height": 900}
    context = browser.new_context(color_scheme=request.param, viewport=viewport)  # type: ignore[arg-type]
    opened = Tab(context, gateway.url, "/")
    yield opened
    assert opened.complaints == []
    assert all(url.startswith((gateway.url, "blob:", "data:")) for url in opened.requested)
    context.close()


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong, by rule and place."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    places = [(rule["id"], node) for rule in found for node in rule["nodes"]]
    return [f"{rule}: {node['target']} {node['failureSummary']}" for rule, node in places]


def test_a_plate_is_read_and_drawn(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("API key").fill("demo")
    page.locator("#files").set_input_files(DATA / "plate_us.jpg")
    reading = page.get_by_role("article")
    expect(reading.locator(".text")).to_have_text("7KMR204")
    expect(reading).to_contain_text("region us-ca")
    expect(page.get_by_role("status")).to_have_text("Read 1 photo.")
    # The box lies over the plate: in the photo's own pixels, whatever size it is shown at.
    image, shape = reading.locator("img").bounding_box(), reading.locator("rect.plate").bounding_box()
    assert image is not None
    assert shape is not None
    natural = page.evaluate("() => document.querySelector('article img').naturalWidth")
    answer = page.evaluate("() => JSON.parse(document.querySelector('pre.json').textContent)")
    box = answer["results"][0]["box"]
    shown = natural / image["width"]
    assert (shape["x"] - image["x"]) * shown == pytest.approx(box["xmin"], abs=4 * shown)
    assert shape["width"] * shown == pytest.approx(box["xmax"] - box["xmin"], abs=8 * shown)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    # The usage of the key follows, and the key stays in this tab.
    expect(page.locator("#usage")).to_contain_text(re.compile(r"Plates: \d+ of 1000 used"))
    stored = page.evaluate("() => [sessionStorage.getItem('key'), localStorage.length, document.cookie]")
    assert stored == ["demo", 0, ""]
    shoot(page, "plate-narrow" if page.viewport_size and page.viewport_size["width"] < 500 else "plate")
    assert violations(page) == []


def test_several_photos_are_read_at_once_and_refusals_are_sentences(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("API key").fill("demo")
    page.get_by_label("a VIN").check()
    expect(page.get_by_label("Regions to expect")).to_be_hidden()
    page.locator("#files").set_input_files(
        [DATA / "vin_label.jpg", DATA / "no_plate.jpg", DATA / "README.md"]
    )
    expect(page.get_by_role("status")).to_have_text("Read 3 photos.")
    expect(page.get_by_role("article").filter(has_text="vin_label.jpg").locator(".text")).to_have_text(
        re.compile("^[0-9A-Z]{17}$")
    )
    refused = page.get_by_role("article").filter(has_text="README.md").locator(".failed")
    expect(refused).to_contain_text("Invalid image data format.")
    nothing = page.get_by_role("article").filter(has_text="no_plate.jpg").locator(".failed")
    expect(nothing).to_contain_text(re.compile("No text detected|No valid VIN"))
    shoot(page, "vin-narrow" if page.viewport_size and page.viewport_size["width"] < 500 else "vin")
    assert violations(page) == []


def test_without_a_key_nothing_is_sent(tab: Tab) -> None:
    tab.page.locator("#files").set_input_files(DATA / "plate_us.jpg")
    expect(tab.page.get_by_role("status")).to_contain_text("Enter your API key first")
    expect(tab.page.get_by_label("API key")).to_be_focused()
    assert tab.page.get_by_role("article").count() == 0
    assert violations(tab.page) == []


def test_an_unknown_key_is_told_of_by_the_usage(tab: Tab) -> None:
    tab.page.get_by_label("API key").fill("nobody")
    tab.page.get_by_label("API key").press("Tab")
    expect(tab.page.locator("#usage")).to_contain_text("API key was not found")


def test_a_pasted_photo_is_read(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("API key").fill("demo")
    page.evaluate(
        """async () => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
            const blob = await new Promise((made) => canvas.toBlob(made));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([blob], ""));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
        }"""
    )
    expect(page.get_by_role("article")).to_contain_text("No plates detected in image")


def test_a_photo_too_large_for_a_request_is_sent_smaller(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("API key").fill("demo")
    page.evaluate(
        """async () => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 2600, height: 1400});
            const drawn = canvas.getContext("2d"), noise = drawn.createImageData(2600, 1400);
            for (let i = 0; i < noise.data.length; i++)
                noise.data[i] = i % 4 == 3 ? 255 : Math.random() * 256;
            drawn.putImageData(noise, 0, 0);
            const blob = await new Promise((made) => canvas.toBlob(made));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([blob], "large.png"));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
        }"""
    )
    expect(page.get_by_role("article").locator(".outcome")).to_contain_text("Sent smaller", timeout=30_000)


def test_the_api_is_shown_without_another_origin(browser: Browser, gateway: Running) -> None:
    context = browser.new_context()
    opened = Tab(context, gateway.url, "/docs")
    expect(opened.page.locator("#operations-tag-default, .opblock").first).to_be_visible(timeout=30_000)
    expect(opened.page.locator(".opblock").filter(has_text="/platerecognition").first).to_be_visible()
    shoot(opened.page, "docs")
    assert opened.complaints == []
    assert all(url.startswith((gateway.url, "data:")) for url in opened.requested)
    context.close()
