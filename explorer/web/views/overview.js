// The first page: what the chain does right now.

import { status } from "../chain.js";
import { useAsk, usePromise } from "../ask.js";
import { duration, number } from "../format.js";
import { BRIEF_COLUMNS, briefRow } from "../payload.js";
import { Block, Card, Peer, Table, Tile, Time, Title, Trouble, html } from "../parts.js";
import { call } from "../rpc.js";

const BLOCKS = 12;
const TRANSACTIONS = 12;
// Blocks that are looked into for the latest transactions; empty ones cost nothing, and a block never
// changes, so each is asked for once.
const LOOKED_INTO = TRANSACTIONS;
const LISTS_KEPT = 4 * LOOKED_INTO;
const lists = new Map();

async function transactionsOf({ hash, height }) {
  if (!lists.has(hash)) {
    lists.set(hash, (await call("tx_list", { block: height, limit: TRANSACTIONS })).items);
    if (lists.size > LISTS_KEPT) lists.delete(lists.keys().next().value);
  }
  return lists.get(hash);
}

async function latest() {
  const { items } = await call("chain_listBlocks", { limit: 60 });
  const full = items.filter((each) => each.transactionCount > 0).slice(0, LOOKED_INTO);
  const found = await Promise.all(full.map(transactionsOf));
  return { blocks: items, transactions: found.flat().slice(0, TRANSACTIONS) };
}

/** Mean time between the blocks shown, and transactions a second over them. */
function pace(blocks) {
  if (!blocks || blocks.length < 2) return {};
  const spanMs = blocks[0].timeMs - blocks.at(-1).timeMs;
  const count = blocks.slice(0, -1).reduce((sum, each) => sum + each.transactionCount, 0);
  return { gapMs: spanMs / (blocks.length - 1), rate: spanMs > 0 ? (count * 1_000) / spanMs : 0 };
}

export const BLOCK_COLUMNS = [
  ["Height", ""], ["Age", ""], ["Transactions", "right"], ["Proposer", "wide"],
];

export const blockRow = (block) => [
  html`<${Block} height=${block.height} />`,
  html`<${Time} ms=${block.timeMs} />`,
  html`<span class="figure">${number(block.transactionCount)}</span>`,
  html`<${Peer} id=${block.proposer} brief />`,
];

export function Overview() {
  const now = status.value;
  const { value, error } = usePromise("latest", latest, { live: true });
  const validators = useAsk("validator_list", {}, { live: true }).value;
  const top = useAsk("reputation_leaderboard", { limit: 1 }, { live: true }).value;
  const { gapMs, rate } = pace(value?.blocks);
  return html`
    <${Title} text="Overview" />
    <${Trouble} error=${error} />
    <div class="tiles">
      <${Tile} name="Height" value=${now && number(now.height)}
        note=${now && html`<${Time} ms=${now.blockTimeMs} />`} />
      <${Tile} name="Between blocks" value=${gapMs === undefined ? (value ? "–" : null) : duration(gapMs)}
        note="mean of the last 60" />
      <${Tile} name="Transactions a second" value=${rate === undefined ? (value ? "–" : null) : rate.toFixed(rate < 10 ? 2 : 0)}
        note="over the same blocks" />
      <${Tile} name="Waiting" value=${now && number(now.mempoolCount)} note="in the mempool" />
      <${Tile} name="Validators" value=${validators && number(validators.count)}
        note=${now && `${now.mode.toUpperCase()} consensus`} />
      <${Tile} name="Scored epoch" value=${top ? (top.epoch === null ? "none yet" : number(top.epoch)) : null}
        note="reputation" />
    </div>
    <div class="columns">
      <${Card} title="Latest blocks" aside=${html`<a href="#/blocks">All blocks</a>`} flush>
        <${Table} columns=${BLOCK_COLUMNS} expect=${BLOCKS}
          rows=${value ? value.blocks.slice(0, BLOCKS).map(blockRow) : null}
          empty="The first block is on its way." />
      <//>
      <${Card} title="Latest transactions" flush>
        <${Table} columns=${BRIEF_COLUMNS} expect=${TRANSACTIONS}
          rows=${value ? value.transactions.map(briefRow) : null}
          empty="No transactions in the last 60 blocks." />
      <//>
    </div>`;
}
