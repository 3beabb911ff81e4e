// One transaction: its decoded payload, what became of it and why.

import { useAsk } from "../ask.js";
import { byteSize, label } from "../format.js";
import { REASONS } from "../facts.js";
import { inWords, payloadRows } from "../payload.js";
import { Amount, Block, Card, Copy, Facts, Id, Outcome, Title, Trouble, html } from "../parts.js";
import { link } from "../route.js";

export function TransactionView({ hash }) {
  const first = useAsk("tx_get", { hash });
  // A waiting one is asked for again with every block, a committed one never changes.
  const next = useAsk("tx_get", { hash }, { live: first.value?.status === "pending" });
  const { value: item, error } = next.value ? next : first;
  if (!item) {
    return html`<${Title} text="Transaction" /><${Trouble} error=${error} />
      ${!error && html`<${Card} title="Payload"><span class="bone tall" /><//>`}`;
  }
  return html`
    <${Title} text=${item.payload.type}><${Outcome} item=${item} /><//>
    <p class="lead">${inWords(item.payload)}</p>
    <div class="columns">
      <${Card} title="Payload"><${Facts} rows=${payloadRows(item.payload)} /><//>
      <${Card} title="Outcome"><${Facts} rows=${outcomeRows(item)} />
        ${item.status === "committed" && html`<p><a class="button" href=${link("verify", item.hash)}>Verify proof</a></p>`}
      <//>
    </div>
    <${Card} title="Bytes" aside=${html`${byteSize(item.sizeBytes)} <${Copy} text=${item.raw} />`}>
      <pre class="raw">${item.raw}</pre>
    <//>`;
}

function outcomeRows(item) {
  const { receipt } = item;
  return [
    ["Hash", html`<${Id} text=${item.hash} />`],
    ["Full hash", html`<${Id} text=${item.fullHash} />`],
    ["Status", html`<${Outcome} item=${item} />`],
    item.height !== undefined && ["Block", html`<${Block} height=${item.height} /> <span class="dim">number ${item.index + 1}</span>`],
    receipt && ["Fee paid", html`<${Amount} value=${receipt.fee} />`],
    receipt && !receipt.ok && ["Reason", html`<code>${receipt.reason}</code> ${REASONS[receipt.reason] ?? ""}`],
    ...Object.entries(receipt?.facts ?? {}).map(([name, value]) => [
      label(name), html`<span class="figure">${String(value)}</span>`]),
  ];
}
