// The small parts that every view is made of. All text becomes text nodes; nothing makes markup.

import { Component, h, htm, useEffect, useRef, useState } from "./vendor/vendor.js";
import { names, nowMs } from "./chain.js";
import { REASONS } from "./facts.js";
import { ago, moment, short, tokens } from "./format.js";
import { link } from "./route.js";
import { Unreachable } from "./rpc.js";

export const html = htm.bind(h);

const COPIED_MS = 1_200;

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Plain HTTP from another machine: browsers offer no clipboard there but this.
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

export function Copy({ text }) {
  const [done, setDone] = useState(false);
  const press = async () => {
    await copy(text);
    setDone(true);
    setTimeout(() => setDone(false), COPIED_MS);
  };
  return html`<button type="button" class=${done ? "copy done" : "copy"} onClick=${press}
    aria-label=${done ? "Copied" : `Copy ${text}`} title=${done ? "Copied" : "Copy"}></button>`;
}

/** An identifier, shortened, with copy. `to` is where it leads. */
export const Id = ({ text, to, full = false }) => html`
  <span class="id">${to
    ? html`<a href=${to} title=${text}>${full ? text : short(text)}</a>`
    : html`<span title=${text}>${full ? text : short(text)}</span>`}<${Copy} text=${text} /></span>`;

/** An account by its PeerID, with the name of its validator where it has one. */
export function Peer({ id, full = false, brief = false, view = "account", children }) {
  if (!id) return html`<span class="dim">none</span>`;
  const name = names.value.get(id);
  if (brief && name) return html`<a class="name" href=${link(view, id)} title=${id}>${name}</a>`;
  return html`<span class="peer">${name && html`<a class="name" href=${link(view, id)}>${name}</a>`} ${children}
    <${Id} text=${id} to=${link(view, id)} full=${full} /></span>`;
}

export const Block = ({ height }) => html`<a class="figure" href=${link("block", height)}>${height}</a>`;
export const TxId = ({ hash }) => html`<${Id} text=${hash} to=${link("tx", hash)} />`;
export const Amount = ({ value }) => html`<span class="figure">${tokens(value)}</span>`;

export const Time = ({ ms }) => html`<time class="figure" datetime=${new Date(ms).toISOString()}
  title=${moment(ms)}>${ago(nowMs.value - ms)}</time>`;

export const Badge = ({ kind = "", children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

/** Whether a transaction succeeded, waits, or failed and why. */
export function Outcome({ item, brief = false }) {
  if (item.status === "pending") return html`<${Badge}>waiting<//>`;
  const { receipt } = item;
  if (!receipt) return html`<${Badge}>committed<//>`;
  if (receipt.ok) return html`<${Badge} kind="good">success<//>`;
  const why = REASONS[receipt.reason] ?? "";
  return html`<${Badge} kind="bad"><span title=${brief ? `${receipt.reason}: ${why}` : why}>${brief ? "failed" : receipt.reason}</span><//>`;
}

export const Card = ({ title, aside, children, flush = false }) => html`
  <section class=${flush ? "card flush" : "card"}>
    ${title && html`<header><h2>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</header>`}
    ${children}
  </section>`;

/** Names and values, a row each. `rows`: [name, value]; false rows are left out. */
export const Facts = ({ rows }) => html`<dl class="facts">${rows.filter(Boolean).map(
  ([name, value], i) => html`<div key=${typeof name === "string" ? name : i}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** Rows for Facts that hold the place of what is being asked for. */
export const bones = (count) =>
  Array.from({ length: count }, (_, i) => [html`<span class="bone" key=${i} />`, html`<span class="bone" />`]);

/**
 * A table that keeps its height while it loads. `columns`: [name, class]; the class "wide" is dropped
 * on narrow screens, where rows with names over PeerIDs are `tall`. `rows` are lists of cells, null or undefined while loading, with a `key`.
 */
export function Table({ columns, rows, empty = "Nothing here yet.", expect = 5, tall = false, keyOf = (_, i) => i }) {
  const body = rows == null
    ? Array.from({ length: expect }, (_, i) => html`<tr key=${i} class=${tall ? "loading tall" : "loading"}>${columns.map(
        ([, kind]) => html`<td class=${kind}><span class="bone" /></td>`)}</tr>`)
    : rows.map((cells, i) => html`<tr key=${keyOf(cells, i)}>${cells.map(
        (cell, place) => html`<td class=${columns[place][1]}>${cell}</td>`)}</tr>`);
  return html`<div class="scroll"><table>
    <thead><tr>${columns.map(([name, kind]) => html`<th class=${kind} scope="col">${name}</th>`)}</tr></thead>
    <tbody>${rows?.length === 0
      ? html`<tr><td class="empty" colspan=${columns.length}>${empty}</td></tr>`
      : body}</tbody>
  </table></div>`;
}

/** What went wrong, in the node's words. */
export function Trouble({ error }) {
  if (!error) return null;
  if (error instanceof Unreachable) return html`<p class="trouble" role="alert">${error.message}</p>`;
  return html`<p class="trouble" role="alert">${error.message}
    ${error.reason && html` <code>${error.reason}</code>`}</p>`;
}

export function More({ more }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  if (!more) return null;
  const press = async () => {
    setBusy(true);
    try {
      await more();
      setError(null);
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return html`<div class="more"><button type="button" onClick=${press} disabled=${busy}>Show more</button>
    <${Trouble} error=${error} /></div>`;
}

export const Tabs = ({ items, current }) => html`<nav class="tabs">${items.map(([name, to]) => html`
  <a href=${to} aria-current=${name === current ? "page" : null}>${name}</a>`)}</nav>`;

/** The heading of a view, which also names the browser's tab. */
export function Title({ children, text }) {
  useEffect(() => { document.title = `${text} · Tallystick`; }, [text]);
  return html`<div class="title"><h1>${text}</h1>${children}</div>`;
}

/** Keeps the rest of the page when a view meets an answer that it cannot show. */
export class Boundary extends Component {
  state = { error: null };

  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  render({ children }) {
    if (!this.state.error) return children;
    return html`<p class="trouble" role="alert">This view cannot show what the node answered. ${String(this.state.error)}</p>`;
  }
}

/** A number that people compare: figure above, what it is below. */
export const Tile = ({ name, value, note }) => html`<div class="tile">
  <span class="what">${name}</span>
  <span class="value">${value ?? html`<span class="bone" />`}</span>
  <span class="note">${note ?? "\u00a0"}</span></div>`;

/** Runs `draw(element, width)` for a box and again when its width changes; draw returns a cleanup. */
export function useDrawing(draw, inputs) {
  const box = useRef(null);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    let clean = draw(element, element.clientWidth);
    let width = element.clientWidth;
    const watcher = new ResizeObserver(() => {
      if (element.clientWidth === width) return;
      width = element.clientWidth;
      clean?.();
      clean = draw(element, width);
    });
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      clean?.();
    };
  }, inputs);
  return box;
}
