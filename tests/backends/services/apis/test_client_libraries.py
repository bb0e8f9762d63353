"""What scorers behind an API rely on in the clients of services: each test names one thing."""

from __future__ import annotations

import asyncio
import json
from inspect import signature

import google.genai
import httpx2
import openai
import pytest
from google.genai import errors, types
from helpers.services.loopback import Reply, Server

COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes"}}],
    "own": "kept",
}
DIRECTLY = {"follow_redirects": False, "trust_env": False}


async def ask(server: Server, **options) -> object:
    async with openai.AsyncOpenAI(
        api_key="k",
        base_url=f"{server.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(**DIRECTLY),
        **options,
    ) as client:
        ask = client.chat.completions.with_raw_response.create
        return await ask(model="m", messages=[], extra_body={"own": 1})


def test_openai_gives_an_answer_as_it_came():
    with Server(lambda request: Reply(json.dumps(COMPLETION))) as server:
        response = asyncio.run(ask(server))
        assert json.loads(response.text)["own"] == "kept"
        assert server.requests[0].body["own"] == 1


def test_openai_leaves_out_a_header_that_is_omitted(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "secret")
    with Server(lambda request: Reply(json.dumps(COMPLETION))) as server:
        asyncio.run(ask(server, default_headers={"OpenAI-Organization": openai.Omit()}))
        assert "secret" not in str(dict(server.requests[0].headers))


def test_openai_raises_a_status_with_its_body_and_headers():
    refused = Reply({"error": {"message": "no", "code": "c"}}, 429, {"Retry-After": "7"})
    with Server(lambda request: refused) as server, pytest.raises(openai.APIStatusError) as caught:
        asyncio.run(ask(server))
    error = caught.value
    assert error.status_code == 429 and error.response.headers["retry-after"] == "7"
    assert isinstance(error.body, dict) and error.body["message"] == "no"


def test_openai_tells_a_timeout_from_no_connection():
    assert issubclass(openai.APITimeoutError, openai.APIConnectionError)
    assert issubclass(openai.NotFoundError, openai.APIStatusError)


def test_gemini_takes_clients_and_how_often_it_tries():
    about = types.HttpOptions(
        base_url="http://127.0.0.1:9",
        api_version="v1beta",
        timeout=1000,
        retry_options=types.HttpRetryOptions(attempts=1, initial_delay=0.5),
        httpx_client=httpx2.Client(**DIRECTLY),
    )
    client = google.genai.Client(api_key="k", vertexai=False, http_options=about)
    assert hasattr(client.aio.models, "generate_content")
    assert {"httpx_client", "httpx_async_client"} <= {*types.HttpOptions.model_fields}
    assert hasattr(client, "close")


def test_gemini_errors_tell_code_message_details_and_answer():
    error = errors.APIError(400, {"error": {"message": "no", "status": "S", "details": []}})
    assert (error.code, error.message) == (400, "no")
    assert error.details["error"]["details"] == [] and hasattr(error, "response")


def test_gemini_takes_what_is_asked_of_it():
    config = types.GenerateContentConfig(
        max_output_tokens=1,
        temperature=1.0,
        response_logprobs=True,
        logprobs=5,
        candidate_count=2,
        thinking_config=types.ThinkingConfig(thinking_budget=0),
    )
    assert config.logprobs == 5


def test_gemini_answers_have_these_parts():
    assert {"prompt_feedback", "candidates", "model_version", "usage_metadata"} <= {
        *types.GenerateContentResponse.model_fields
    }
    assert {"finish_reason", "content", "logprobs_result"} <= {*types.Candidate.model_fields}
    assert {"top_candidates", "chosen_candidates"} <= {*types.LogprobsResult.model_fields}
    assert {"text", "thought"} <= {*types.Part.model_fields}


def test_httpx_tells_timeouts_from_other_faults_and_calls_hooks():
    assert issubclass(httpx2.TimeoutException, httpx2.TransportError)
    assert "event_hooks" in signature(httpx2.Client).parameters
