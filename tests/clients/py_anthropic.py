"""The official Anthropic client for Python."""

import anthropic
from check import Checks, raises

check = Checks()
client = anthropic.Anthropic(base_url=check.base, api_key="x", max_retries=0, timeout=60)
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@check
def messages():
    answer = client.messages.create(model=check.model, max_tokens=12, messages=MESSAGES)
    assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens"), answer
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 12, answer.usage


@check
def messages_stream():
    with client.messages.stream(model=check.model, max_tokens=12, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and text == final.content[0].text, (text, final)
    assert final.stop_reason in ("end_turn", "max_tokens"), final


@check
def system_prompt():
    answer = client.messages.create(model=check.model, max_tokens=4, system="Be brief.", messages=MESSAGES)
    assert answer.content[0].text, answer


@check
def count_tokens():
    short = client.messages.count_tokens(model=check.model, messages=MESSAGES).input_tokens
    long = client.messages.count_tokens(model=check.model, messages=[{"role": "user", "content": "word " * 500}]).input_tokens
    assert 0 < short < long, (short, long)


@check
def unknown_model():
    call = lambda: client.messages.create(model="nope", max_tokens=4, messages=MESSAGES)
    error = raises(anthropic.NotFoundError, call)
    assert error.body["type"] == "error" and error.body["error"]["type"] == "not_found_error", error.body


check.run()
