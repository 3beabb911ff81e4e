// One transaction: its decoded payload, what became of it and why.

import { useAsk } from "../ask.js";
import { byteSize, label } from "../format.js";
import { REASONS } from "../facts.js";
import { inWords, payloadRows } from "../payload.js";
import { Amount, Block, Card, Copy, Facts, Id, Outcome, Title, Trouble, bones, html } from "../parts.js";
import { link } from "../route.js";

export function TransactionView({ hash }) {
  const first = useAsk("tx_get", { hash });
  // A waiting one is asked for again with every block, a committed one never changes.
  const next = useAsk("tx_get", { hash }, { live: first.value?.status === "pending" });
  const { value: item, error } = next.value ? next : first;
  if (error && !item) return html`<${Title} text="Transaction" /><${Trouble} error=${error} />`;
  return html`
    <${Title} text=${item ? item.payload.type : "Transaction"}>${item && html`<${Outcome} item=${item} />`}<//>
    <p class="lead">${item ? inWords(item.payload) : "\u00a0"}</p>
    <div class="columns">
      <${Card} title="Payload"><${Facts} rows=${item ? payloadRows(item.payload) : bones(8)} /><//>
      <${Card} title="Outcome"><${Facts} rows=${item ? outcomeRows(item) : bones(5)} />
        ${item?.status !== "pending" && html`<p><a class="button" href=${link("verify", hash)}>Verify proof</a></p>`}
      <//>
    </div>
    <${Card} title="Bytes" aside=${item && html`${byteSize(item.sizeBytes)} <${Copy} text=${item.raw} />`}>
      <pre class="raw">${item ? item.raw : "\n\n"}</pre>
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
