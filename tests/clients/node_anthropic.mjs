// The official Anthropic client for JavaScript.
import Anthropic from "@anthropic-ai/sdk";
import { assert, base, model, rejects, run } from "./check.mjs";

const client = new Anthropic({ baseURL: base, apiKey: "x", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const request = { model, max_tokens: 12, messages };

await run({
  async messages() {
    const answer = await client.messages.create(request);
    assert(answer.content[0].text && answer.usage.output_tokens <= 12, answer);
  },
  async stream() {
    const stream = client.messages.stream(request);
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    assert(text && text === final.content[0].text, { text, final });
    assert(["end_turn", "max_tokens"].includes(final.stop_reason), final);
  },
  async count_tokens() {
    const { input_tokens } = await client.messages.countTokens({ model, messages });
    assert(input_tokens > 0, input_tokens);
  },
  async unknown_model() {
    const error = await rejects(() => client.messages.create({ ...request, model: "nope" }));
    assert(error.status === 404 && error.error?.error?.type === "not_found_error", error.error);
  },
});
