// Scores: the leaderboard, and one peer's score with the evidence behind it.

import { uPlot } from "../vendor/vendor.js";
import { useAsk, usePages } from "../ask.js";
import { methods } from "../chain.js";
import { QUALITY_ONE, TRUST_TOTAL, number, percent, tokens } from "../format.js";
import { Badge, Block, Card, More, Peer, Table, Tile, Title, TxId, Trouble, html, useDrawing } from "../parts.js";
import { link } from "../route.js";
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
      <${Table} expect=${10} columns=${[["Rank", ""], ["Peer", ""], ["Standing", "right"], ["Trust", "right wide"], ["Quality", "right"], ["Raters", "right wide"]]}
        rows=${items && items.map((each) => [
          html`<span class="figure">${number(each.rank)}</span>`,
          html`<span class="peer"><a href=${link("reputation", each.subject)}><${Named} id=${each.subject} /></a> <${Flags} flags=${each.flags} /></span>`,
          html`<span class="figure">${percent(each.standing, TRUST_TOTAL)}</span>`,
          html`<span class="figure">${percent(each.trust, TRUST_TOTAL)}</span>`,
          html`<span class="figure">${percent(each.quality, QUALITY_ONE, 1)}</span>`,
          html`<span class="figure">${number(each.raters)}</span>`,
        ])} empty="Nobody has a score yet." />
      <${More} more=${more} />
    <//>`;
}

const Named = ({ id }) => html`<${Peer} id=${id} />`;

export function ReputationView({ id }) {
  const { value: score, error } = useAsk("reputation_get", { subject: id }, { live: true });
  const known = methods.value;
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
    ${known?.has("reputation_history") && html`<${History} id=${id} />`}
    ${known?.has("reputation_explain") && html`<${Explanation} id=${id} />`}
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

function History({ id }) {
  const { value, error } = useAsk("reputation_history", { subject: id }, { live: true });
  const points = value?.items?.slice().sort((one, other) => one.epoch - other.epoch) ?? [];
  const box = useDrawing((element, width) => drawHistory(element, width, points), [JSON.stringify(points)]);
  return html`<${Card} title="History"><${Trouble} error=${error} />
    <div class="chart" ref=${box}>${points.length < 2 && value && html`<p class="empty">Two scored epochs make a line.</p>`}</div>
  <//>`;
}

function drawHistory(element, width, points) {
  if (points.length < 2) return undefined;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const plot = new uPlot({
    width,
    height: 220,
    scales: { x: { time: false }, q: { range: [0, 100] } },
    legend: { show: true },
    series: [
      { label: "Epoch" },
      { label: "Standing %", stroke: color("--accent"), width: 2, scale: "y" },
      { label: "Quality %", stroke: color("--second"), width: 2, scale: "q" },
    ],
    axes: [axis, { ...axis, scale: "y", size: 56 }, { ...axis, scale: "q", side: 1, grid: { show: false }, size: 40 }],
  }, [
    points.map((each) => each.epoch),
    points.map((each) => (100 * Number(each.standing)) / TRUST_TOTAL),
    points.map((each) => (100 * Number(each.quality)) / QUALITY_ONE),
  ], element);
  return () => plot.destroy();
}

function Explanation({ id }) {
  const { value, error } = useAsk("reputation_explain", { subject: id }, { live: true });
  const rows = value?.items ?? value?.raters;
  return html`<${Card} title="Explanation" flush><${Trouble} error=${error} />
    ${Array.isArray(rows) && html`<${Table} columns=${[["Rater", ""], ["Figures", ""]]} rows=${rows.map((row) => [
      html`<${Peer} id=${row.rater ?? row.subject} />`,
      html`<span class="figure">${Object.entries(row).filter(([name]) => name !== "rater" && name !== "subject")
        .map(([name, each]) => `${name} ${each}`).join(" · ")}</span>`])} />`}
  <//>`;
}
