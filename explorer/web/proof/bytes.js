// Bytes: hexadecimal, comparison, tags. Uint8Array throughout.

import { sha256 } from "../vendor/vendor.js";

export { sha256 };

const DIGITS = /^0x(?:[0-9a-f]{2})*$/;
const encoder = new TextEncoder();

export const utf8 = (text) => encoder.encode(text);

export function hex(bytes) {
  let text = "0x";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** The bytes of 0x and lower-case digits, the interface's one spelling; null for anything else. */
export function unhex(text) {
  if (typeof text !== "string" || !DIGITS.test(text)) return null;
  const bytes = new Uint8Array((text.length - 2) / 2);
  for (let i = 0; i < bytes.length; i += 1) {
    bytes[i] = Number.parseInt(text.slice(2 + 2 * i, 4 + 2 * i), 16);
  }
  return bytes;
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Negative, zero or positive, as bytes are ordered in the ledger. */
export function compare(left, right) {
  const shared = Math.min(left.length, right.length);
  for (let i = 0; i < shared; i += 1) {
    if (left[i] !== right[i]) return left[i] - right[i];
  }
  return left.length - right.length;
}

export const equal = (left, right) => compare(left, right) === 0;

export const isZero = (bytes) => bytes.every((byte) => byte === 0);

/** A domain tag: 16 bytes of ASCII, zero padded (ledger/domains.py). */
export function tag(name) {
  const padded = new Uint8Array(16);
  padded.set(utf8(name));
  return padded;
}

/** SHA-256(tag ‖ parts). */
export const taggedHash = (tagBytes, ...parts) => sha256(concat(tagBytes, ...parts));
