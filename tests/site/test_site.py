"""The built site: its links are whole, it asks for nothing from elsewhere, and its pages open in a browser."""

import functools
import html
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

SITE = Path(__file__).parents[2] / "site"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCRIPT = re.compile(r"(<script\b[^>]*>).*?</script>", flags=re.DOTALL)
TAG = re.compile(r"<([a-zA-Z][\w-]*)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>")
ATTRIBUTE = re.compile(r"([\w:-]+)=(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))")
LOADS = {"img": "src", "script": "src", "source": "src", "iframe": "src", "video": "src", "link": "href"}
WIDTHS = (1280, 390)
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="the site is not built: make docs")


def tags(path):
    """The elements of a page, each with its attributes."""
    text = SCRIPT.sub(r"\1", path.read_text())
    for name, attributes in TAG.findall(text):
        found = {key: html.unescape(a or b or c) for key, a, b, c in ATTRIBUTE.findall(attributes)}
        yield name.lower(), found


@functools.cache
def pages():
    return {path: list(tags(path)) for path in SITE.rglob("*.html")}


@functools.cache
def anchors(path):
    return {found[key] for _, found in pages().get(path, []) for key in ("id", "name") if key in found}


def broken(page, link):
    """Why a link of a page leads nowhere, or None."""
    parts = urlsplit(urljoin(f"http://site/{page.relative_to(SITE).as_posix()}", link))
    if parts.netloc != "site" or parts.scheme != "http":
        return None
    target = SITE / unquote(parts.path).lstrip("/")
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return f"{page.relative_to(SITE)}: {link} does not exist"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors(target):
        return f"{page.relative_to(SITE)}: {link} has no such heading"
    return None


def test_links_are_whole():
    found = [
        broken(page, attributes[key])
        for page, elements in pages().items()
        if page.name != "404.html"  # served at any address: its links are absolute
        for _, attributes in elements
        for key in ("href", "src")
        if attributes.get(key, "#").strip("#") and not attributes[key].startswith("data:")
    ]
    assert len(found) > 1000
    assert not [each for each in found if each]


def test_nothing_is_loaded_from_elsewhere():
    outside = [
        (str(page.relative_to(SITE)), attributes[LOADS[name]])
        for page, elements in pages().items()
        for name, attributes in elements
        if name in LOADS and re.match(r"(https?:)?//", attributes.get(LOADS[name], ""))
        if attributes.get("rel") != "canonical"
    ]
    assert not outside
    styles = "".join(path.read_text() for path in SITE.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import", styles)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served():
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def browser():
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        # As root, as in a container, Chromium runs only without its sandbox.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def watched(opened, base, width):
    """A page of a window, and a list of what went wrong in it."""
    context = opened.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    page, wrong = context.new_page(), []

    def answer(route):
        if route.request.url.startswith((base, "data:", "blob:")):
            route.continue_()
        else:
            wrong.append(f"asked for {route.request.url}")
            route.abort()

    page.route("**/*", answer)
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("response", lambda got: got.status >= 400 and wrong.append(f"{got.status}: {got.url}"))
    yield page, wrong
    context.close()


def home(page):
    assert page.locator(".pictures img").count() == 3
    assert page.evaluate("[...document.querySelectorAll('.pictures img')].every(image => image.naturalWidth > 0)")
    # The theme follows the system, then the reader.
    scheme = "document.body.getAttribute('data-md-color-scheme')"
    assert page.evaluate(scheme) == "default"
    page.locator("label[title=Dark]").click()
    assert page.evaluate(scheme) == "slate"


def guide(page):
    assert page.locator("h1").inner_text().startswith("Write your own energy")
    assert page.locator(".highlight code").count() >= 3
    assert page.locator("a[href*='api/energies/'] code", has_text="Energy").count() >= 1


def reference(page):
    entry = page.locator("[id='energysolve.EnergySolver']")
    assert "EnergySolver" in entry.inner_text()
    body = page.locator("h2[id='energysolve.EnergySolver'] ~ .doc-contents").first
    for text in ("Parameters:", "Raises:", "max_steps", "Source code in"):
        assert body.get_by_text(text).count() >= 1, text
    assert page.locator("[id='energysolve.EnergySolver.minimize']").count() == 1
    assert page.locator("[id='energysolve.EnergySolver.from_pretrained']").count() == 1


def example(page):
    assert page.locator(".output code").first.inner_text().strip()
    assert page.evaluate("[...document.querySelectorAll('img.figure')].some(image => image.naturalWidth > 0)")
    assert page.get_by_role("link", name="Download custom_energy.py").count() == 1


PAGES = {"": home, "custom-energy/": guide, "api/solver/": reference, "gallery/custom_energy/": example}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_pages_open_in_a_browser_without_errors_or_outside_requests():
    with served() as base, browser() as opened:
        for width in WIDTHS:
            for address, check in PAGES.items():
                with watched(opened, base, width) as (page, wrong):
                    page.goto(base + address, wait_until="networkidle")
                    widest = page.evaluate("document.documentElement.scrollWidth")
                    assert widest <= width, f"{address or 'home'} is {widest} pixels wide"
                    check(page)
                    assert not wrong, (address, width, wrong)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_the_search_finds_a_class():
    with served() as base, browser() as opened, watched(opened, base, 1280) as (page, wrong):
        page.goto(base, wait_until="networkidle")
        page.locator("input.md-search__input").fill("LevenbergMarquardt")
        found = page.locator(".md-search-result__item a[href*='api/optimizers']").first
        found.wait_for(timeout=10_000)
        assert not wrong
