// All blocks, and one block with those who signed it and those who are missing.

import { tipHeight } from "../chain.js";
import { useAsk, usePages } from "../ask.js";
import { byteSize, number } from "../format.js";
import { TRANSACTION_COLUMNS, transactionRow } from "../payload.js";
import { Badge, Card, Facts, Id, More, Peer, Table, Time, Title, Trouble, html } from "../parts.js";
import { link } from "../route.js";
import { BLOCK_COLUMNS, blockRow } from "./overview.js";

export function Blocks() {
  const { items, error, more } = usePages("chain_listBlocks", { limit: 30 }, { live: true });
  return html`
    <${Title} text="Blocks" />
    <${Trouble} error=${error} />
    <${Card} flush>
      <${Table} columns=${BLOCK_COLUMNS} expect=${30} rows=${items && items.map(blockRow)} />
      <${More} more=${more} />
    <//>`;
}

/** `reference`: a height or a hash, as it stands in the address. */
export function BlockView({ reference }) {
  if (!/^(\d{1,15}|0x[0-9a-f]{64}|latest|earliest)$/.test(reference)) {
    return html`<${Title} text="Block" />
      <p class="trouble" role="alert">“${reference}” is neither a height nor the hash of a block.</p>`;
  }
  return html`<${KnownBlock} reference=${reference} />`;
}

function KnownBlock({ reference }) {
  const block = /^\d{1,15}$/.test(reference) ? Number(reference) : reference;
  const { value: header, error } = useAsk("chain_getHeader", { block });
  const commit = useAsk("chain_getCommit", { block }).value;
  const validators = useAsk("validator_list").value;
  const list = usePages("tx_list", { block, limit: 50, order: "asc" });
  if (error) return html`<${Title} text=${`Block ${reference}`} /><${Trouble} error=${error} />`;
  const height = header?.height ?? reference;
  return html`
    <${Title} text=${`Block ${height}`}>
      ${header && html`<nav class="steps">
        <a href=${link("block", header.height - 1)} class=${header.height > 1 ? "" : "off"} aria-label="Previous block">‹</a>
        <a href=${link("block", header.height + 1)} class=${header.height < tipHeight.value ? "" : "off"} aria-label="Next block">›</a>
      </nav>`}
    <//>
    <div class="columns">
      <${Card} title="Header"><${Facts} rows=${headerRows(header)} /><//>
      <${Signers} commit=${commit} validators=${validators} />
    </div>
    <${Card} title="Transactions" flush>
      <${Table} columns=${TRANSACTION_COLUMNS} rows=${list.items && list.items.map(transactionRow)}
        empty="This block has no transactions." expect=${3} />
      <${More} more=${list.more} />
    <//>`;
}

function headerRows(header) {
  const bone = html`<span class="bone" />`;
  const value = (make) => (header ? make() : bone);
  return [
    ["Hash", value(() => html`<${Id} text=${header.hash} />`)],
    ["Time", value(() => html`<${Time} ms=${header.timeMs} />`)],
    ["Proposer", value(() => html`<${Peer} id=${header.proposer} />`)],
    ["Parent", value(() => header.height > 1
      ? html`<${Id} text=${header.parentHash} to=${link("block", header.height - 1)} />`
      : html`<${Id} text=${header.parentHash} /> <span class="dim">network definition</span>`)],
    ["State root", value(() => html`<${Id} text=${header.stateRoot} />`)],
    ["Transactions root", value(() => html`<${Id} text=${header.txRoot} />`)],
    ["Receipts root", value(() => html`<${Id} text=${header.receiptsRoot} />`)],
    ["Parameters", value(() => html`<${Id} text=${header.paramsHash} />`)],
    ["Encoded", value(() => byteSize((header.encoded.length - 2) / 2))],
  ];
}

function Signers({ commit, validators }) {
  if (!commit || !validators) return html`<${Card} title="Signers"><span class="bone tall" /><//>`;
  const known = commit.validatorsHash === validators.hash;
  const signed = new Set(commit.signers);
  const rows = known
    ? validators.items.map((each) => [each.index, html`<${Peer} id=${each.operator} />`])
    : commit.signers.map((index) => [index, `Validator ${index} of an earlier set`]);
  return html`
    <${Card} title="Signers" aside=${html`<span class="figure">${signed.size}${known && ` of ${validators.count}`}</span>`}>
      <ul class="signers">${rows.map(([index, who]) => html`<li key=${index}>
        <${Badge} kind=${signed.has(index) ? "good" : "bad"}>${signed.has(index) ? "signed" : "absent"}<//> ${who}</li>`)}</ul>
      <p class="hint">Round ${number(commit.round)}. A block needs more than two thirds of the power; a vote that came
        after the decision is not in this node's certificate.</p>
    <//>`;
}
