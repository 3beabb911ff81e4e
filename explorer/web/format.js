// How figures look. Amounts are µT on the wire and T on the page; shares are percent.

const MICRO = 1_000_000n;
const grouping = new Intl.NumberFormat("en-US");

/** Whole numbers with thousands separators; numbers or decimal strings. */
export const number = (value) => grouping.format(typeof value === "string" ? BigInt(value) : value);

/** µT as T, all digits that matter: "1,250.5 T". */
export function tokens(µT) {
  const value = BigInt(µT);
  const size = value < 0n ? -value : value;
  const fraction = (size % MICRO).toString().padStart(6, "0").replace(/0+$/, "");
  return `${value < 0n ? "−" : ""}${grouping.format(size / MICRO)}${fraction && `.${fraction}`} T`;
}

/** A part of `whole` in percent, both decimal strings or numbers. */
export function percent(part, whole, digits = 2) {
  const scale = 10n ** BigInt(digits + 2);
  const share = (BigInt(part) * scale) / BigInt(whole);
  const value = Number(share) / 10 ** digits;
  if (value === 0 && BigInt(part) > 0n) return `< ${(1 / 10 ** digits).toFixed(digits)} %`;
  return `${value.toFixed(digits)} %`;
}

export const TRUST_TOTAL = 2 ** 40;
export const QUALITY_ONE = 2 ** 16;

/** The beginning and the end of an identifier. PeerIDs share their first eight characters. */
export function short(text) {
  return text.length <= 20 ? text : `${text.slice(0, 10)}…${text.slice(-6)}`;
}

const UNITS = [[86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1_000, "s"]];

/** A duration in its largest unit: "4 min". */
export function duration(ms) {
  for (const [size, unit] of UNITS) {
    if (ms >= size) return `${Math.floor(ms / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(ms))} ms`;
}

export function ago(ms) {
  return ms < 1_000 ? "just now" : `${duration(ms)} ago`;
}

/** Local time to the second, with the zone: for hovering. */
export const moment = (ms) =>
  new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" });

export function byteSize(bytes) {
  if (bytes < 1_024) return `${bytes} B`;
  const [size, unit] = bytes < 1_048_576 ? [1_024, "KiB"] : [1_048_576, "MiB"];
  return `${(bytes / size).toFixed(bytes / size < 10 ? 1 : 0)} ${unit}`;
}

/** timeMs → "Time"; receiptSeq → "Receipt seq". */
export function label(name) {
  const words = name.replace(/Ms$/, "").replace(/([A-Z])/g, " $1").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
