// Canonical MessagePack (ledger/codec.py): integers below 2^53, text, bytes, lists, booleans, null.
//
// A value decodes only if encoding it again gives the same bytes, so that signed and hashed things
// have one spelling. Bytes are Uint8Array, lists are arrays; maps and floats do not occur.

import { concat, equal, utf8 } from "./bytes.js";

// Headers, certificates and proofs nest four lists deep at most.
const DEPTH_MAX = 8;
const TWO_32 = 2 ** 32;

export class NotCanonical extends Error {}

export function encode(value) {
  const parts = [];
  write(value, parts);
  return concat(...parts);
}

function write(value, parts) {
  if (value === null) parts.push(Uint8Array.of(0xc0));
  else if (value === false) parts.push(Uint8Array.of(0xc2));
  else if (value === true) parts.push(Uint8Array.of(0xc3));
  else if (typeof value === "number") parts.push(integer(value));
  else if (typeof value === "string") writeText(utf8(value), parts);
  else if (value instanceof Uint8Array) {
    parts.push(head(value.length, [0xc4, 0xc5, 0xc6]), value);
  } else if (Array.isArray(value)) {
    const few = value.length < 16;
    parts.push(few ? Uint8Array.of(0x90 | value.length) : head(value.length, [null, 0xdc, 0xdd]));
    for (const item of value) write(item, parts);
  } else throw new NotCanonical("a value of another kind");
}

function writeText(bytes, parts) {
  parts.push(
    bytes.length < 32 ? Uint8Array.of(0xa0 | bytes.length) : head(bytes.length, [0xd9, 0xda, 0xdb]),
    bytes,
  );
}

/** A length in the shortest of its forms with 1, 2 or 4 bytes. */
function head(length, [one, two, four]) {
  if (one !== null && length < 2 ** 8) return Uint8Array.of(one, length);
  if (length < 2 ** 16) return Uint8Array.of(two, length >> 8, length & 0xff);
  return sized(four, 4, length);
}

function sized(kind, size, value) {
  const bytes = new Uint8Array(1 + size);
  bytes[0] = kind;
  const view = new DataView(bytes.buffer);
  if (size === 8) view.setBigInt64(1, BigInt(value));
  else if (size === 4) view.setInt32(1, value);
  else if (size === 2) view.setInt16(1, value);
  else view.setInt8(1, value);
  return bytes;
}

function integer(value) {
  if (!Number.isSafeInteger(value)) throw new NotCanonical("not a whole number below 2^53");
  if (value >= 0) {
    if (value < 128) return Uint8Array.of(value);
    if (value < 2 ** 8) return sized(0xcc, 1, value);
    if (value < 2 ** 16) return sized(0xcd, 2, value);
    return value < TWO_32 ? sized(0xce, 4, value) : sized(0xcf, 8, value);
  }
  if (value >= -32) return Uint8Array.of(value & 0xff);
  if (value >= -(2 ** 7)) return sized(0xd0, 1, value);
  if (value >= -(2 ** 15)) return sized(0xd1, 2, value);
  return value >= -(2 ** 31) ? sized(0xd2, 4, value) : sized(0xd3, 8, value);
}

/** The value of canonical bytes. Throws NotCanonical. */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) throw new NotCanonical("bytes follow the end");
  if (!equal(encode(value), bytes)) throw new NotCanonical("encoding it again gives other bytes");
  return value;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  /** Moves over `size` bytes; where they begin. */
  skip(size) {
    const start = this.at;
    if (start + size > this.bytes.length) throw new NotCanonical("the bytes end too early");
    this.at += size;
    return start;
  }

  unsigned(size) {
    const at = this.skip(size);
    if (size === 8) return safe(this.view.getBigUint64(at));
    return size === 4
      ? this.view.getUint32(at)
      : size === 2 ? this.view.getUint16(at) : this.view.getUint8(at);
  }

  signed(size) {
    const at = this.skip(size);
    if (size === 8) return safe(this.view.getBigInt64(at));
    return size === 4
      ? this.view.getInt32(at)
      : size === 2 ? this.view.getInt16(at) : this.view.getInt8(at);
  }

  raw(size) {
    const start = this.skip(size);
    return this.bytes.slice(start, start + size);
  }

  text(size) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.raw(size));
    } catch (error) {
      throw error instanceof NotCanonical ? error : new NotCanonical("text that is not UTF-8");
    }
  }

  list(count, depth) {
    // Each item takes at least a byte, so a count that lies is refused before anything is made.
    if (depth >= DEPTH_MAX || count > this.bytes.length - this.at) {
      throw new NotCanonical("a list too deep or too long");
    }
    return Array.from({ length: count }, () => this.value(depth + 1));
  }

  value(depth) {
    const kind = this.unsigned(1);
    if (kind < 0x80) return kind;
    if (kind >= 0xe0) return kind - 0x100;
    if ((kind & 0xf0) === 0x90) return this.list(kind & 0x0f, depth);
    if ((kind & 0xe0) === 0xa0) return this.text(kind & 0x1f);
    switch (kind) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.raw(this.unsigned(1 << (kind - 0xc4)));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.unsigned(1 << (kind - 0xcc));
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return this.signed(1 << (kind - 0xd0));
      case 0xd9: case 0xda: case 0xdb: return this.text(this.unsigned(1 << (kind - 0xd9)));
      case 0xdc: case 0xdd: return this.list(this.unsigned(kind === 0xdc ? 2 : 4), depth);
      default: throw new NotCanonical(`a value of kind 0x${kind.toString(16)}`);
    }
  }
}

function safe(big) {
  const value = Number(big);
  if (!Number.isSafeInteger(value)) throw new NotCanonical("a number past 2^53");
  return value;
}
