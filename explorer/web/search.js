// The search field: a height, a hash, a PeerID, or the name of a validator.

import { useEffect, useRef, useState } from "./vendor/vendor.js";
import { names } from "./chain.js";
import { html } from "./parts.js";
import { keyOf } from "./proof/identity.js";
import { call } from "./rpc.js";
import { go } from "./route.js";

/** Where a text leads, as parts of a route; null for nowhere. */
async function find(text) {
  const plain = text.replaceAll(",", "");
  if (/^\d{1,15}$/.test(plain)) return ["block", plain];
  const hash = text.toLowerCase();
  if (/^(0x)?[0-9a-f]{64}$/.test(hash)) {
    const full = hash.startsWith("0x") ? hash : `0x${hash}`;
    const [block, transaction] = await Promise.allSettled([
      call("chain_getHeader", { block: full }), call("tx_get", { hash: full })]);
    if (block.value) return ["block", full];
    return transaction.value ? ["tx", full] : null;
  }
  if (keyOf(text)) return ["account", text];
  for (const [operator, name] of names.value) {
    if (name.toLowerCase() === text.toLowerCase()) return ["account", operator];
  }
  return null;
}

export function Search() {
  const [text, setText] = useState("");
  const [missed, setMissed] = useState(false);
  const field = useRef(null);
  useEffect(() => {
    const focus = (event) => {
      const typing = event.target.closest?.("input, textarea, select");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      field.current.focus();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    const wanted = text.trim();
    if (!wanted) return;
    const found = await find(wanted);
    setMissed(!found);
    if (found) {
      setText("");
      go(...found);
    }
  };
  return html`<form class="search" role="search" onSubmit=${submit}>
    <input ref=${field} type="search" value=${text} placeholder="Height, hash, PeerID or name" aria-label="Search"
      autocomplete="off" autocapitalize="off" spellcheck="false"
      onInput=${(event) => { setText(event.target.value); setMissed(false); }} />
    ${missed && html`<p class="missed" role="alert">No block, transaction, peer or validator is called that.</p>`}
  </form>`;
}
