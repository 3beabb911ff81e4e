// JSON-RPC 2.0 over one POST. Calls made in the same turn travel as one batch.

// The node takes at most 100 calls in a batch.
const BATCH_MAX = 50;
const TIMEOUT_MS = 15_000;

/** The node's address: the page lies one folder below it, also behind a proxy. */
export const NODE_URL = new URL("..", document.baseURI);

/** An error of the node. `reason` is the contract, `data` its facts. */
export class RpcFailure extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.reason = data?.reason ?? null;
    this.data = data ?? {};
  }
}

/** The node did not answer at all. */
export class Unreachable extends Error {}

let waiting = [];
let nextId = 1;

/** The result of a method. Rejects with RpcFailure or Unreachable. */
export function call(method, params = {}) {
  return new Promise((resolve, reject) => {
    if (waiting.length === 0) queueMicrotask(flush);
    const body = { jsonrpc: "2.0", id: nextId++, method, params };
    waiting.push({ body, resolve, reject });
  });
}

function flush() {
  const calls = waiting;
  waiting = [];
  for (let at = 0; at < calls.length; at += BATCH_MAX) send(calls.slice(at, at + BATCH_MAX));
}

async function send(calls) {
  try {
    const bodies = calls.map(({ body }) => body);
    const answers = await post(bodies.length === 1 ? bodies[0] : bodies);
    const list = Array.isArray(answers) ? answers : [answers];
    const byId = new Map(list.map((answer) => [answer.id, answer]));
    for (const { body, resolve, reject } of calls) {
      // A refusal of the whole body (rate limit, overload) has id null.
      const answer = byId.get(body.id) ?? byId.get(null);
      if (answer === undefined) reject(new Unreachable("the node left out an answer"));
      else if (answer.error) reject(new RpcFailure(answer.error));
      else resolve(answer.result);
    }
  } catch (error) {
    for (const { reject } of calls) reject(error);
  }
}

async function post(body) {
  let text;
  try {
    const answer = await fetch(NODE_URL, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await answer.text();
  } catch {
    throw new Unreachable("The node does not answer.");
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Unreachable("The node's answer is no JSON.");
  }
}
