// The round of consensus, the node's peers, its mempool.

import { useAsk, usePages, usePromise } from "../ask.js";
import { commitsOf, nowMs, status, tipHeight } from "../chain.js";
import { byteSize, duration, number, tokens } from "../format.js";
import { call } from "../rpc.js";
import { Badge, Block, Card, Facts, Id, More, Peer, Table, Tile, Title, Trouble, html } from "../parts.js";

const PHASES = ["waiting", "preparing", "committing", "decided"];
const ROUNDS_SHOWN = 20;

export function Consensus() {
  const { value: round, error } = useAsk("consensus_status", {}, { live: true });
  const tip = tipHeight.value;
  const recent = usePromise("rounds", async () => {
    const { items } = await call("chain_listBlocks", { limit: ROUNDS_SHOWN });
    return { blocks: items, commits: await commitsOf(items.map((each) => each.height)) };
  }, { live: true }).value;
  return html`
    <${Title} text="Consensus" />
    <${Trouble} error=${error} />
    <div class="tiles four">
      <${Tile} name="Deciding height" value=${round && number(round.height)} note=${tip !== null && `after block ${number(tip)}`} />
      <${Tile} name="Round" value=${round && number(round.round)} note=${round && (round.round === 0 ? "the first attempt" : "after a change of leader")} />
      <${Tile} name="Engine" value=${round && round.mode.toUpperCase()} note=${round && `tolerates ${round.tolerates}`} />
      <${Tile} name="This node" value=${round && (round.ownIndex === null ? "observer" : `validator ${round.ownIndex}`)}
        note=${round && `a quorum is ${round.quorum}`} />
    </div>
    <${Card} title="Present round">
      <ol class="phases">${[...PHASES, ...(round && !PHASES.includes(round.phase) ? [round.phase] : [])].map((phase) => html`
        <li key=${phase} aria-current=${round?.phase === phase ? "step" : null}>${phase}</li>`)}</ol>
      <${Facts} rows=${[["Leader", round ? html`<${Peer} id=${round.leader} />` : html`<span class="bone" />`]]} />
    <//>
    <${Card} title="Recent decisions" flush>
      <${Table} expect=${ROUNDS_SHOWN} columns=${[["Height", ""], ["Round", "right"], ["Signers", "right"], ["Proposer", "wide"]]}
        rows=${recent ? recent.blocks.map((block) => {
          const commit = recent.commits.get(block.height);
          return [
            html`<${Block} height=${block.height} />`,
            html`<span class="figure">${commit ? number(commit.round) : "–"}</span>`,
            html`<span class="figure">${commit ? number(commit.signers.length) : "–"}</span>`,
            html`<${Peer} id=${block.proposer} />`,
          ];
        }) : null} />
    <//>`;
}

export function Peers() {
  const { items, error, more } = usePages("net_peers", { limit: 100 }, { live: true });
  return html`
    <${Title} text="Peers" />
    <p class="lead">Connections of the node that you are asking.</p>
    <${Trouble} error=${error} />
    <${Card} flush>
      <${Table} columns=${[["Peer", ""], ["Validator", ""], ["Address", "wide"], ["Round trip", "right wide"], ["Connected", "right wide"]]}
        rows=${items && items.map((peer) => [
          html`<${Id} text=${peer.peerId} />`,
          peer.validator ? html`<${Peer} id=${peer.validator} brief />` : html`<span class="dim">no validator</span>`,
          html`<span class="figure">${peer.address}</span> <${Badge}>${peer.direction}<//>`,
          html`<span class="figure">${peer.roundTripMs === null ? "–" : `${peer.roundTripMs} ms`}</span>`,
          html`<span class="figure">${duration(nowMs.value - peer.connectedMs)}</span>`,
        ])} empty="No peer is connected." />
      <${More} more=${more} />
    <//>`;
}

const Meter = ({ value, limit }) => html`<div class="meter" role="presentation">
  <div style=${{ width: `${Math.min(100, (100 * value) / limit)}%` }} /></div>`;

export function Mempool() {
  const { value, error } = useAsk("mempool_status", {}, { live: true });
  // The status follows the node between blocks too.
  const count = status.value?.mempoolCount ?? value?.count;
  return html`
    <${Title} text="Mempool" />
    <${Trouble} error=${error} />
    <${Card} title="Waiting transactions">
      ${value ? html`
        <p><span class="big figure">${number(count)}</span> of ${number(value.limitCount)}</p>
        <${Meter} value=${count} limit=${value.limitCount} />
        <p><span class="figure">${byteSize(value.sizeBytes)}</span> of ${byteSize(value.limitBytes)}</p>
        <${Meter} value=${value.sizeBytes} limit=${value.limitBytes} />
        <${Facts} rows=${[["Least fee that gets in", value.floorFee === "0" ? "no floor, there is room" : tokens(value.floorFee)]]} />`
      : html`<span class="bone tall" />`}
    <//>`;
}
