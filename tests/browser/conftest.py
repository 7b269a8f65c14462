"""One headless Chromium for the tests that need a browser, without any network beyond this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

# the headless shell is the same Chromium without windows of its own
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
FLAGS = [
    "--proxy-server=127.0.0.1:9",  # nothing listens there: all but this machine itself is out of reach
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
PICTURES = "SCREENSHOTS"  # a folder in which people can look at what the tests saw


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; tests are skipped in one line where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: pages are not looked at")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def offline(browser: Any) -> Iterator[Any]:
    """A function that opens a page at a width."""
    contexts = []

    def open_page(address: str, width: int = 1280, height: int = 1600) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.goto(address, wait_until="load", timeout=120_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Beside a failure: what the open pages show, and what the server tells of jobs and runs."""
    report = yield
    looker = next((each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Visit)), None)
    if report.when == "call" and report.failed and looker is not None:
        report.sections += [(f"page {at + 1}", shown) for at, shown in enumerate(looker.shown())]
    return report


from tests.browser.homes import Visit, homes, seeded, visit  # noqa: E402, F401 - fixtures, made of what stands above
