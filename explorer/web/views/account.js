// One account: what it holds, and its transactions.

import { useAsk, usePages } from "../ask.js";
import { number } from "../format.js";
import { TRANSACTION_COLUMNS, transactionRow } from "../payload.js";
import { Amount, Badge, Block, Card, Copy, Facts, Id, More, Table, Tabs, Title, Trouble, bones, html } from "../parts.js";
import { names } from "../chain.js";
import { link } from "../route.js";

/** The heading that the views of one peer share. */
export const PeerHeading = ({ id, current, text }) => html`
  <${Title} text=${text}>${names.value.has(id) && html`<${Badge}>${names.value.get(id)}<//>`}<//>
  <p class="lead id full">${id}<${Copy} text=${id} /></p>
  <${Tabs} current=${current} items=${[
    ["Account", link("account", id)], ["Reputation", link("reputation", id)], ["Verify proof", link("verify", id)],
  ]} />`;

export function AccountView({ id }) {
  const { value: account, error } = useAsk("account_get", { address: id }, { live: true });
  const list = usePages("tx_list", { account: id, limit: 25 }, { live: true });
  const columns = [["Block", ""], ...TRANSACTION_COLUMNS];
  if (error && !account) return html`<${PeerHeading} id=${id} current="Account" text="Account" /><${Trouble} error=${error} />`;
  return html`
    <${PeerHeading} id=${id} current="Account" text="Account" />
    <div class="tiles three">
      <div class="tile"><span class="what">Balance</span>
        <span class="value">${account ? html`<${Amount} value=${account.balance} />` : html`<span class="bone" />`}</span></div>
      <div class="tile"><span class="what">Deposit</span>
        <span class="value">${account ? html`<${Amount} value=${account.deposit} />` : html`<span class="bone" />`}</span></div>
      <div class="tile"><span class="what">Next nonce</span>
        <span class="value">${account ? number(account.nextNonce) : html`<span class="bone" />`}</span></div>
    </div>
    <${Card} title="Registration"><${Facts} rows=${account ? registration(account) : bones(4)} /><//>
    <${Card} title="Transactions" flush>
      <${Table} columns=${columns} rows=${list.items && list.items.map((item) => [
        html`<${Block} height=${item.height} />`, ...transactionRow(item)])}
        empty="No transaction touches this account." />
      <${More} more=${list.more} />
    <//>`;
}

const registration = (account) => [
  ["Registered", account.isRegistered
    ? html`<${Badge} kind="good">yes<//> ${account.registeredHeight > 0 && html`in block <${Block} height=${account.registeredHeight} />`}`
    : html`<${Badge}>${account.exists ? "no" : "unknown account"}<//>`],
  ["Services", services(account.serviceMask)],
  ["Endpoint hash", account.endpointHash === "0x" ? html`<span class="dim">none</span>` : html`<${Id} text=${account.endpointHash} />`],
  ["Signing key", account.activeKey === "0x" ? "the founding key" : html`<${Id} text=${account.activeKey} />`],
];

function services(mask) {
  const offered = Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => Math.floor(mask / 2 ** bit) % 2);
  return offered.length ? offered.join(", ") : html`<span class="dim">none</span>`;
}
