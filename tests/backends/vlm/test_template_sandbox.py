"""Chat templates: as transformers renders them, and with an end where they have none."""

from __future__ import annotations

import pytest
from helpers.models.tiny_vlm import TINY, llava
from helpers.models.tiny_vlm_more import CARDED, OTHERS
from helpers.toy import draw_image
from transformers import AutoProcessor

import t2v_eval
from t2v_eval.backends.vlm.prompting import template_sandbox
from t2v_eval.backends.vlm.prompting.template_sandbox import TemplateLimitError, render
from t2v_eval.errors import CheckpointError

SAID = [
    {"role": "system", "content": [{"type": "text", "text": " Be brief. "}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " a {{ cat }}? \n"}]},
]
ANSWERED = [*SAID, {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]}]
MADE = TINY | CARDED | OTHERS


@pytest.mark.parametrize("kind", [kind for kind in MADE if kind != "paligemma"])
def test_it_renders_as_transformers_does(kind, tmp_path):
    MADE[kind](tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    original = processor.tokenizer.special_tokens_map
    for conversation in (SAID[1:], SAID, ANSWERED, ANSWERED[1:]):
        for prompted in (True, False):
            options = {"add_generation_prompt": prompted}
            expected = processor.apply_chat_template(conversation, tokenize=False, **options)
            tokens = {
                "messages": conversation,
                "tools": None,
                "documents": None,
                **original,
                **options,
            }
            assert render(processor.chat_template, **tokens) == expected


# What published templates use: namespaces, macros, loops with their state, filters, tests.
USUAL = """
{%- set ns = namespace(system='', n=0) -%}
{%- macro shown(content, first=true) -%}
  {%- if content is string -%}{{ content | trim }}
  {%- else -%}
    {%- for c in content -%}
      {%- if c.type == 'image' or 'image_url' in c -%}<image>
      {%- elif 'text' in c -%}{{ c['text'] | trim | replace('cat', 'dog') }}{%- endif -%}
      {%- if not loop.last %} {% endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- if messages[0]['role'] == 'system' -%}
  {%- set ns.system = shown(messages[0].content) ~ ' #' ~ messages | length -%}
  {%- set messages = messages[1:] -%}
{%- endif -%}
{{- bos_token + ns.system -}}
{%- for m in messages -%}
  {%- set ns.n = ns.n + 1 -%}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('order') }}{%- endif -%}
  [{{ m.role.upper() }} {{ loop.index }}/{{ loop.length }}]
  {%- generation %}{{ shown(m.content) }}{% endgeneration -%}
  {%- if loop.index > 5 %}{% break %}{% endif -%}
{%- endfor -%}
{{- {'n': ns.n, 'k': [1, 2.5, none, 'ü']} | tojson -}}
{{- messages | selectattr('role', 'equalto', 'user') | map(attribute='role') | list | join(',') -}}
{{- ('%02d' % ns.n) ~ '-' * 3 ~ (2 ** 5) ~ '{:>4}'.format(ns.n) ~ (tools is none) -}}
{{- undefined_thing | default('none') -}}{{- messages[0].content[-1].text.split('?')[0] -}}
{% if add_generation_prompt %}<go>{% endif %}
"""


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("conversation", [SAID[1:], SAID, ANSWERED])
def test_what_templates_use_means_what_it_means_to_transformers(conversation, prompted, tmp_path):
    llava(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    options = {"add_generation_prompt": prompted, "bos_token": "<s>"}
    expected = processor.apply_chat_template(
        conversation, chat_template=USUAL, tokenize=False, **options
    )
    tokens = {**processor.tokenizer.special_tokens_map, **options, "tools": None}
    assert render(USUAL, messages=conversation, documents=None, **tokens) == expected
    assert "<image>" in expected and "dog" in expected


GROWING = (
    "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}"
)


def growing(start: str, step: str, end: str = "{{ ns.x }}") -> str:
    return GROWING.replace("START", start).replace("STEP", step) + end


HOSTILE = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(99999) | list %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(99999) | map('string') | join %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{{ loop([1]) }}{% endfor %}",
    growing("'xx'", "ns.x ~ ns.x"),
    growing("'xx'", "ns.x + ns.x"),
    growing("'xx'", "ns.x * 9"),
    growing("'xx'", "ns.x ~ ns.x", ""),
    growing("'xx'", "ns.x.replace('x', ns.x)"),
    growing("'xx'", "ns.x | replace('x', ns.x)"),
    growing("'xx'", "[ns.x, ns.x] | join"),
    growing("'xx'", "ns.x.join([ns.x, ns.x])"),
    growing("'xx'", "'%s%s' % (ns.x, ns.x)"),
    growing("'xx'", "'{0}{0}'.format(ns.x)"),
    growing("'xx'", "[ns.x, ns.x]"),
    growing("'xx'", "[ns.x, ns.x]", "{{ ns.x | tojson }}"),
    growing("'xx'", "[ns.x, ns.x]", "{{ ns.x | string }}"),
    growing("'xx'", "[ns.x, ns.x]", "{{ ns.x == ns.x }}{{ ns.x ~ '' }}"),
    growing("('x',)", "(ns.x, ns.x)", "{{ {ns.x: 1} }}"),
    growing("('x',)", "(ns.x, ns.x)", "{{ {}[ns.x] }}"),
    growing("('x',)", "(ns.x, ns.x)", "{{ ns.x in {} }}"),
    growing("[1]", "ns.x + ns.x", ""),
    growing("3", "ns.x * ns.x"),
    growing("3", "ns.x ** 3"),
    "{% set x %}{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}",
    "{{ 10 ** 99999 }}",
    "{{ 'x' * 10 ** 12 }}",
    "{{ 10 ** 12 * 'x' }}",
    "{{ [0] * 10 ** 10 }}",
    "{{ 'x' | center(10 ** 12) }}",
    "{{ ('\\n' * 9999) | indent(10 ** 8) }}",
    "{{ 'x'.ljust(10 ** 12) }}",
    "{{ ('\\t' * 9999).expandtabs(10 ** 7) }}",
    "{{ 'x'.zfill(10 ** 12) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10 ** 9, 1) }}",
    "{{ '{:1000000000d}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10 ** 9) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "{{ strftime_now('%1000000000d') }}",
    "{{ lipsum(10 ** 6) }}",
    "{{ [1, 2] | random }}",
    "{{ range(10 ** 9) }}",
    "{% while true %}{% endwhile %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.append(1) }}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_a_template_without_end_ends(source, monkeypatch):
    monkeypatch.setattr(template_sandbox, "SECONDS", 1.0)
    with pytest.raises(Exception) as message:
        render(source, messages=[])
    assert not isinstance(message.value, (MemoryError, KeyboardInterrupt))


def test_what_was_too_much_is_said():
    for source, error in (
        (HOSTILE[0], f"not done after {template_sandbox.STEPS} steps"),
        (growing("'xx'", "ns.x ~ ns.x"), "texts or lists of more than 1000000"),
        ("{{ 10 ** 99999 }}", "numbers of more than a thousand digits"),
        ("x" * 1_000_001, "it has 1000001 characters itself"),
    ):
        with pytest.raises(TemplateLimitError, match=error):
            render(source)


def test_a_time_is_kept_too(monkeypatch):
    monkeypatch.setattr(template_sandbox, "SECONDS", -1.0)
    with pytest.raises(TemplateLimitError, match="is not done after -1 seconds"):
        render("{% for i in range(3) %}{% endfor %}")


@pytest.mark.parametrize(
    "hostile", ["{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"]
)
def test_a_checkpoint_with_such_a_template_is_refused_and_a_text_may_be_anything(hostile, tmp_path):
    llava(tmp_path)
    file = tmp_path / "chat_template.jinja"
    original = file.read_text()
    file.write_text(hostile + original)
    with pytest.raises(CheckpointError, match="chat template of this model .* steps; pass `chat="):
        t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu")
    file.write_text(original)
    scorer = t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu")
    image = draw_image(0)
    texts = [hostile, "{{ 10 ** 99999 }}", "{% raw %}", "a {# b", "x" * 300]
    assert scorer(image, texts).isfinite().all()
    # A template that is only bad to some texts fails with these.
    file.write_text(
        "{% if 'bad' in messages[0].content[1].text %}" + hostile + "{% endif %}" + original
    )
    scorer = t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu")
    assert scorer(image, "good").isfinite().all()
    with pytest.raises(CheckpointError, match="steps"):
        scorer(image, "bad")
