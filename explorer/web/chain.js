// What the whole page follows: the node's status, who the validators are called, which methods the
// node offers. New blocks are told over the WebSocket where the node has one, and polled otherwise.

import { batch, computed, signal } from "./vendor/vendor.js";
import { call, NODE_URL, Unreachable } from "./rpc.js";

const POLL_MS = 1_000;
// While the WebSocket tells of blocks, polling only keeps the other figures fresh.
const POLL_BESIDE_SOCKET_MS = 5_000;
// A fast chain has several blocks a second; views refresh at most this often.
const REFRESH_MIN_MS = 400;
const SOCKET_RETRY_MS = 10_000;
const COMMITS_KEPT = 400;

/** system_status, or null before the first answer. */
export const status = signal(null);
/** "starting" | "socket" | "polling" | "unreachable" */
export const connection = signal("starting");
/** Date.now() on the node's clock, once a second. */
export const nowMs = signal(Date.now());
export const tipHeight = computed(() => status.value?.height ?? null);
/** Operator's PeerID → the validator's name in the network definition. */
export const names = signal(new Map());
/** Names of the node's methods; null until known. */
export const methods = signal(null);
/** The network definition and the hash that the node gives it. */
export const genesis = signal(null);

let clockAheadMs = 0;
let socketOpen = false;
let refreshing = false;
let again = false;
let lastRefresh = 0;
let timer = 0;

/** Begin to follow the node, for the life of the page. */
export function follow() {
  refresh();
  setInterval(() => { nowMs.value = Date.now() + clockAheadMs; }, 1_000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  learnOnce();
}

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  clearTimeout(timer);
  try {
    lastRefresh = Date.now();
    const now = await call("system_status");
    batch(() => {
      clockAheadMs = now.timeMs - Date.now();
      nowMs.value = now.timeMs;
      status.value = now;
      connection.value = socketOpen ? "socket" : "polling";
    });
  } catch (error) {
    // A node that refuses, because it is asked too often or starts, is there all the same.
    if (error instanceof Unreachable) connection.value = "unreachable";
  }
  refreshing = false;
  const soon = again ? REFRESH_MIN_MS : socketOpen ? POLL_BESIDE_SOCKET_MS : POLL_MS;
  again = false;
  schedule(soon);
}

function schedule(delayMs) {
  clearTimeout(timer);
  // A hidden page asks nothing; becoming visible refreshes at once.
  timer = setTimeout(() => { if (!document.hidden) refresh(); }, delayMs);
}

async function learnOnce() {
  try {
    const [definition, described] = await Promise.all([call("system_genesis"), call("rpc.discover")]);
    batch(() => {
      genesis.value = definition;
      names.value = new Map(
        (definition.document.validators ?? []).map((each) => [each.operator, each.name]),
      );
      methods.value = new Map(described.methods.map((each) => [each.name, each]));
    });
    if (methods.value.has("subscribe")) openSocket();
  } catch {
    setTimeout(learnOnce, POLL_MS * 3);
  }
}

function openSocket() {
  const url = new URL("ws", NODE_URL);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  socket.onopen = () => {
    const params = { topic: "blocks" };
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "subscribe", params }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id === 1 && message.error) socket.close();
    if (message.id === 1 && !message.error) socketOpen = true;
    const since = Date.now() - lastRefresh;
    if (since >= REFRESH_MIN_MS) refresh();
    else schedule(REFRESH_MIN_MS - since);
  };
  socket.onclose = () => {
    if (socketOpen) schedule(0);
    socketOpen = false;
    setTimeout(openSocket, SOCKET_RETRY_MS);
  };
}

const commits = new Map();

/** Commit certificates of heights, from the cache where they are: they never change. */
export async function commitsOf(heights) {
  const missing = heights.filter((height) => !commits.has(height));
  const answers = await Promise.allSettled(
    missing.map((height) => call("chain_getCommit", { block: height })),
  );
  answers.forEach(({ value }, i) => {
    if (!value) return;
    const { round, signers, validatorsHash } = value;
    commits.set(missing[i], { round, signers, validatorsHash });
  });
  const found = new Map(heights.filter((h) => commits.has(h)).map((h) => [h, commits.get(h)]));
  for (const height of [...commits.keys()].slice(0, Math.max(0, commits.size - COMMITS_KEPT))) {
    commits.delete(height);
  }
  return found;
}
