// Verify proof: the light client at work, step by step, in the reader's own browser.

import { useEffect, useState } from "../vendor/vendor.js";
import { genesis } from "../chain.js";
import { QUALITY_ONE, TRUST_TOTAL, number, percent } from "../format.js";
import { trustRoot } from "../proof/definition.js";
import { ProofRefused, STEPS } from "../proof/errors.js";
import { keyOf } from "../proof/identity.js";
import { LightVerifier, UnknownValidatorSet } from "../proof/light.js";
import { Amount, Badge, Block, Card, Facts, Id, Time, Title, Trouble, html } from "../parts.js";
import { call } from "../rpc.js";
import { PeerHeading } from "./account.js";

const PIN = "tally.genesis";
const CHANGES_PAGE = 50;

const KINDS = {
  score: {
    name: "Score",
    steps: ["definition", "validators", "certificate", "header", "state", "commitment", "score", "answer"],
    ask: (id) => call("reputation_get", { subject: id, proof: true }),
    check: (verifier, answer, id, report) => verifier.verifyScore(answer, keyOf(id), report),
    rows: ({ epoch, score }) => [
      ["Epoch", epoch === null ? "none scored yet" : number(epoch)],
      ["Standing", percent(score.standing, TRUST_TOTAL)],
      ["Trust", percent(score.trust, TRUST_TOTAL)],
      ["Quality", percent(score.quality, QUALITY_ONE, 1)],
      ["Rank", score.rank === null ? "none: a newcomer" : number(score.rank)],
      ["Raters with a voice", number(score.raters)],
    ],
  },
  account: {
    name: "Account",
    steps: ["definition", "validators", "certificate", "header", "account", "answer"],
    ask: (id) => call("account_get", { address: id, proof: true }),
    check: (verifier, answer, id, report) => verifier.verifyAccount(answer, keyOf(id), report),
    rows: ({ account }) => [
      ["Balance", html`<${Amount} value=${account.balance} />`],
      ["Deposit", html`<${Amount} value=${account.deposit} />`],
      ["Nonce", number(account.nonce)],
      ["Registered", account.isRegistered ? "yes" : "no"],
    ],
  },
  transaction: {
    name: "Transaction",
    steps: ["definition", "validators", "certificate", "header", "transaction", "receipt", "answer"],
    ask: (hash) => call("tx_getProof", { hash }),
    check: (verifier, answer, hash, report) => verifier.verifyTransaction(answer, hash, report),
    rows: ({ header, index, receipt }) => [
      ["Place", html`number ${number(index + 1)} in block <${Block} height=${header.height} />`],
      ["Outcome", receipt.ok ? html`<${Badge} kind="good">success<//>` : html`<${Badge} kind="bad">${receipt.reason}<//>`],
      ["Fee paid", html`<${Amount} value=${String(receipt.fee)} />`],
    ],
  },
};

/** Follows the changes of validators to the last one. Returns how many there were. */
async function followChanges(verifier) {
  let followed = 0;
  for (;;) {
    const page = await call("validator_listChanges", { afterHeight: verifier.followedHeight, limit: CHANGES_PAGE });
    for (const change of page.items ?? []) {
      verifier.follow(change);
      followed += 1;
    }
    if (!page.items?.length || page.nextAfterHeight === null) return followed;
  }
}

/** Runs one check; {steps: Map step → detail, refused?: {step, detail}, proven?}. */
async function run(kind, subject, pinned) {
  const steps = new Map();
  const report = (step, detail) => steps.set(step, detail);
  try {
    const { document } = await call("system_genesis");
    const trust = trustRoot(document, pinned);
    report("definition", `${trust.chainId}, hash ${pinned}`);
    const verifier = new LightVerifier(trust);
    const answer = await KINDS[kind].ask(subject);
    const check = () => KINDS[kind].check(verifier, answer, subject, report);
    let proven;
    try {
      proven = check();
    } catch (error) {
      if (!(error instanceof UnknownValidatorSet) || (await followChanges(verifier)) === 0) throw error;
      proven = check();
    }
    return { steps, proven };
  } catch (error) {
    if (error instanceof ProofRefused) return { steps, refused: error };
    return { steps, error };
  }
}

export function VerifyView({ subject, query }) {
  const isPeer = keyOf(subject) !== null;
  const isHash = /^0x[0-9a-f]{64}$/.test(subject);
  const [kind, setKind] = useState(isHash ? "transaction" : query.get("kind") === "account" ? "account" : "score");
  const [pinned, setPinned] = useState(localStorage.getItem(PIN) ?? "");
  const [outcome, setOutcome] = useState(null);
  const said = genesis.value?.genesisHash;
  // The first network that this browser sees here is the one it holds on to.
  useEffect(() => { if (!pinned && said) pin(said); }, [said]);

  function pin(hash) {
    localStorage.setItem(PIN, hash);
    setPinned(hash);
    setOutcome(null);
  }

  const verify = async () => {
    setOutcome("running");
    setOutcome(await run(kind, subject, pinned.trim()));
  };
  useEffect(() => { if (pinned && (isPeer || isHash)) verify(); }, [pinned, kind, subject]);

  if (!isPeer && !isHash) {
    return html`<${Title} text="Verify proof" /><p class="trouble" role="alert">This is neither a PeerID nor the hash of a transaction.</p>`;
  }
  return html`
    ${isPeer ? html`<${PeerHeading} id=${subject} current="Verify proof" text="Verify proof" />`
      : html`<${Title} text="Verify proof" /><p class="lead"><${Id} text=${subject} to=${`#/tx/${subject}`} full /></p>`}
    <${Card} title="What is trusted">
      <label class="field"><span>Genesis hash of the network</span>
        <input value=${pinned} spellcheck="false" autocomplete="off" aria-describedby="pin-note"
          onChange=${(event) => pin(event.target.value.trim())} /></label>
      <p class="hint" id="pin-note">Pinned at your first visit, nothing else is believed. Compare it with the hash that the
        network's founders publish. The check runs in this browser; it guards against a wrong answer, not against
        a node that also hands out a changed page, so open the page at a node that you trust to check another.</p>
      ${said && pinned && said !== pinned && html`<p class="trouble" role="alert">The node says that its network is
        <code>${said}</code>, which is not the pinned one. <button type="button" onClick=${() => pin(said)}>Pin this network instead</button></p>`}
    <//>
    <${Card} title="Proof" aside=${html`
      ${isPeer && html`<span class="choice" role="group" aria-label="What to verify">${["score", "account"].map((each) => html`
        <button type="button" key=${each} aria-pressed=${kind === each} onClick=${() => setKind(each)}>${KINDS[each].name}</button>`)}</span>`}
      <button type="button" class="strong" onClick=${verify} disabled=${outcome === "running"}>Verify again</button>`}>
      <${Verdict} outcome=${outcome} />
      <${Steps} kind=${kind} outcome=${outcome === "running" ? null : outcome} />
      ${outcome?.error && html`<${Trouble} error=${outcome.error} />`}
    <//>
    ${outcome?.proven && html`<${Card} title="Proven">
      <${Facts} rows=${[...KINDS[kind].rows(outcome.proven),
        ["As of block", html`<${Block} height=${outcome.proven.header.height} />, <${Time} ms=${outcome.proven.header.timeMs} />`]]} />
    <//>`}`;
}

function Verdict({ outcome }) {
  const [state, text] =
    !outcome || outcome === "running" ? ["", "Checking…"]
    : outcome.proven ? ["good", "Verified: every step holds."]
    : outcome.refused ? ["bad", `Refused at: ${STEPS[outcome.refused.step]}. ${outcome.refused.message}`]
    : ["bad", "Could not be checked."];
  return html`<p class=${`verdict ${state}`} role="status" data-verdict=${state || "running"}>${text}</p>`;
}

function Steps({ kind, outcome }) {
  const refused = outcome?.refused;
  const steps = KINDS[kind].steps;
  const listed = refused && !steps.includes(refused.step) ? [...steps, refused.step] : steps;
  return html`<ol class="proof">${listed.map((step) => {
    const held = outcome?.steps.has(step) && refused?.step !== step;
    const state = held ? "held" : refused?.step === step ? "broken" : "open";
    return html`<li key=${step} class=${state} data-step=${step}>
      <strong>${STEPS[step]}</strong> <span>${held ? outcome.steps.get(step) : state === "broken" ? refused.message : "\u00a0"}</span></li>`;
  })}</ol>`;
}
