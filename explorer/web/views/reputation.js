// Scores: the leaderboard, and one peer's score with the evidence behind it.

import { uPlot } from "../vendor/vendor.js";
import { useAsk, usePages } from "../ask.js";
import { methods } from "../chain.js";
import { QUALITY_ONE, TRUST_TOTAL, number, percent, tokens } from "../format.js";
import { Badge, Block, Card, More, Peer, Table, Tile, Title, TxId, Trouble, html, useDrawing } from "../parts.js";
import { PeerHeading } from "./account.js";

const FLAG_WORDS = {
  seed: "a governed seed of trust",
  suspended: "a seed that rests because its quality fell",
  cut: "quality below 60 %: no standing",
};

const Flags = ({ flags }) => flags.map((flag) => html`
  <${Badge} key=${flag} kind=${flag === "seed" ? "good" : "bad"}><span title=${FLAG_WORDS[flag] ?? ""}>${flag}</span><//> `);

export function Leaderboard() {
  const { value, items, error, more } = usePages("reputation_leaderboard", { limit: 50 }, { live: true });
  return html`
    <${Title} text="Reputation" />
    <p class="lead">${!value ? "\u00a0" : value.epoch === null
      ? "No epoch has been scored yet."
      : `Scores of epoch ${number(value.epoch)}, the last that closed.`}</p>
    <${Trouble} error=${error} />
    <${Card} flush>
      <${Table} expect=${5} tall columns=${[["Rank", ""], ["Peer", ""], ["Standing", "right"], ["Trust", "right wide"], ["Quality", "right wide"], ["Raters", "right wide"]]}
        rows=${items && items.map((each) => [
          html`<span class="figure">${number(each.rank)}</span>`,
          html`<${Peer} id=${each.subject} view="reputation"><${Flags} flags=${each.flags} /><//>`,
          html`<span class="figure">${percent(each.standing, TRUST_TOTAL)}</span>`,
          html`<span class="figure">${percent(each.trust, TRUST_TOTAL)}</span>`,
          html`<span class="figure">${percent(each.quality, QUALITY_ONE, 1)}</span>`,
          html`<span class="figure">${number(each.raters)}</span>`,
        ])} empty="Nobody has a score yet." />
      <${More} more=${more} />
    <//>`;
}

export function ReputationView({ id }) {
  const { value: score, error } = useAsk("reputation_get", { subject: id }, { live: true });
  // Until the node's methods are known, the place of what they show is kept.
  const offers = (name) => methods.value?.has(name) ?? true;
  const epoch = score?.epoch;
  return html`
    <${PeerHeading} id=${id} current="Reputation" text="Reputation" />
    <${Trouble} error=${error} />
    <div class="tiles four">
      <${Tile} name="Standing" value=${score && percent(score.standing, TRUST_TOTAL)} note="trust × quality⁸, share of all trust" />
      <${Tile} name="Rank" value=${score && (score.rank === null ? "none" : number(score.rank))}
        note=${score && (score.newcomer ? "a newcomer" : html`<${Flags} flags=${score.flags} />`)} />
      <${Tile} name="Trust" value=${score && percent(score.trust, TRUST_TOTAL)} note="flows from the seeds along paid service" />
      <${Tile} name="Quality" value=${score && percent(score.quality, QUALITY_ONE, 1)}
        note=${score && `${number(score.raters)} raters with a voice`} />
    </div>
    ${offers("reputation_history") && html`<${History} id=${id} epoch=${epoch} />`}
    ${offers("reputation_explain") && html`<${Explanation} id=${id} epoch=${epoch} />`}
    <${Evidence} id=${id} />`;
}

function Evidence({ id }) {
  const list = usePages("tx_list", { account: id, limit: 100 }, { live: true });
  const about = list.items?.filter(({ payload, receipt }) => receipt?.ok && (
    (payload.type === "Rate" && payload.subject === id) || (payload.type === "Settle" && payload.payee === id)));
  return html`<${Card} title="Evidence" flush>
    <${Table} columns=${[["Block", ""], ["From", ""], ["Judgement", "right"], ["Service", "right wide"], ["Transaction", "wide"]]}
      rows=${about ? about.map((item) => evidenceRow(item)) : null}
      empty="No paid service and no rating in the transactions looked at." />
    <${More} more=${list.more} />
    <p class="hint pad">Only paid, co-signed service counts. A rating weighs what its rater is trusted.</p>
  <//>`;
}

function evidenceRow({ hash, height, payload }) {
  const rating = payload.type === "Rate";
  return [
    html`<${Block} height=${height} />`,
    html`<${Peer} id=${rating ? payload.sender : payload.payer} />`,
    rating
      ? html`<span class=${`figure ${payload.score > 0 ? "good" : "bad"}`}>${payload.score > 0 ? "+" : "−"}${Math.abs(payload.score)}</span>`
      : html`<span class="figure">paid ${tokens(payload.cumPaid)}</span> ${payload.counterpartySignature === "0x" && html`<${Badge}>not co-signed<//>`}`,
    html`<span class="figure">${payload.service}</span>`,
    html`<${TxId} hash=${hash} />`,
  ];
}

// Points of the chart; the node keeps at least 64 epochs.
const EPOCHS_SHOWN = 100;
const CHART_HEIGHT = 220;

/** Changes with an epoch only, so it is asked for once in each. */
function History({ id, epoch }) {
  const { value, error } = useAsk("reputation_history", { subject: id, limit: EPOCHS_SHOWN }, { version: epoch, ready: epoch !== undefined });
  const points = (value?.items ?? []).filter((each) => each.held).reverse();
  const theme = document.documentElement.dataset.theme;
  const box = useDrawing((element, width) => drawHistory(element, width, points), [JSON.stringify(points), theme]);
  const few = value && points.length < 2;
  return html`<${Card} title="History" aside=${points.length > 1 && `epochs ${number(points[0].epoch)} – ${number(points.at(-1).epoch)}`}>
    <${Trouble} error=${error} />
    <div class="chart" ref=${box}>${few && html`<p class="empty">A line needs the scores of two epochs.</p>`}</div>
  <//>`;
}

function drawHistory(element, width, points) {
  if (points.length < 2) return undefined;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const font = `12px ${style.getPropertyValue("--sans")}`;
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font };
  const shown = (_, value) => (value === null ? "–" : `${value.toFixed(2)} %`);
  const plot = new uPlot({
    width,
    height: CHART_HEIGHT,
    scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 0.001)] }, q: { range: [0, 105] } },
    series: [
      { label: "Epoch", value: (_, value) => (value === null ? "–" : String(value)) },
      { label: "Standing", stroke: color("--accent"), width: 2, scale: "y", value: shown },
      { label: "Quality", stroke: color("--second"), width: 2, scale: "q", value: shown, dash: [5, 4] },
    ],
    axes: [
      { ...axis, grid: { show: false } },
      { ...axis, scale: "y", size: 58, stroke: color("--accent"), values: (_, all) => all.map((each) => `${+each.toFixed(4)} %`) },
      { ...axis, scale: "q", side: 1, size: 52, stroke: color("--second"), grid: { show: false }, values: (_, all) => all.map((each) => `${each} %`) },
    ],
  }, [
    points.map((each) => each.epoch),
    points.map((each) => (100 * Number(each.standing)) / TRUST_TOTAL),
    points.map((each) => (100 * Number(each.quality)) / QUALITY_ONE),
  ], element);
  return () => plot.destroy();
}

const WEIGHT_ONE = 1_024;

function signed(text) {
  const value = (100 * Number(text)) / QUALITY_ONE;
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)} points`;
}

/** Which raters move the quality, and by how much. */
function Explanation({ id, epoch }) {
  const { value, error } = useAsk("reputation_explain", { subject: id, limit: 25 }, { version: epoch, ready: epoch !== undefined });
  return html`<${Card} title="What moves the quality" flush aside=${value && `epoch ${number(value.epoch)}`}>
    ${error ? html`<p class="hint pad">${error.message}</p>` : html`
    <${Table} columns=${[["Rater", ""], ["Weight", "right wide"], ["Good", "right wide"], ["Bad", "right wide"], ["Effect", "right"]]}
      expect=${1} empty="No rater with a voice has judged this peer."
      rows=${value && value.items.map((each) => [
        html`<${Peer} id=${each.rater} view="reputation" />`,
        html`<span class="figure">${percent(each.weight, WEIGHT_ONE, 1)}</span>`,
        html`<span class="figure">${number(each.pos)}</span>`,
        html`<span class="figure">${number(each.neg)}</span>`,
        html`<span class=${`figure ${Number(each.effect) < 0 ? "bad" : Number(each.effect) > 0 ? "good" : ""}`}>${signed(each.effect)}</span>`,
      ])} />
    <p class="hint pad">The effect is the quality minus what it would be without this rater, in percentage points.</p>`}
  <//>`;
}
