"""LangChain over its OpenAI and Ollama integrations. Its OpenAI client sends max_completion_tokens only."""

from check import Checks
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI

check = Checks()
openai_chat = ChatOpenAI(base_url=check.base + "/v1", api_key="x", model=check.model, max_tokens=4, max_retries=0, timeout=60)
ollama_chat = ChatOllama(base_url=check.base, model=check.model, num_predict=12)


@check
def openai_invoke():
    answers = [openai_chat.invoke("hello") for _ in range(8)]
    counts = [answer.usage_metadata["output_tokens"] for answer in answers]
    assert all(answer.content for answer in answers) or max(counts) <= 1, answers
    assert max(counts) <= 4, counts


@check
def openai_stream():
    texts = ["".join(piece.content for piece in openai_chat.stream("hello")) for _ in range(4)]
    assert any(texts), texts


@check
def ollama_invoke():
    answer = ollama_chat.invoke("hello")
    assert answer.usage_metadata["output_tokens"] <= 12, answer


@check
def ollama_stream():
    assert "".join(piece.content for piece in ollama_chat.stream("hello"))


@check
def ollama_embeddings():
    vectors = OllamaEmbeddings(base_url=check.base, model="tiny-embed").embed_documents(["hello", "world"])
    assert [len(vector) for vector in vectors] == [128, 128]


check.run()
