"""Fixtures of several packages."""

import pytest
from helpers.processes import HANGING


@pytest.fixture(scope="module")
def browser():
    from helpers.browser import LAUNCH
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(**LAUNCH)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a file; at the end, nothing may have been said on the console or asked of a network.

    A `profile` is a folder where a browser of its own keeps what pages store, as that of a person.
    """
    from helpers.browser import LAUNCH

    said, asked, contexts = [], [], []

    def listen(page):
        page.set_default_timeout(1000 * HANGING)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))

    def go(path, viewport=None, scheme="light", profile=None, **settings):
        settings |= {"viewport": viewport or {"width": 1200, "height": 900}, "color_scheme": scheme}
        if profile is None:
            context = browser.new_context(**settings)
        else:
            start = browser.browser_type.launch_persistent_context
            context = start(profile, **LAUNCH, **settings)
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
