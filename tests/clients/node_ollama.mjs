// The official Ollama client for JavaScript. It throws when a stream ends without its `done` line.
import { Ollama } from "ollama";
import { assert, base, model, rejects, run } from "./check.mjs";

const client = new Ollama({ host: base });
const messages = [{ role: "user", content: "hi" }];
const options = { num_predict: 12 };

await run({
  async list() {
    const names = (await client.list()).models.map((item) => item.model);
    assert(names.includes(`${model}:latest`) && names.includes("tiny-embed:latest"), names);
  },
  async show() {
    assert((await client.show({ model })).details, "details");
  },
  async chat() {
    const answer = await client.chat({ model, messages, options });
    assert(answer.done && answer.message.content, answer);
  },
  async stream() {
    let text = "", last;
    for await (const piece of await client.chat({ model, messages, options, stream: true })) {
      text += piece.message.content;
      last = piece;
    }
    assert(text && last.done, last);
  },
  async generate() {
    assert((await client.generate({ model, prompt: "hello", options })).response, "response");
  },
  async ps() {
    assert(Array.isArray((await client.ps()).models), "models");
  },
  async embed() {
    const answer = await client.embed({ model: "tiny-embed", input: ["hello", "world"] });
    assert(answer.embeddings.length === 2 && answer.embeddings[0].length === 128, answer.embeddings.length);
  },
  async embed_with_a_chat_model() {
    const error = await rejects(() => client.embed({ model, input: "hello" }));
    assert([400, 404, 500, 501].includes(error.status_code) && error.message !== "[object Object]", error);
  },
  async unknown_model() {
    const error = await rejects(() => client.chat({ model: "nope", messages }));
    assert(error.status_code === 404 && error.message.includes("nope"), error);
  },
});
