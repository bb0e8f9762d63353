"""Questions to a loopback server of OpenAI's protocol."""

from __future__ import annotations

from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import completion

import t2v_eval

KEY = "sk-test-0123456789abcdef"


TEXTS = ["a cat", 'two "quoted" dogs']


def ask(server, name="gpt-4o", **options):
    return t2v_eval.load(
        name, **{"base_url": server.url, "api_key": KEY, "backoff": 0.01, **options}
    )


def saying(listed):
    return Server(lambda request: Reply(completion(listed)))
