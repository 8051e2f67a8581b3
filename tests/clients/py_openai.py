"""The official OpenAI client for Python."""

import openai
from check import Checks, raises

check = Checks()
client = openai.OpenAI(base_url=check.base + "/v1", api_key="x", max_retries=0, timeout=60)
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def chat(**fields):
    return client.chat.completions.create(**{"model": check.model, "messages": MESSAGES, "max_tokens": 12, **fields})


@check
def models():
    names = {model.id.removesuffix(":latest") for model in client.models.list().data}
    assert {check.model, "tiny-embed"} <= names, names


@check
def model():
    assert client.models.retrieve(check.model).id.removesuffix(":latest") == check.model


@check
def chat_once():
    answer = chat()
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    assert 0 < answer.usage.completion_tokens <= 12, answer.usage


@check
def chat_stream():
    pieces = list(chat(stream=True, stream_options={"include_usage": True}))
    text = [p.choices[0].delta.content for p in pieces if p.choices and p.choices[0].delta.content]
    reasons = [p.choices[0].finish_reason for p in pieces if p.choices and p.choices[0].finish_reason]
    usage = [p.usage for p in pieces if p.usage]
    assert text and reasons[-1] in ("stop", "length"), pieces
    assert usage and usage[-1].completion_tokens <= 12, usage


@check
def max_completion_tokens():
    # The model ends some answers by itself; without the limit hardly one of eight would be this short.
    answers = [chat(max_tokens=openai.omit, max_completion_tokens=4) for _ in range(8)]
    counts = [answer.usage.completion_tokens for answer in answers]
    assert max(counts) <= 4, counts
    assert "length" in {answer.choices[0].finish_reason for answer in answers}, answers


@check
def completions():
    answer = client.completions.create(model=check.model, prompt="The quick", max_tokens=6)
    assert answer.choices[0].text and answer.usage.completion_tokens <= 6, answer


@check
def responses():
    answer = client.responses.create(model=check.model, input="hello", max_output_tokens=16)
    assert answer.status in ("completed", "incomplete") and answer.output_text, answer


@check
def responses_stream():
    events = list(client.responses.create(model=check.model, input="hello", max_output_tokens=16, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created", kinds
    assert "response.output_text.delta" in kinds, kinds
    assert kinds[-1] in ("response.completed", "response.incomplete"), kinds


@check
def embeddings():
    answer = client.embeddings.create(model="tiny-embed", input=["hello", "world"])
    assert [len(item.embedding) for item in answer.data] == [128, 128], answer


@check
def embeddings_of_a_chat_model():
    error = raises(openai.APIStatusError, lambda: client.embeddings.create(model=check.model, input="hello"))
    assert error.status_code in (400, 404, 500, 501) and error.body and error.body["message"], error


@check
def unknown_model():
    error = raises(openai.NotFoundError, lambda: chat(model="nope"))
    assert "nope" in error.body["message"], error


@check
def wrong_type():
    raises(openai.BadRequestError, lambda: chat(max_tokens="x"))


@check
def too_long():
    raises(openai.BadRequestError, lambda: chat(messages=[{"role": "user", "content": "word " * 20000}]))


check.run()
