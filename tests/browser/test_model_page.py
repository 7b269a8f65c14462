"""The model page as two people see it: one approves, promotes and rolls back; the other looks, and cannot pretend to be somebody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiplat.core import ledger
from aiplat.frontends import dashboards
from aiplat.release import registry
from aiplat.release.aliases import holder
from tests.browser.conftest import PICTURES
from tests.models import acting, evident, governed, trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LONG = 120_000  # ms; other tests run beside this one


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    """Ana trained two versions; the first is production. She and Rosa have an address each."""
    ws, before = governed(tmp_path_factory.mktemp("credit")), Path.cwd()
    os.chdir(ws.root)
    try:
        for seed in (1, 2):
            logged = trained(ws, seed)
            evident(ws, logged.run)
            registry.register(logged.run.id, "credit")
        acting(ws, "rosa")
        registry.approve("credit/1", to="production", reason="looked at the audit")
        registry.promote("credit/1", to="production")
        acting(ws, "ana")
        yield ws, dashboards.dashboard(background=True, people=["ana", "rosa"]).people
    finally:
        dashboards.end(ws)
        os.environ.pop("AIPLAT_USER", None)
        os.chdir(before)


def _page(address: str, model: str = "credit/2", **more: str) -> str:
    query = "".join(f"&{name}={value}" for name, value in {"model": model, **more}.items())
    return address.replace("portfolio.ipynb", "model.ipynb") + query


def _keep(page: Any, name: str, tmp_path: Path) -> None:
    picture = Path(os.environ.get(PICTURES) or tmp_path) / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 20_000


def _seen(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('.aiplat-model')?.innerText.includes(text)", arg=text, timeout=LONG
    )


def _do(page: Any, label: str, reason: str) -> str:
    """Open a deed, write a reason, press its button: by keyboard only. Gives the two lines."""
    deed = page.locator(".deed > summary", has_text=label)
    deed.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type(reason)
    page.keyboard.press("Tab")
    page.evaluate("document.querySelector('[data-outcome]')?.removeAttribute('data-outcome')")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-outcome]", timeout=LONG)
    assert page.evaluate("document.activeElement.matches('[data-outcome]')"), "the keyboard is where the answer is"
    return page.inner_text("[data-outcome]")


def test_two_people(served: Any, offline: Any, tmp_path: Path) -> None:
    ws, people = served
    ana, rosa = offline(_page(people["ana"])), offline(_page(people["rosa"]))
    wrong: list[str] = []
    rosa.on("pageerror", lambda error: wrong.append(str(error)))
    _seen(rosa, "you are rosa (risk)")
    _seen(ana, "you are ana, without a role: this page is for reading")
    assert ana.locator(".deed form").count() == 0 and ana.locator(".deed.not").count() >= 3
    assert "production asks for the word of risk, and ana is not" in ana.inner_text(".deeds")
    said = _do(rosa, "Promote to production", "it is time")
    assert "credit/2 may not become production" in said and "1 approval by risk" in said and "→ aiplat approve" in said
    assert holder(ws, "credit", "production") == 1
    said = _do(rosa, "Approve for production", "the audit is as good as before")
    assert "rosa (risk) approved credit/2 for production" in said
    said = _do(rosa, "Promote to production", "better in every group")
    assert "credit/2 is production now, before it was credit/1" in said and holder(ws, "credit", "production") == 2
    _keep(rosa, "model-promoted", tmp_path)
    _seen(ana, "in production since")  # her page has heard of it, though she did nothing
    said = _do(rosa, "Roll production back to version 1", "complaints from customers")
    assert "credit/1 is production again" in said and holder(ws, "credit", "production") == 1
    moves = [e for name in ("promote", "rollback") for e in ledger.entries(ws, action=name, phase="intent")]
    assert {e.actor for e in moves} == {"rosa"} and not ledger.breaks(ws) and not wrong
    assert [e.body.get("reason") for e in moves] == [
        None,
        "it is time",
        "better in every group",
        "complaints from customers",
    ]


FORGE = """(key) => {
  const form = document.createElement('form');
  form.dataset.act = key;
  form.innerHTML = '<input name="reason" value="forged"><input name="person" value="rosa"><input name="AIPLAT_USER" value="rosa"><button>x</button>';
  document.querySelector('.deeds').append(form);
  form.requestSubmit();
}"""


def test_nobody_becomes_somebody_else(served: Any, offline: Any, browser: Any) -> None:
    ws, people = served
    before = len(ledger.entries(ws))
    page = offline("about:blank")
    page.set_extra_http_headers({"Aiplat-Person": "rosa", "Http-Aiplat-Person": "rosa"})
    forged = {"person": "rosa", "AIPLAT_USER": "rosa", "HTTP_AIPLAT_PERSON": "rosa", "Aiplat-Person": "rosa"}
    page.goto(_page(people["ana"], **forged), timeout=LONG)
    _seen(page, "you are ana, without a role")
    for key in ("approve:credit/2:production", "promote:credit/2:production", "erase:credit/2:production"):
        page.evaluate("document.querySelector('[data-outcome]')?.removeAttribute('data-outcome')")
        page.evaluate(FORGE, key)
        page.wait_for_selector("[data-outcome]", timeout=LONG)
        assert "✗" in page.inner_text("[data-outcome]")
    assert len(ledger.entries(ws)) == before, "nothing was done"


def test_a_page_belongs_to_who_opened_it(served: Any, offline: Any) -> None:
    _, people = served
    rosa = offline("about:blank")
    sockets: list[str] = []
    rosa.on("websocket", lambda socket: sockets.append(socket.url))
    rosa.goto(_page(people["rosa"]), timeout=LONG)
    _seen(rosa, "you are rosa (risk)")
    kernel = next(url for url in sockets if "/api/kernels/" in url).partition("?")[0]
    ana = offline(_page(people["ana"]))
    _seen(ana, "you are ana")
    opens = "url => new Promise(done => { const s = new WebSocket(url); s.onopen = () => done(true); s.onerror = () => done(false); })"
    assert rosa.evaluate(opens, kernel) is True, "her own"
    assert ana.evaluate(opens, kernel) is False, "somebody else's"
    stranger = offline(people["rosa"].partition("?")[0])
    assert "/login" in stranger.url


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits(served: Any, offline: Any, theme: str, tmp_path: Path) -> None:
    _, people = served
    page = offline(_page(people["rosa"], "credit/1", theme=theme))
    _seen(page, "you are rosa (risk)")
    for said in (
        "credit · version 1",
        "What you can do",
        "in production since",
        "Who is treated how?",
        "What it is for",
        "Who did what",
    ):
        assert said in page.inner_text(".aiplat-model"), said
    back = page.evaluate("getComputedStyle(document.querySelector('.aiplat-page section.deeds')).backgroundColor")
    assert (sum(int(part) for part in back.strip("rgba()").split(",")[:3]) < 200) == (theme == "dark")
    page.evaluate("document.querySelectorAll('.proof').forEach(each => each.open = true)")
    page.locator(".deed > summary").first.click()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 1600})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        _keep(page, f"model-{theme}-{width}", tmp_path)


def test_another_version_is_shown_in_place(served: Any, offline: Any) -> None:
    _, people = served
    page = offline(_page(people["ana"], "nobody/7"))
    _seen(page, "credit · version 1")
    assert "nobody" in page.inner_text("[data-outcome]"), "a name that nobody knows is said to be one"
    page.select_option(".choose select", "credit/2")
    page.click(".choose button")
    _seen(page, "credit · version 2")
    assert page.locator("[data-outcome]").count() == 0
