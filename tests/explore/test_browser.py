"""The page in a browser, at the widths of a desk and of a phone: no error on its console, no request elsewhere."""

import os
import re
import shutil
import threading
from contextlib import contextmanager

import explorable
import pytest

from energysolve.explore import Session, energy_subject

pytest.importorskip("dash", reason="the extra explore is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium here (Debian: apt-get install chromium)", allow_module_level=True)

from playwright.sync_api import expect, sync_playwright  # noqa: E402

from energysolve.explore.serving import serve  # noqa: E402

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PATIENCE = 30_000


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@contextmanager
def served(energy):
    server = serve(Session(energy_subject("mine", energy, (2,))), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def opened(browser, address, size):
    """The page; whatever goes wrong in the browser fails the test."""
    page = browser.new_page(viewport=SIZES[size])
    page.set_default_timeout(PATIENCE)
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    own = (address, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else wrong.append(asked.url))
    page.goto(address)
    try:
        yield page
    finally:
        page.close()
    assert wrong == []


def path(page, slot=0, trace=0):
    """The coordinates of a line of an optimizer: 0 is the whole descent, 1 the part that has been walked."""
    line = "document.querySelector('#landscape .js-plotly-plot').data[number]"
    script = f"number => {{ const {{x, y}} = {line}; return [...x].map((_, k) => [x[k], y[k]]) }}"
    return page.evaluate(script, 3 + 3 * slot + trace)


def changed(page, old, slot=0, trace=0):
    """The line, once it differs from an old one."""
    for _ in range(PATIENCE // 50):
        new = path(page, slot, trace)
        if new and new != old:
            return new
        page.wait_for_timeout(50)
    raise AssertionError(f"The line stays {old}.")


def choose(page, control, name):
    page.click(f"#{control}")
    page.get_by_role("option", name=name, exact=True).click()


def click_at(page, x, y):
    """Click on a share of the landscape, counted from the left and from the top; the coordinates there."""
    page.locator("#landscape").scroll_into_view_if_needed()
    box = page.locator("#landscape .nsewdrag").bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    layout = "document.querySelector('#landscape .js-plotly-plot').layout"
    (left, right), (bottom, top) = (page.evaluate(f"{layout}.{axis}.range") for axis in ("xaxis", "yaxis"))
    return left + x * (right - left), top - y * (top - bottom), (right - left) / 20


@pytest.mark.parametrize("size", SIZES)
def test_the_page(browser, size):
    with served(explorable.fragile) as address, opened(browser, address, size) as page:
        expect(page.locator("#table tr[data-slot=A]")).to_contain_text("converged")
        first = changed(page, [])
        assert first[-1] == pytest.approx([1, -1], abs=1e-3)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]

        x, y, near = click_at(page, 0.3, 0.25)
        clicked = changed(page, first)
        assert clicked[0] == pytest.approx([x, y], abs=near)
        assert clicked[-1] == pytest.approx([1, -1], abs=1e-3)

        choose(page, "optimizer-A", "SGD")
        slow = changed(page, clicked)
        assert slow[0] == clicked[0]
        # One step of 0.01: the offsets from (1, -1) shrink by 0.02 and 0.04.
        assert slow[1] == pytest.approx([1 + 0.98 * (slow[0][0] - 1), -1 + 0.96 * (slow[0][1] + 1)])
        expect(page.locator("#table")).to_contain_text("SGD, step 0.01")

        page.locator("#slider [role=slider]").focus()
        page.keyboard.press("Home")
        assert len(changed(page, slow, trace=1)) == 1
        page.keyboard.press("ArrowRight")
        assert changed(page, slow[:1], trace=1) == slow[:2]
        expect(page.locator("#table tr[data-slot=A]")).to_contain_text("1 of 200")

        choose(page, "optimizer-B", "NewtonCG")
        assert changed(page, [], slot=1)[0] == slow[0]
        page.click("#restart")
        assert changed(page, slow)[0] == first[0]
        page.click("#wider")
        page.click("#wider")
        seen = r"^The landscape: ArithmeticError: no energy <b>here</b> \(explorable.py, line 14\)$"
        expect(page.get_by_role("alert")).to_have_text(re.compile(seen))
        assert path(page)[0] == first[0]
        if folder := os.environ.get("ENERGYSOLVE_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/explore-{size}.png", full_page=True)
