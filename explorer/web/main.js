// The page: a bar above, the view that the fragment names below.

import { render, signal } from "./vendor/vendor.js";
import { connection, follow, status } from "./chain.js";
import { Boundary, Title, html } from "./parts.js";
import { route } from "./route.js";
import { Search } from "./search.js";
import { AccountView } from "./views/account.js";
import { BlockView, Blocks } from "./views/blocks.js";
import { Console } from "./views/console.js";
import { Consensus, Mempool, Peers } from "./views/network.js";
import { Overview } from "./views/overview.js";
import { Parameters } from "./views/parameters.js";
import { Leaderboard, ReputationView } from "./views/reputation.js";
import { TransactionView } from "./views/transaction.js";
import { Validators } from "./views/validators.js";
import { VerifyView } from "./views/verify.js";

const NAVIGATION = [
  ["Overview", ""], ["Blocks", "blocks"], ["Reputation", "reputation"], ["Validators", "validators"],
  ["Consensus", "consensus"], ["Peers", "peers"], ["Mempool", "mempool"], ["Parameters", "parameters"],
  ["Console", "console"],
];

/** First part of the route → the view; the second part is its subject. */
const VIEWS = {
  "": () => html`<${Overview} />`,
  blocks: () => html`<${Blocks} />`,
  block: ([, reference]) => reference && html`<${BlockView} key=${reference} reference=${reference} />`,
  tx: ([, hash]) => hash && html`<${TransactionView} key=${hash} hash=${hash} />`,
  account: ([, id]) => id && html`<${AccountView} key=${id} id=${id} />`,
  reputation: ([, id]) => (id ? html`<${ReputationView} key=${id} id=${id} />` : html`<${Leaderboard} />`),
  verify: ([, subject], query) => subject && html`<${VerifyView} key=${subject} subject=${subject} query=${query} />`,
  validators: () => html`<${Validators} />`,
  consensus: () => html`<${Consensus} />`,
  peers: () => html`<${Peers} />`,
  mempool: () => html`<${Mempool} />`,
  parameters: () => html`<${Parameters} />`,
  console: ([, name]) => html`<${Console} name=${name} />`,
};

// The part of the navigation under which a view stands.
const UNDER = { block: "blocks", tx: "blocks", account: "", verify: "reputation" };

const THEMES = ["auto", "light", "dark"];
const THEME = "tally.theme";
const theme = signal(THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : "auto");

function wear(name) {
  theme.value = name;
  localStorage.setItem(THEME, name);
  document.documentElement.dataset.theme = name;
}

const CONNECTION_WORDS = {
  starting: "connecting", socket: "live", polling: "live", unreachable: "node unreachable",
};

function Bar({ current }) {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  const state = connection.value;
  return html`<header class="bar"><div class="bar-row">
      <a class="brand" href="#/"><img src="icon.svg" alt="" width="26" height="26" />Tallystick</a>
      <${Search} />
      <span class=${`live ${state}`} title=${`${status.value?.chainId ?? ""} ${state}`}>
        <i />${CONNECTION_WORDS[state]}</span>
      <button type="button" class=${`theme ${theme.value}`} onClick=${() => wear(next)}
        aria-label=${`Colours: ${theme.value}. Change to ${next}`} title=${`Colours: ${theme.value}`} />
    </div>
    <nav class="main" aria-label="Views">${NAVIGATION.map(([name, part]) => html`
      <a key=${part} href=${`#/${part}`} aria-current=${part === current ? "page" : null}>${name}</a>`)}</nav>
  </header>`;
}

const Lost = () => html`<${Title} text="Nothing here" />
  <p class="lead">No view has this address. <a href="#/">Back to the overview</a></p>`;

function Page() {
  const { parts, query } = route.value;
  const [name = ""] = parts;
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name](parts, query) : null;
  return html`<a class="skip" href="#content" onClick=${skip}>Skip to content</a>
    <${Bar} current=${UNDER[name] ?? name} />
    <main id="content" tabindex="-1"><${Boundary} key=${parts.join("/")}>${view || html`<${Lost} />`}<//></main>`;
}

function skip(event) {
  event.preventDefault(); // the fragment is the route
  document.getElementById("content").focus();
}

wear(theme.value);
follow();
render(html`<${Page} />`, document.getElementById("page"));
