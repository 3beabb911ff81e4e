// PeerIDs: base58btc of the identity multihash of a secp256k1 public key (libp2p peer-ids spec).

import { Point } from "../vendor/vendor.js";
import { compare, concat } from "./bytes.js";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PREFIX = Uint8Array.of(0x00, 0x25, 0x08, 0x02, 0x12, 0x21);
const KEY_BYTES = 33;
const CHARACTERS_MAX = 64;

function base58(bytes) {
  let number = 0n;
  for (const byte of bytes) number = number * 256n + BigInt(byte);
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  const zeros = bytes.findIndex((byte) => byte !== 0);
  return "1".repeat(zeros < 0 ? bytes.length : zeros) + text;
}

/** The PeerID of a 33-byte compressed key. */
export const peerId = (key) => base58(concat(PREFIX, key));

/** The 33-byte key that a PeerID names, or null where the text names none. */
export function keyOf(text) {
  if (typeof text !== "string" || text.length > CHARACTERS_MAX) return null;
  let number = 0n;
  for (const character of text) {
    const digit = ALPHABET.indexOf(character);
    if (digit < 0) return null;
    number = number * 58n + BigInt(digit);
  }
  const digits = number.toString(16);
  const body = digits.length % 2 ? `0${digits}` : digits;
  const zeros = text.length - text.replace(/^1+/, "").length;
  const bytes = new Uint8Array(zeros + body.length / 2);
  for (let i = 0; 2 * i < body.length; i += 1) {
    bytes[zeros + i] = Number.parseInt(body.slice(2 * i, 2 * i + 2), 16);
  }
  if (bytes.length !== PREFIX.length + KEY_BYTES) return null;
  if (compare(bytes.slice(0, PREFIX.length), PREFIX) !== 0) return null;
  const key = bytes.slice(PREFIX.length);
  try {
    Point.fromBytes(key);
  } catch {
    return null; // no point on the curve
  }
  return key;
}
