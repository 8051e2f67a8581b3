"""The official Ollama client for Python."""

import time

import ollama
from check import Checks, raises

check = Checks()
client = ollama.Client(host=check.base, timeout=60)
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
SHORT = {"num_predict": 12}


@check
def list_models():
    names = {model.model for model in client.list().models}
    assert {f"{check.model}:latest", "tiny-embed:latest"} <= names, names


@check
def show():
    shown = client.show(check.model)
    assert "completion" in shown.capabilities, shown.capabilities


@check
def chat():
    answer = client.chat(check.model, MESSAGES, options=SHORT)
    assert answer.done and answer.message.content, answer
    assert 0 < answer.eval_count <= 12 and answer.prompt_eval_count > 0, answer


@check
def chat_stream():
    pieces = list(client.chat(check.model, MESSAGES, stream=True, options=SHORT))
    assert [piece.done for piece in pieces].index(True) == len(pieces) - 1, pieces
    assert "".join(piece.message.content for piece in pieces), pieces
    assert pieces[-1].done_reason in ("stop", "length"), pieces[-1]


@check
def ps():
    client.chat(check.model, MESSAGES, options=SHORT)
    # A router may tell what it saw when it last looked.
    deadline = time.monotonic() + 20
    while f"{check.model}:latest" not in {model.model for model in client.ps().models}:
        assert time.monotonic() < deadline, client.ps()
        time.sleep(0.2)


@check
def generate():
    assert client.generate(check.model, "hello", options=SHORT).response


@check
def generate_stream():
    pieces = list(client.generate(check.model, "hello", stream=True, options=SHORT))
    assert pieces[-1].done and "".join(piece.response for piece in pieces), pieces


@check
def embed():
    answer = client.embed("tiny-embed", ["hello", "world"])
    assert [len(vector) for vector in answer.embeddings] == [128, 128], answer


@check
def embeddings():
    assert len(client.embeddings("tiny-embed", "hello").embedding) == 128


@check
def embed_with_a_chat_model():
    error = raises(ollama.ResponseError, lambda: client.embed(check.model, "hello"))
    assert error.status_code in (400, 404, 500, 501), error.status_code
    assert isinstance(error.error, str) and error.error, error.error


@check
def unknown_model():
    error = raises(ollama.ResponseError, lambda: client.chat("nope", MESSAGES))
    assert error.status_code == 404 and "nope" in error.error, (error.status_code, error.error)


@check
def unknown_model_in_a_stream():
    error = raises(ollama.ResponseError, lambda: list(client.chat("nope", MESSAGES, stream=True)))
    assert error.status_code == 404, error.status_code


check.run()
