// The network definition: its canonical hash and the validators of the first block
// (genesis/definition.py). Whoever knows the hash can take the document from anybody.

import { compare, equal, hex, tag, taggedHash, unhex } from "./bytes.js";
import { ProofRefused, demand } from "./errors.js";
import { keyOf } from "./identity.js";
import { encode, NotCanonical } from "./msgpack.js";
import { PARAMETER_NAMES } from "../facts.js";
import { checkedSet } from "./shapes.js";

const NETWORK = tag("tally/genesis/1");
const STEP = "definition";

const key = (text) => keyOf(text) ?? refuse("names an account that is no PeerID");
const bytes = (text) => unhex(text) ?? refuse("holds a key that is not hexadecimal");

function refuse(detail) {
  throw new ProofRefused(STEP, `the network definition ${detail}`);
}

function amount(text) {
  if (typeof text !== "string" || !/^(0|[1-9][0-9]{0,15})$/.test(text)) refuse("holds a wrong amount");
  return Number(text);
}

/**
 * What a document says, taken from anybody, if its hash is `expectedHash` (hexadecimal).
 *
 * {chainId, genesisHash, validators, isDevnet}. Throws ProofRefused.
 */
export function trustRoot(document, expectedHash) {
  const expected = unhex(expectedHash);
  demand(expected?.length === 32, STEP, "the pinned hash is not 0x and 64 hexadecimal digits");
  const found = definitionHash(document);
  demand(
    equal(found, expected),
    STEP,
    `the node's network definition has hash ${hex(found)}, pinned is ${expectedHash}`,
  );
  const validators = checkedSet(seats(document), STEP);
  return { chainId: document.chain_id, genesisHash: found, validators, isDevnet: document.devnet };
}

/** SHA-256(tag ‖ canonical content), 32 bytes. */
export function definitionHash(document) {
  try {
    return taggedHash(NETWORK, encode(content(document)));
  } catch (error) {
    // Whatever is missing or of another type: the document is not one of ours.
    if (error instanceof NotCanonical || error instanceof TypeError) refuse("is malformed");
    throw error;
  }
}

const seats = (document) =>
  document.validators
    .map((each) => ({
      operator: key(each.operator),
      consensusKey: bytes(each.consensus_key),
      nodeKey: key(each.node_id),
      power: each.power,
    }))
    .sort((one, other) => compare(one.operator, other.operator));

function content(document) {
  const byAddress = (one, other) => compare(one[0], other[0]);
  return [
    document.format,
    document.chain_id,
    document.devnet,
    document.genesis_time_ms,
    document.mode,
    PARAMETER_NAMES.map((name) => document.parameters[name]),
    document.validators
      .map((each) => [
        key(each.operator),
        bytes(each.consensus_key),
        key(each.node_id),
        each.power,
        each.name,
        bytes(each.consensus_proof),
        bytes(each.node_proof),
      ])
      .sort(byAddress),
    Object.entries(document.accounts).map(([name, µT]) => [key(name), amount(µT)]).sort(byAddress),
    document.seeds.map(key).sort(compare),
  ];
}
