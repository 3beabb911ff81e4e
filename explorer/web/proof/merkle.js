// Two trees: RFC 6962 lists (ledger/merkle.py) and the state tree (ledger/state_proof.py).

import { compare, concat, equal, isZero, sha256 } from "./bytes.js";

const PATH_MAX = 53;

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);
const BUCKET = Uint8Array.of(2);
const KEY = Uint8Array.of(3);

/** Whether `path` leads from leaf `index` of `size` to `root`. RFC 9162 section 2.1.3.2. */
export function verifyInclusion(root, leaf, index, size, path) {
  if (index < 0 || index >= size || path.length > PATH_MAX) return false;
  let node = sha256(concat(LEAF, leaf));
  // Beyond 2^32 bit operations of numbers would wrap.
  let at = BigInt(index);
  let last = BigInt(size - 1);
  for (const sibling of path) {
    if (last === 0n || sibling.length !== 32) return false;
    if (at & 1n || at === last) {
      node = sha256(concat(NODE, sibling, node));
      while (at && !(at & 1n)) {
        at >>= 1n;
        last >>= 1n;
      }
    } else node = sha256(concat(NODE, node, sibling));
    at >>= 1n;
    last >>= 1n;
  }
  return last === 0n && equal(node, root);
}

const HASH_BYTES = 32;
const ENTRY_BYTES = 64;
const BUCKET_MAX_BYTES = 32 * ENTRY_BYTES;
const PREFIX_LEVELS = 8;
const LEVELS_MAX = 4 * HASH_BYTES;
const SIBLINGS = 3;
const EMPTY = new Uint8Array(HASH_BYTES);

const digitAt = (key, level) => (key[level >> 2] >> (6 - 2 * (level & 3))) & 3;

function* entriesOf(packed) {
  for (let at = 0; at < packed.length; at += ENTRY_BYTES) {
    yield [packed.slice(at, at + HASH_BYTES), packed.slice(at + HASH_BYTES, at + ENTRY_BYTES)];
  }
}

/** Whether the proof is the one spelling for this key; bounds all work that follows. */
function wellFormed(key, { siblings, entries }) {
  if (siblings.length > SIBLINGS * LEVELS_MAX || siblings.length % SIBLINGS) return false;
  if (entries.length > BUCKET_MAX_BYTES || entries.length % ENTRY_BYTES) return false;
  if (siblings.some((node) => node.length !== 0 && (node.length !== 32 || isZero(node)))) return false;
  if (entries.length === 0) {
    return siblings.length === 0 || siblings.slice(-SIBLINGS).some((node) => node.length > 0);
  }
  const levels = siblings.length / SIBLINGS;
  if (levels < PREFIX_LEVELS) return false;
  const hashes = [...entriesOf(entries)].map(([hash]) => hash);
  if (hashes.some((hash, i) => i > 0 && compare(hashes[i - 1], hash) >= 0)) return false;
  return hashes.every((hash) => {
    for (let level = 0; level < levels; level += 1) {
      if (digitAt(hash, level) !== digitAt(key, level)) return false;
    }
    return true;
  });
}

/** Whether `proof` shows that `key` has `value` under `root`; null: that it has none. */
export function verifyStateProof(root, key, value, proof) {
  const hashedKey = sha256(concat(KEY, key));
  if (!wellFormed(hashedKey, proof)) return false;
  const { siblings, entries } = proof;
  let node = entries.length ? sha256(concat(BUCKET, entries)) : EMPTY;
  for (let level = siblings.length / SIBLINGS - 1; level >= 0; level -= 1) {
    const quarters = siblings
      .slice(level * SIBLINGS, (level + 1) * SIBLINGS)
      .map((sibling) => (sibling.length ? sibling : EMPTY));
    quarters.splice(digitAt(hashedKey, level), 0, node);
    const packed = concat(...quarters);
    node = isZero(packed) ? EMPTY : sha256(concat(NODE, packed));
  }
  if (!equal(node, root)) return false;
  let held = null;
  for (const [hash, valueHash] of entriesOf(entries)) {
    if (equal(hash, hashedKey)) held = valueHash;
  }
  if (value === null || held === null) return value === null && held === null;
  return equal(held, sha256(concat(LEAF, value)));
}
