// Ask the node anything: forms made from its own description (OpenRPC).

import { useEffect, useState } from "../vendor/vendor.js";
import { methods } from "../chain.js";
import { call } from "../rpc.js";
import { Card, Copy, Title, Trouble, html } from "../parts.js";
import { go } from "../route.js";

export function Console({ name }) {
  const known = methods.value;
  const list = known ? [...known.values()].filter((each) => each["x-auth"] === "public") : [];
  const method = known?.get(name) ?? known?.get("system_status");
  return html`
    <${Title} text="RPC console" />
    <${Card}>
      <label class="field"><span>Method</span>
        <select value=${method?.name} onChange=${(event) => go("console", event.target.value)} disabled=${!known}>
          ${list.map((each) => html`<option key=${each.name} value=${each.name}>${each.name}</option>`)}
        </select></label>
      ${method && html`<${Form} key=${method.name} method=${method} />`}
    <//>`;
}

/** Text as the parameter that it means: JSON where it is JSON, else the text itself. */
function parsed(text, schema) {
  if (schema.type === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function kindOf(schema) {
  const kinds = schema.anyOf?.map(kindOf) ?? [schema.enum ? schema.enum.join(" | ") : schema.const ?? schema.type ?? "any"];
  return [...new Set(kinds)].join(" or ");
}

function Form({ method }) {
  const [fields, setFields] = useState({});
  const [shown, setShown] = useState(null);
  useEffect(() => { setShown(null); }, [method.name]);
  const send = async (event) => {
    event.preventDefault();
    const params = Object.fromEntries(method.params
      .filter(({ name }) => fields[name])
      .map(({ name, schema }) => [name, parsed(fields[name], schema)]));
    const begun = performance.now();
    try {
      const result = await call(method.name, params);
      setShown({ result, tookMs: performance.now() - begun });
    } catch (error) {
      setShown({ error, tookMs: performance.now() - begun });
    }
  };
  const text = shown && JSON.stringify(shown.error ? shown.error.data ?? null : shown.result, null, 2);
  return html`
    <p class="lead">${method.summary}</p>
    ${method.description && html`<p class="hint pre">${method.description}</p>`}
    <form onSubmit=${send}>
      ${method.params.map(({ name, required, schema }) => html`<label class="field" key=${name}>
        <span>${name}${required ? "" : html` <i>optional</i>`}</span>
        <input name=${name} required=${required} autocomplete="off" spellcheck="false"
          placeholder=${`${kindOf(schema)}${schema.default !== undefined && schema.default !== null ? `, default ${JSON.stringify(schema.default)}` : ""}`}
          value=${fields[name] ?? ""} onInput=${(event) => setFields({ ...fields, [name]: event.target.value })} /></label>`)}
      <button type="submit">Send</button>
      ${shown && html`<span class="dim figure took">${shown.tookMs.toFixed(0)} ms</span>`}
    </form>
    ${shown && html`<${Trouble} error=${shown.error} />
      <div class="result"><${Copy} text=${text} /><pre tabindex="0">${text}</pre></div>`}`;
}
