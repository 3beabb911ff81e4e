// The chain's parameters with their bounds.

import { useAsk } from "../ask.js";
import { genesis, status } from "../chain.js";
import { number, tokens } from "../format.js";
import { Badge, Card, Facts, Id, Table, Time, Title, Trouble, html } from "../parts.js";

const show = (unit, value) => (unit === "µT" ? tokens(value) : `${number(value)}${unit === "count" ? "" : ` ${unit}`}`);

export function Parameters() {
  const { value, error } = useAsk("consensus_getParams", {}, { live: true });
  const now = status.value;
  const document = genesis.value?.document;
  return html`
    <${Title} text="Parameters" />
    <${Trouble} error=${error} />
    <${Card} title="Network"><${Facts} rows=${[
      ["Chain", now ? html`${now.chainId} ${document?.devnet && html`<${Badge}>devnet<//>`}` : html`<span class="bone" />`],
      ["Genesis hash", now ? html`<${Id} text=${now.genesisHash} />` : html`<span class="bone" />`],
      ["Began", document ? html`<${Time} ms=${document.genesis_time_ms} />` : html`<span class="bone" />`],
      ["Seeds of trust", document ? number(document.seeds.length) : html`<span class="bone" />`],
      ["Node", now ? `tallystick ${now.version}` : html`<span class="bone" />`],
    ]} /><//>
    <${Card} title="Chain parameters" aside=${value && html`<${Id} text=${value.hash} />`} flush>
      <${Table} columns=${[["Name", ""], ["Value", "right"], ["Bounds", "right wide"]]} expect=${30}
        rows=${value && value.items.map(({ name, unit, value: now, low, high }) => [
          html`<code>${name}</code>`,
          html`<span class="figure">${show(unit, now)}</span>`,
          html`<span class="figure dim">${show(unit, low)} … ${show(unit, high)}</span>`,
        ])} />
    <//>`;
}
