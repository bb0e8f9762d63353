"""Fixtures of several packages."""

import pytest
from helpers.processes import HANGING


@pytest.fixture(scope="module")
def browser():
    from helpers.browser import CHROMIUM
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Containers run tests as root, where Chromium's own sandbox cannot start.
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a file; at the end, nothing may have been said on the console or asked of a network."""
    said, asked, contexts = [], [], []

    def listen(page):
        page.set_default_timeout(1000 * HANGING)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))

    def go(path, viewport=None, scheme="light", **settings):
        viewport = viewport or {"width": 1200, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **settings)
        contexts.append(context)
        context.on("page", listen)
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
