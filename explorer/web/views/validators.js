// Who votes, and who signed which of the last hundred blocks.

import { useState } from "../vendor/vendor.js";
import { useAsk, usePromise } from "../ask.js";
import { commitsOf } from "../chain.js";
import { number } from "../format.js";
import { Card, Id, Peer, Table, Title, Trouble, html } from "../parts.js";
import { call } from "../rpc.js";
import { go } from "../route.js";

const BLOCKS = 100;
const CELL = 10;
const ROW = 14;

async function lastBlocks() {
  const { items } = await call("chain_listBlocks", { limit: BLOCKS });
  const blocks = items.reverse();
  return { blocks, commits: await commitsOf(blocks.map((each) => each.height)) };
}

/** Per block: "signed", "absent", or "unknown" for another validator set or an unheld certificate. */
function attendance(index, hash, { blocks, commits }) {
  return blocks.map(({ height }) => {
    const commit = commits.get(height);
    if (!commit || commit.validatorsHash !== hash) return "unknown";
    return commit.signers.includes(index) ? "signed" : "absent";
  });
}

const path = (cells, kind) => cells
  .map((cell, i) => (cell === kind ? `M${i * CELL + 1} 1h${CELL - 2}v${ROW - 2}h${2 - CELL}z` : ""))
  .join("");

function Strip({ cells, blocks, onPoint }) {
  const heightAt = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = Math.floor(((event.clientX - box.left) / box.width) * BLOCKS) - (BLOCKS - blocks.length);
    return blocks[place]?.height ?? null;
  };
  // Fewer blocks than columns stand at the right, where the newest belongs.
  const shift = (BLOCKS - blocks.length) * CELL;
  return html`<svg class="strip" viewBox=${`0 0 ${BLOCKS * CELL} ${ROW}`} preserveAspectRatio="none" role="img"
      aria-label=${`signed ${cells.filter((cell) => cell === "signed").length} of ${cells.length}`}
      onPointerMove=${(event) => onPoint(heightAt(event))} onPointerLeave=${() => onPoint(null)}
      onClick=${(event) => { const height = heightAt(event); if (height) go("block", height); }}>
    <g transform=${`translate(${shift})`}>
      ${["signed", "absent", "unknown"].map((kind) => html`<path key=${kind} class=${kind} d=${path(cells, kind)} />`)}
    </g></svg>`;
}

export function Validators() {
  const { value: set, error } = useAsk("validator_list", {}, { live: true });
  const { value: last } = usePromise("last-blocks", lastBlocks, { live: true });
  const [pointed, setPointed] = useState(null);
  const rows = set && set.items.map((each) => {
    const cells = last ? attendance(each.index, set.hash, last) : [];
    const known = cells.filter((cell) => cell !== "unknown").length;
    const signed = cells.filter((cell) => cell === "signed").length;
    return { ...each, cells, share: known ? `${signed} / ${known}` : "–",
      proposed: last ? last.blocks.filter((block) => block.proposer === each.operator).length : 0 };
  });
  return html`
    <${Title} text="Validators" />
    <${Trouble} error=${error} />
    <${Card} title="The last 100 blocks" aside=${html`<span class="figure pointed">${pointed === null
      ? (last?.blocks.length ? `${number(last.blocks[0].height)} – ${number(last.blocks.at(-1).height)}` : "\u00a0")
      : `Block ${number(pointed)}`}</span>`}>
      ${rows ? html`<div class="grid">${rows.map((row) => html`
        <div class="grid-row" key=${row.operator}>
          <${Peer} id=${row.operator} />
          <${Strip} cells=${row.cells} blocks=${last?.blocks ?? []} onPoint=${setPointed} />
          <span class="figure right">${row.share}</span>
        </div>`)}</div>` : html`<span class="bone tall" />`}
      <p class="hint legend"><span class="swatch signed" /> signed <span class="swatch absent" /> absent
        <span class="swatch unknown" /> not known here. A decision needs more than two thirds of the power, so a late vote
        is missing from the certificate without any fault.</p>
    <//>
    <${Card} title="The set" flush aside=${set && html`<span class="figure">${number(set.count)} validators, power ${number(set.totalPower)}</span>`}>
      <${Table} columns=${[["#", ""], ["Operator", ""], ["Power", "right"], ["Proposed", "right"], ["Node", "wide"]]}
        rows=${rows && rows.map((row) => [
          html`<span class="figure">${row.index}</span>`,
          html`<${Peer} id=${row.operator} />`,
          html`<span class="figure">${number(row.power)}</span>`,
          html`<span class="figure">${row.proposed}</span>`,
          html`<${Id} text=${row.nodeId} />`,
        ])} />
    <//>`;
}
