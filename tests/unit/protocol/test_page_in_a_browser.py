"""The page of a protocol in a real browser: four pillars, no network, names escaped, phones."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.browser import SHOTS, pytestmark  # noqa: F401
from helpers.generated import HOSTILE
from helpers.protocol_files import write_generators, write_plan

from t2v_eval.protocol.adherence import ScorerScores, measure_adherence
from t2v_eval.protocol.criteria import verdicts
from t2v_eval.protocol.failures import measure_failures
from t2v_eval.protocol.figures import PillarResult, corrected
from t2v_eval.protocol.generated import read_images
from t2v_eval.protocol.page import write_protocol
from t2v_eval.protocol.plan import read_plan
from t2v_eval.protocol.preference import measure_preference
from t2v_eval.protocol.result import ProtocolReport


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A report whose scores are random, with hostile names; no model runs."""
    folder = write_generators(tmp_path_factory.mktemp("page"), 12, 2, reference=2)
    plan = read_plan(write_plan(folder, 2))
    plan = replace(plan, model=replace(plan.model, name=HOSTILE))
    images = read_images(plan)
    rng = np.random.default_rng(0)
    scores = [
        ScorerScores(name, f"{name} v1", rng.normal(size=(2, 12)) + 1, rng.normal(size=(2, 12)))
        for name in ("tiny-clip", HOSTILE, "c")
    ]
    pillars = {
        "sample_quality": PillarResult("sample_quality", failed=["kid: <b>not</b> readable"]),
        "prompt_adherence": corrected(measure_adherence(images, scores, "t2v-eval protocol")),
        "preference": measure_preference(plan, images, [], ""),
        "failure_analysis": measure_failures(images, None, ""),
    }
    report = ProtocolReport(plan, images, pillars, verdicts(plan, pillars), scores)
    return write_protocol(report, folder / "report")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(browser, page_file, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    page.screenshot(path=SHOTS / f"protocol-{width}-{scheme}.png", full_page=True)
    assert faults == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    titles = page.locator("section > h2").all_inner_texts()
    assert titles == ["Sample quality", "Prompt adherence", "Preference", "Failure analysis"]
    assert page.locator(".unmeasured").count() == 2
    assert "t2v-eval vote" in page.locator("#preference ~ .unmeasured").inner_text()
    assert page.locator("#prompt_adherence ~ .scroll svg").count() == 1
    assert HOSTILE.split()[0] in page.locator(".claim").inner_text()
    assert page.locator(".verdict").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("section summary").first.click()
    assert "tiny-clip v1" in page.locator(".source").first.inner_text()
    sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert sizes
    assert min(sizes) > 0
    context.close()
