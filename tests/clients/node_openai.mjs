// The official OpenAI client for JavaScript.
import OpenAI from "openai";
import { assert, base, model, rejects, run } from "./check.mjs";

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "x", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const chat = (fields) => client.chat.completions.create({ model, messages, ...fields });

await run({
  async models() {
    const names = (await client.models.list()).data.map((item) => item.id.replace(/:latest$/, ""));
    assert(names.includes(model) && names.includes("tiny-embed"), names);
  },
  async chat() {
    const answer = await chat({ max_tokens: 12 });
    assert(answer.choices[0].message.content && answer.usage.completion_tokens <= 12, answer);
  },
  async stream() {
    let text = "", reason = null, pieces = 0;
    for await (const piece of await chat({ max_tokens: 12, stream: true })) {
      pieces += 1;
      text += piece.choices[0]?.delta?.content ?? "";
      reason = piece.choices[0]?.finish_reason ?? reason;
    }
    assert(pieces > 1 && text && ["stop", "length"].includes(reason), { pieces, text, reason });
  },
  async max_completion_tokens() {
    const answers = [];
    for (let i = 0; i < 8; i++) answers.push(await chat({ max_completion_tokens: 4 }));
    const counts = answers.map((answer) => answer.usage.completion_tokens);
    assert(Math.max(...counts) <= 4, counts);
  },
  async responses() {
    const answer = await client.responses.create({ model, input: "hello", max_output_tokens: 16 });
    assert(answer.output_text, answer);
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: "tiny-embed", input: "hello" });
    assert(answer.data[0].embedding.length === 128, answer.data[0].embedding.length);
  },
  async embeddings_of_a_chat_model() {
    const error = await rejects(() => client.embeddings.create({ model, input: "hello" }));
    assert([400, 404, 500, 501].includes(error.status), { status: error.status, message: error.message });
  },
  async unknown_model() {
    const error = await rejects(() => chat({ model: "nope" }));
    assert(error.status === 404 && error.message.includes("nope"), { status: error.status, message: error.message });
  },
});
