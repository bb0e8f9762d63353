"""The checks of a gate as JUnit XML, which continuous integration shows as tests."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from t2v_eval.report.gate.results import GateResult
from t2v_eval.utils.printable import printable

_NO_CHARACTER = re.compile("[\ufffe\uffff]")  # which XML cannot hold; `printable` escapes others


def to_junit(result: GateResult | None, error: str = "") -> bytes:
    """Return a test suite with a test case for each check.

    Args:
        result: the checks; None if there are none, since the reports cannot be compared.
        error: why there are none.

    Returns:
        An XML file in UTF-8.

    >>> to_junit(None, "the reports share no benchmark").count(b"<error")
    1
    """
    suite = ElementTree.Element("testsuite", name="t2v-eval gate")
    for check in result.checks if result else ():
        name = f"{check.subject} by {check.metric}"
        case = _case(suite, f"{check.benchmark}.{check.scorer}", name)
        ElementTree.SubElement(case, "system-out").text = _text(check.sentence)
        if not check.passed:
            failure = ElementTree.SubElement(case, "failure", message=_text(check.verdict))
            failure.text = _text(check.sentence)
    if result is None:
        case = _case(suite, "gate", "the reports can be compared")
        ElementTree.SubElement(case, "error", message=_text(error)).text = _text(error)
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    content: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return content


def _case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_text(group), name=_text(name))


def _text(text: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", printable(text))
