"""The page that an endpoint has for people, in Chromium."""

from __future__ import annotations

import json
from typing import Any

from tests.test_serving_protocols import ROW, SCHEMA, Server, server

__all__ = ["server"]  # a fixture


def test_the_page_for_people(server: Server, browser: Any) -> None:
    """Its own policy lets it work: it draws the fields, and the form answers; nothing is fetched from elsewhere, nothing complained about."""
    complaints: list[str] = []
    asked: set[str] = set()
    page = browser.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.add(request.url.partition("?")[0]))
    page.goto(f"{server.url}/")
    page.wait_for_selector("#fields tr")
    assert page.locator("#fields code").all_inner_texts() == list(SCHEMA.names) and page.title() == "income"
    page.get_by_label("What is asked").fill(json.dumps({"records": [ROW, {**ROW, "age": None}]}))
    page.get_by_role("button", name="Predict").click()
    page.wait_for_selector("#said:not([hidden])")
    assert page.inner_text("#said").startswith("200") and '"probability": 0.6' in page.inner_text("#said")
    page.get_by_label("What is asked").fill('{"records": [{}]}')
    page.get_by_role("button", name="Predict").click()
    page.locator("#said", has_text="it is missing").wait_for()
    assert page.inner_text("#said").startswith("422")
    page.close()
    assert [text for text in complaints if "422" not in text] == []
    assert {url for url in asked if not url.startswith(server.url)} == set()
