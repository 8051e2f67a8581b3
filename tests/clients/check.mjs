// Runs named checks and tells each in one line: `PASS name` or `FAIL name: why`; exits 1 when one failed.
import path from "node:path";

if (![3, 4].includes(process.argv.length)) {
  console.error(`usage: node ${process.argv[1]} BASE_URL [CHAT_MODEL]`);
  process.exit(2);
}

export const base = process.argv[2].replace(/\/$/, "");
export const model = process.argv[3] ?? "tiny";

export function assert(condition, what) {
  if (!condition) throw new Error(`unexpected: ${JSON.stringify(what)?.slice(0, 300)}`);
}

// The error that `call` throws; an answer is a failure.
export async function rejects(call) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    return error;
  }
  throw new Error(`no error but ${JSON.stringify(answer)?.slice(0, 200)}`);
}

export async function run(checks) {
  const program = path.basename(process.argv[1]);
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`PASS ${program} ${model}: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${program} ${model}: ${name}: ${error.name} ${String(error.message).slice(0, 300)}`);
    }
  }
  process.exitCode = failed ? 1 : 0;
}
