// The ledger's structs as lists of checked fields: what a proof is read with.
//
// A struct is a MessagePack array of its fields in order. Reading one means: canonical bytes, the
// right number of fields, and each field of its kind. Field orders are those of ledger/block.py,
// certificate.py, validators.py, state.py, state_proof.py, receipt.py, reputation/score_tree.py.

import { compare } from "./bytes.js";
import { ProofRefused } from "./errors.js";
import { NotCanonical, decode } from "./msgpack.js";

const VALIDATORS_MAX = 1_000;

const isBytes = (value) => value instanceof Uint8Array;
const bytesOf = (size) => (value) => isBytes(value) && value.length === size;
const listOf = (holds) => (value) => Array.isArray(value) && value.every(holds);
const structOf = (...fields) => (value) =>
  Array.isArray(value) && value.length === fields.length && fields.every((holds, i) => holds(value[i]));

const u53 = (value) => Number.isSafeInteger(value) && value >= 0;
const integer = Number.isSafeInteger;
const positive = (value) => u53(value) && value >= 1;
const text = (value) => typeof value === "string";
const flag = (value) => typeof value === "boolean";
const chainId = (value) => text(value) && /^[a-z0-9-]{1,64}$/.test(value);
const mode = (value) => value === "pbft" || value === "raft";
const hash = bytesOf(32);
const address = bytesOf(33);
const pathNode = (value) => hash(value) || (isBytes(value) && value.length === 0);

const HEADER = [
  ["version", u53], ["chainId", chainId], ["height", positive], ["timeMs", u53],
  ["parentHash", hash], ["lastCommitHash", hash], ["txRoot", hash], ["receiptsRoot", hash],
  ["stateRoot", hash], ["validatorsHash", hash], ["nextValidatorsHash", hash], ["paramsHash", hash],
  ["nextMode", mode], ["proposer", address],
];
const CERTIFICATE = [
  ["mode", mode], ["chainId", chainId], ["height", u53], ["round", u53], ["blockHash", hash],
  ["validatorsHash", hash], ["bitmap", isBytes], ["signatures", listOf(bytesOf(64))],
];
const VALIDATOR = [
  ["operator", address], ["consensusKey", address], ["nodeKey", address], ["power", positive],
];
const STATE_PROOF = [["siblings", listOf(pathNode)], ["entries", isBytes]];
const PROVEN_LEAF = [["index", u53], ["leaf", isBytes], ["path", listOf(hash)]];
const COMMITMENT = [["epoch", u53], ["root", hash], ["count", u53]];
const EPOCH_STATE = [["lastScored", integer], ["seedQualities", listOf(structOf(address, u53))]];
const ACCOUNT = [
  ["balance", u53], ["nonce", u53], ["activeKey", isBytes], ["registeredHeight", u53],
  ["serviceMask", u53], ["endpointHash", isBytes], ["deposit", u53],
];
const fact = structOf(text, (value) => integer(value) || text(value));
const RECEIPT = [
  ["transactionId", hash], ["ok", flag], ["fee", u53], ["reason", text], ["facts", listOf(fact)],
];

function named(fields, value) {
  const kinds = fields.map(([, holds]) => holds);
  if (!structOf(...kinds)(value)) throw new NotCanonical("a field of another kind");
  return Object.fromEntries(fields.map(([name], i) => [name, value[i]]));
}

/** `read(bytes)`, with whatever is wrong with them told as a refusal at `step`. */
function at(step, what, read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof NotCanonical) throw new ProofRefused(step, `${what}: ${error.message}`);
    throw error;
  }
}

const reader = (fields, step, what) => (bytes) => at(step, what, () => named(fields, decode(bytes)));

export const decodeHeader = reader(HEADER, "header", "the header's bytes");
export const decodeCertificate = reader(CERTIFICATE, "certificate", "the certificate's bytes");
export const decodeCommitment = reader(COMMITMENT, "commitment", "the commitment's bytes");
export const decodeEpochState = reader(EPOCH_STATE, "state", "the epoch's state object");
export const decodeAccount = reader(ACCOUNT, "account", "the account's bytes");
export const decodeReceipt = reader(RECEIPT, "receipt", "the receipt's bytes");
export const decodeStateProof = (bytes, step) => reader(STATE_PROOF, step, "the state proof's bytes")(bytes);

/** The proven leaves of a score proof. */
export function decodeScoreProof(bytes) {
  return at("score", "the score proof's bytes", () => {
    const value = decode(bytes);
    if (!structOf(Array.isArray)(value)) throw new NotCanonical("a field of another kind");
    return value[0].map((leaf) => named(PROVEN_LEAF, leaf));
  });
}

/** A validator set from canonical bytes, its rules checked. */
export function decodeValidatorSet(bytes, step) {
  return at(step, "the validator set's bytes", () => {
    const value = decode(bytes);
    if (!structOf(Array.isArray)(value)) throw new NotCanonical("a field of another kind");
    return checkedSet(value[0].map((each) => named(VALIDATOR, each)), step);
  });
}

/** Raises ProofRefused unless the set is ordered, unique in every key and of bounded power. */
export function checkedSet(validators, step) {
  const wrong = (detail) => new ProofRefused(step, `the validator set ${detail}`);
  if (validators.length < 1 || validators.length > VALIDATORS_MAX) throw wrong("has a wrong size");
  for (const key of ["operator", "consensusKey", "nodeKey"]) {
    const sorted = validators.map((each) => each[key]);
    if (key !== "operator") sorted.sort(compare);
    if (sorted.some((each, i) => i > 0 && compare(sorted[i - 1], each) >= 0)) {
      throw wrong(`is out of order or repeats a key (${key})`);
    }
  }
  if (!u53(validators.reduce((sum, each) => sum + each.power, 0))) throw wrong("has too much power");
  return validators;
}

/** The list that the set's canonical bytes encode. */
export const validatorSetContent = (validators) => [
  validators.map((each) => [each.operator, each.consensusKey, each.nodeKey, each.power]),
];
