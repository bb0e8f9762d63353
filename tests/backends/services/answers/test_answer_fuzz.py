"""2,000 answers, each changed somewhere: a run ends, and every score is right or missing."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random

import pytest
from helpers.services.ask_server import SERVICES, Spoken, texts
from helpers.services.loopback import Reply, Server, wanted
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.scoring.plan import Block

CELLS = {"logprobs": 400, "sampling": 300, "judge": 300}  # of each of two services
DEEP = "@deep@"  # stands for what json.dumps cannot write
ODD = [
    *(None, True, False, 0, 1, -1, 0.5, 1e-4, -3.5, 5.0, -9999.0, 1e308, math.inf, -math.inf),
    *(math.nan, 10**400, -(10**400), "", "x", "-0.5", "None", "\ud800", "\u202e\u0000\x1b[2J"),
    *("error", "length", "content_filter", "SAFETY", [], {}, [[]], {"text": None}, DEEP),
    *({"code": 429, "message": "slow"}, {"code": 502}, [None] * 50),
]
LETTERS = ["\u0000", "\u200b", "\ufffd", "\u202e", "é", "🙂", '"', "\\", "{", "]", ","]


def places(tree, path=()):
    """Every place in a tree of JSON."""
    yield path
    inner = tree.items() if isinstance(tree, dict) else ()
    for name, below in enumerate(tree) if isinstance(tree, list) else inner:
        yield from places(below, (*path, name))


def change(tree, draw):
    """Change one place of a tree, in a way that is drawn."""
    path = draw.choice([path for path in places(tree) if path] or [()])
    if not path:
        return
    for name in path[:-1]:
        tree = tree[name]
    name, old = path[-1], tree[path[-1]]
    way = draw.randrange(7)
    if way == 0:
        del tree[name]
    elif way == 1 and isinstance(tree, list):
        tree.insert(name, copy.deepcopy(old))
    elif way == 2:
        tree[name] = draw.choice([[old], {"x": old}, {str(name): old}, [old, old], str(old)])
    elif way == 3 and isinstance(tree, dict):
        tree[draw.choice(["error", "refusal", "finish_reason", "thought", "x"])] = copy.deepcopy(
            draw.choice(ODD)
        )
    elif way == 4 and isinstance(old, list):
        draw.shuffle(old)
    else:
        tree[name] = copy.deepcopy(draw.choice(ODD))


def changed(body, draw):
    """A body of JSON as text, changed in one to three places, or cut, or with odd letters."""
    tree = copy.deepcopy(body)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        change(tree, draw)
    deep = 10 ** draw.choice([2, 4])
    text = json.dumps(tree).replace(json.dumps(DEEP), "[" * deep + "]" * deep)
    at = draw.randrange(len(text))
    way = draw.randrange(12)
    if way == 0:
        text = text[:at]
    elif way == 1:
        text = text[:at] + draw.choice(LETTERS) + text[at:]
    elif way == 2:
        text = text.replace('"finish', '"finish_reason": 1, "finish', 1)
    return text if text != json.dumps(body) else ""


def rows_of(name, text):
    """The listed tokens of an answer, read on their own, and what they are called."""
    tree = json.loads(text)
    if name == "openai":
        return tree["choices"][0]["logprobs"]["content"][0]["top_logprobs"], "logprob"
    listed = tree["candidates"][0]["logprobsResult"]["topCandidates"][0]["candidates"]
    return listed, "logProbability"


def may_be(name, text):
    """The scores that the listed tokens of an answer allow, besides the right one."""
    try:
        rows, key = rows_of(name, text)
        sums = {"yes": [], "no": []}
        for row in rows:
            value = row.get(key) if isinstance(row, dict) else None
            if type(value) in (int, float) and -1000 < value <= 1e-3:
                token, letters = row.get("token"), row.get("bytes")
                if not isinstance(token, str) and isinstance(letters, list):
                    letters = [n for n in letters if type(n) is int and 0 <= n < 256]
                    token = bytes(letters).decode(errors="replace")
                if isinstance(token, str) and token.strip().lower() in sums:
                    sums[token.strip().lower()].append(math.exp(min(0.0, value)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return []
    if sums["yes"]:
        return [min(1.0, math.fsum(sums["yes"]))]
    return [1.0 - math.fsum(sums["no"])] if sums["no"] else []


@pytest.mark.filterwarnings("ignore::t2v_eval.errors.T2VWarning")
@pytest.mark.parametrize("requests", CELLS)
@pytest.mark.parametrize("name", SERVICES)
def test_2000_changed_answers(name, requests, tmp_path):
    spoken, captions = Spoken(name), texts(CELLS[requests])
    sent, costs, rights = {}, [], {}

    def behave(request):
        costs.append(scorer.usage.cost)
        p = wanted(request)
        caption = next(text for text in captions if f'"{text}"' in request.question)
        body = spoken.right(request).body
        rights[caption] = p
        if requests == "sampling":
            rights[caption] = float(p > 0.5)
            body = spoken.sampled("Yes" if p > 0.5 else "No")
        elif requests == "judge":
            rights[caption] = float(round(100 * p))
            body = spoken.sampled(f"{100 * p:.0f}")
        if request.tries > 1:
            return Reply(body)
        draw = random.Random(hashlib.blake2b(f"{name} {requests} {caption}".encode()).digest())
        while not sent.get(caption):
            sent[caption] = changed(body, draw)
        return Reply(sent[caption])

    kind = "-judge" if requests == "judge" else ""
    more = {"estimator": "sampling", "n": 1} if requests == "sampling" else {}
    with Server(behave) as server:
        scorer = spoken.load(
            server,
            {"openai": "openai-compatible", "gemini": "gemini"}[name] + f"{kind}:m",
            **{**more, "store": tmp_path / "s.db", "price": [1.0, 1.0], "on_error": "skip"},
            **{"retries": 2, "backoff": 0.0, "timeout": 60.0, "concurrency": 16},
        )
        outcome = scorer.evaluate_blocks([Block([draw_image(1)], captions)])
    assert len(sent) == len(rights) == CELLS[requests]
    assert costs == sorted(costs) and scorer.usage.cost >= costs[-1]
    missing = 0
    for n, caption in enumerate(captions):
        score, reason = float(outcome.scores[0][0, n]), outcome.failures.get((0, 0, n))
        assert math.isnan(score) == (reason is not None), caption
        missing += reason is not None
        if reason is None:
            allowed = [rights[caption]]
            allowed += may_be(name, sent[caption]) if requests == "logprobs" else []
            close = [abs(score - value) < 1e-5 for value in allowed]
            assert any(close), f"{score} of {allowed}: {sent[caption][:2000]}"
        else:
            assert reason.strip() and reason.isprintable()
    assert 0 < missing < CELLS[requests] / 2
    stored = {row.text: row.value for row in t2v_eval.Store(tmp_path / "s.db").rows()}
    assert sum(value is None for value in stored.values()) == missing
