// Hooks: ask the node for what a view shows, and keep showing the last answer until a newer one comes,
// so that nothing jumps or flickers.

import { useEffect, useRef, useState } from "./vendor/vendor.js";
import { tipHeight } from "./chain.js";
import { call } from "./rpc.js";

/**
 * {value, error} of what `ask` promises. Asked again when `key` or `version` changes, and with `live`
 * at every new block; the former starts anew, the others keep showing the last answer meanwhile. Both
 * are absent while the first answer for this key is on its way. Nothing is asked before `ready`.
 */
export function usePromise(key, ask, { live = false, version = 0, ready = true } = {}) {
  const [state, setState] = useState({ key: null });
  const order = useRef({ key, asked: 0, shown: 0, dead: false });
  const height = live ? tipHeight.value : 0;
  if (order.current.key !== key) order.current = { key, asked: 0, shown: 0, dead: false };
  useEffect(() => {
    if (!ready) return;
    const mine = order.current;
    mine.asked += 1;
    const turn = mine.asked;
    const show = (found) => {
      if (mine.dead || order.current !== mine || turn <= mine.shown) return;
      mine.shown = turn;
      setState((before) => ({ key, value: before.key === key ? before.value : undefined, ...found }));
    };
    ask().then((value) => show({ value, error: undefined }), (error) => show({ error }));
  }, [key, height, version, ready]);
  useEffect(() => () => { order.current.dead = true; }, []);
  return state.key === key ? state : {};
}

/** {value, error} of one method. */
export const useAsk = (method, params = {}, options = {}) =>
  usePromise(JSON.stringify([method, params]), () => call(method, params), options);

/**
 * A paged list: {items, error, more}. The first page follows the chain with `live`; `more()` loads
 * the next one and is null on the last.
 */
export function usePages(method, params, options = {}) {
  const key = JSON.stringify([method, params]);
  const first = useAsk(method, params, options);
  const [rest, setRest] = useState({ key, items: [], cursor: undefined });
  const mine = rest.key === key ? rest : { key, items: [], cursor: undefined };
  // Once further pages are shown the first one stands still, or rows would repeat.
  const frozen = useRef(null);
  if (mine.items.length === 0) frozen.current = first.value;
  const head = mine.items.length ? frozen.current : first.value;
  const cursor = mine.cursor === undefined ? head?.nextCursor : mine.cursor;
  const more = async () => {
    const page = await call(method, { ...params, cursor });
    setRest({ key, items: [...mine.items, ...page.items], cursor: page.nextCursor });
  };
  return {
    ...first,
    value: head,
    items: head ? [...head.items, ...mine.items] : null,
    more: cursor ? more : null,
  };
}
