// Transactions in words, and any payload as rows. A family this page does not know is shown by its
// fields all the same.

import { names } from "./chain.js";
import { label, number, tokens } from "./format.js";
import { Amount, Id, Outcome, Peer, Time, TxId, html } from "./parts.js";
import { link } from "./route.js";

const ADDRESSES = new Set(["sender", "registrant", "to", "payer", "payee", "subject", "validator", "operator"]);
const AMOUNTS = new Set(["fee", "amount", "deposit", "cumPaid", "balance"]);

// PeerIDs begin alike: in a sentence their end says more. U+2060 keeps it on one line.
const who = (id) => names.value.get(id) ?? `…\u2060${id.slice(-8)}`;

const SENTENCES = {
  Transfer: (p) => `${who(p.sender)} sends ${tokens(p.amount)} to ${who(p.to)}`,
  Register: (p) => (p.sender === p.registrant
    ? `${who(p.registrant)} registers`
    : `${who(p.sender)} registers ${who(p.registrant)}`),
  Settle: (p) => `${who(p.payer)} settles service ${p.service} of ${who(p.payee)}, ${tokens(p.cumPaid)} in all`,
  Rate: (p) => `${who(p.sender)} rates ${who(p.subject)} ${p.score > 0 ? "+" : "−"}${Math.abs(p.score)}`,
};

/** One line of what a transaction does. */
export function inWords(payload) {
  return SENTENCES[payload.type]?.(payload) ?? `${who(payload.sender)}: ${payload.type}`;
}

function shown(name, value) {
  if (value === "" || value === "0x") return html`<span class="dim">none</span>`;
  if (ADDRESSES.has(name)) return html`<${Peer} id=${value} />`;
  if (AMOUNTS.has(name)) return html`<${Amount} value=${value} />`;
  if (name === "expiryHeight") return value === 0 ? "never" : number(value);
  if (name === "chainId") return value;
  if (typeof value === "string" && value.startsWith("0x")) return html`<${Id} text=${value} />`;
  if (typeof value === "number") return html`<span class="figure">${number(value)}</span>`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Rows for Facts, in the payload's own order. */
export const payloadRows = (payload) =>
  Object.entries(payload).map(([name, value]) => [label(name), shown(name, value)]);

/** Columns and rows where there is little room. */
export const BRIEF_COLUMNS = [["What", "what-cell"], ["Outcome", "right"]];

const Sentence = ({ item }) => html`<span class="sentence" title=${inWords(item.payload)}>
  <span class="kind">${item.payload.type}</span> ${inWords(item.payload)}</span>`;

export const briefRow = (item) => [
  html`<a class="plain" href=${link("tx", item.hash)}><${Sentence} item=${item} /></a>`,
  html`<${Outcome} item=${item} brief />`,
];

export const TRANSACTION_COLUMNS = [
  ["Transaction", "id-cell"], ["What", "what-cell"], ["Fee", "right wide"], ["Outcome", "right"],
];

export const transactionRow = (item) => [
  html`<${TxId} hash=${item.hash} />`,
  html`<${Sentence} item=${item} />`,
  html`<${Amount} value=${item.receipt?.fee ?? item.payload.fee} />`,
  html`<${Outcome} item=${item} />`,
];
