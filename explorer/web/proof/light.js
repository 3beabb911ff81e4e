// Light client: believing an answer of a node that nobody trusts. The rules are those of rpc/light.py.
//
//   network definition (pinned by hash) ─ validator set of height 1
//     ─ headers that change the set, each certified by the set before ─ set in force at H
//     ─ certificate: more than two thirds of its power signed header H
//     ─ state root ─ state object ─ score root ─ score leaf
//
// An answer is taken only as a whole: what it says in words is recomputed from what was proven and
// compared. A refusal names the step at which the chain broke.
//
// Nothing here fetches. `report(step, detail)` is called for every step that held.

import { verifySecp256k1 } from "../vendor/vendor.js";
import { compare, concat, equal, hex, sha256, tag, taggedHash, unhex, utf8 } from "./bytes.js";
import { ProofRefused, demand } from "./errors.js";
import { peerId } from "./identity.js";
import { verifyInclusion, verifyStateProof } from "./merkle.js";
import { encode } from "./msgpack.js";
import {
  decodeAccount,
  decodeCertificate,
  decodeCommitment,
  decodeEpochState,
  decodeHeader,
  decodeReceipt,
  decodeScoreProof,
  decodeStateProof,
  decodeValidatorSet,
  validatorSetContent,
} from "./shapes.js";

const VOTE = tag("tally/vote/1");
const BLOCK = tag("tally/block/1");
const VALIDATORS = tag("tally/valset/1");
const TRANSACTION = tag("tally/tx/1");
const SCORE = tag("tally/score/1");

const VOTE_COMMIT = 3;
const NO_PREPARED_ROUND = -1;
const NO_PREPARED_HASH = new Uint8Array(32);

const ADDRESS_BYTES = 33;
const SIGNATURE_BYTES = 64;
const SCORE_BYTES = 70;
const FLAGS = [[1, "seed"], [2, "suspended"], [4, "cut"]];
const UNRATED_QUALITY = 65_536;

const setHash = (validators) => taggedHash(VALIDATORS, encode(validatorSetContent(validators)));
const silent = () => {};

/** The certified header's validator set is not known: follow the changes, then ask again. */
export class UnknownValidatorSet extends ProofRefused {
  constructor(height) {
    super("validators", `no known validator set is the one that header ${height} names`);
  }
}

export class LightVerifier {
  /** `trust` is proof/definition.js trustRoot's. */
  constructor(trust) {
    this.trust = trust;
    // Ascending by first height.
    this.sets = [{ first: 1, validators: trust.validators, hash: setHash(trust.validators) }];
  }

  /** The height of the last change of validators that was followed, 0 for none. */
  get followedHeight() {
    return this.sets.at(-1).first - 1;
  }

  /** Take the next item of validator_listChanges. */
  follow(change) {
    const height = change?.height;
    demand(Number.isSafeInteger(height) && height > this.followedHeight, "changes",
      "the changes of validators are out of order");
    const header = this.verifyAnchor(change.anchor);
    demand(header.height === height, "changes", `the change at ${height} shows another header`);
    const validators = decodeValidatorSet(bytes(change.validators, "changes", "validators"), "changes");
    const hash = setHash(validators);
    demand(equal(hash, header.nextValidatorsHash), "changes",
      `the set after ${height} is not the one that the header names`);
    demand(!equal(hash, header.validatorsHash), "changes", `the set does not change at ${height}`);
    this.sets.push({ first: height + 1, validators, hash });
  }

  /** The proven header of {header, certificate}, with its hash. */
  verifyAnchor(anchor, report = silent) {
    const rawHeader = bytes(anchor?.header, "header", "anchor.header");
    const header = decodeHeader(rawHeader);
    const hash = taggedHash(BLOCK, rawHeader);
    demand(header.chainId === this.trust.chainId, "header",
      `the header belongs to chain ${header.chainId}`);
    const set = this.setAt(header);
    report("validators", `${set.validators.length} validators, set ${hex(set.hash)}`);
    const certificate = decodeCertificate(bytes(anchor.certificate, "certificate", "anchor.certificate"));
    this.verifyCertificate(certificate, header, hash, set, report);
    report("header", `block ${header.height}, ${hex(hash)}`);
    return { ...header, hash };
  }

  setAt(header) {
    const set = this.sets.findLast((each) => each.first <= header.height);
    if (!set || !equal(set.hash, header.validatorsHash)) throw new UnknownValidatorSet(header.height);
    return set;
  }

  verifyCertificate(certificate, header, blockHash, set, report) {
    const refuseUnless = (holds, detail) => demand(holds, "certificate", detail);
    const { validators } = set;
    refuseUnless(certificate.height === header.height && equal(certificate.blockHash, blockHash),
      "the certificate is of another block");
    refuseUnless(certificate.chainId === this.trust.chainId, "the certificate is of another chain");
    refuseUnless(equal(certificate.validatorsHash, set.hash), "the certificate names another validator set");
    refuseUnless(certificate.mode === "pbft", "a Raft certificate tolerates no Byzantine validator");
    refuseUnless(certificate.bitmap.length === Math.ceil(validators.length / 8),
      "the list of signers has a wrong length");
    const signers = signersOf(certificate.bitmap);
    refuseUnless(signers.every((index) => index < validators.length), "a signer is no validator");
    refuseUnless(signers.length === certificate.signatures.length,
      `${certificate.signatures.length} signatures for ${signers.length} signers`);
    const total = validators.reduce((sum, each) => sum + each.power, 0);
    const power = signers.reduce((sum, index) => sum + validators[index].power, 0);
    refuseUnless(3n * BigInt(power) > 2n * BigInt(total), `power ${power} of ${total} is no quorum`);
    const digest = taggedHash(VOTE, this.trust.genesisHash, encode([
      certificate.chainId, certificate.mode, VOTE_COMMIT, certificate.height, certificate.round,
      certificate.blockHash, NO_PREPARED_ROUND, NO_PREPARED_HASH,
    ]));
    signers.forEach((index, place) => {
      refuseUnless(signatureHolds(certificate.signatures[place], digest, validators[index].consensusKey),
        `the signature of validator ${index} is wrong`);
    });
    report("certificate",
      `${signers.length} signatures, power ${power} of ${total}, in round ${certificate.round}`);
  }

  /** reputation_get(subject, proof=true) → {header, epoch, score}; score null is a newcomer. */
  verifyScore(answer, address, report = silent) {
    const proof = object(answer?.proof, "proof");
    const header = this.verifyAnchor(proof.anchor, report);
    const epochState = stateObject(header, utf8("cepoch"), proof.epochState, "state", "epochState");
    demand(epochState !== null, "state", "every state holds the epoch's object");
    const { lastScored } = decodeEpochState(epochState);
    const epoch = lastScored < 0 ? null : lastScored;
    report("state", epoch === null
      ? "no epoch has been scored yet"
      : `the last scored epoch is ${epoch}, under state root ${hex(header.stateRoot)}`);
    demand(answer.epoch === epoch, "state",
      `the answer is of epoch ${said(answer.epoch)}, the last scored one is ${epoch ?? "none"}`);
    const score = epoch === null
      ? noScore(proof, answer)
      : provenScore(header, epoch, proof, answer, address, report);
    sameWords(answer, { height: header.height, ...scoreForm(address, score) });
    report("answer", "every figure is the proven one");
    return { header, epoch, score: scoreForm(address, score) };
  }

  /** account_get(address, proof=true) → {header, account}; account null where none stands. */
  verifyAccount(answer, address, report = silent) {
    const proof = object(answer?.proof, "proof");
    const header = this.verifyAnchor(proof.anchor, report);
    const key = concat(utf8("a"), address);
    const raw = stateObject(header, key, proof.account, "account", "account");
    const account = raw === null ? null : decodeAccount(raw);
    report("account", account === null
      ? "proven to hold nothing"
      : `under state root ${hex(header.stateRoot)}`);
    const form = accountForm(address, account);
    sameWords(answer, { height: header.height, ...form });
    report("answer", "every figure is the proven one");
    return { header, account: form };
  }

  /** tx_getProof(hash) → {header, receipt}. `hash` is the transaction's id, hexadecimal. */
  verifyTransaction(answer, hash, report = silent) {
    const header = this.verifyAnchor(answer?.anchor, report);
    const id = unhex(hash);
    const raw = bytes(answer.raw, "transaction", "raw");
    demand(raw.length > SIGNATURE_BYTES, "transaction", "the bytes are too few");
    const payload = raw.slice(0, -SIGNATURE_BYTES);
    demand(id !== null && equal(taggedHash(TRANSACTION, this.trust.genesisHash, payload), id),
      "transaction", "it is another transaction");
    const [leaf, index, size] = leafOf(answer.transaction, header.txRoot, "transaction");
    demand(equal(leaf, sha256(raw)), "transaction", "the leaf is another transaction");
    report("transaction", `number ${index + 1} of ${size} in block ${header.height}`);
    const [rawReceipt, ...place] = leafOf(answer.receipt, header.receiptsRoot, "receipt");
    demand(place[0] === index && place[1] === size, "receipt", "it stands at another place");
    const receipt = decodeReceipt(rawReceipt);
    demand(equal(receipt.transactionId, id), "receipt", "it is another transaction's");
    report("receipt", receipt.ok ? "succeeded" : `failed: ${receipt.reason}`);
    sameWords(answer, { height: header.height, hash });
    report("answer", "every figure is the proven one");
    return { header, receipt, index };
  }
}

function noScore(proof, answer) {
  demand(proof.commitment === null && answer.scoreProof === null, "commitment",
    "there is none before the first scored epoch");
  return null;
}

function provenScore(header, epoch, proof, answer, address, report) {
  const key = new Uint8Array(9);
  key.set(utf8("s"));
  new DataView(key.buffer).setBigUint64(1, BigInt(epoch));
  const raw = stateObject(header, key, proof.commitment, "commitment", "commitment");
  demand(raw !== null, "commitment", `the state holds none for epoch ${epoch}`);
  const commitment = decodeCommitment(raw);
  demand(commitment.epoch === epoch, "commitment", "it is another epoch's");
  report("commitment", `${commitment.count} scores, root ${hex(commitment.root)}`);
  const leaves = decodeScoreProof(bytes(answer.scoreProof, "score", "scoreProof"));
  const score = decideScore(commitment, address, leaves);
  report("score", score === null
    ? "proven to have none: its place between its neighbours is empty"
    : `leaf ${leaves[0].index + 1} of ${commitment.count}`);
  return score;
}

/** The score of `address`, or null if its neighbours prove that it has none. */
function decideScore(commitment, address, leaves) {
  const scores = leaves.map((leaf) => verifiedScore(commitment, leaf));
  const below = (one, other) => compare(one, other) < 0;
  const [one, two] = scores;
  if (scores.length === 1 && equal(one.address, address)) return one;
  const absent =
    (scores.length === 0 && commitment.count === 0) ||
    (scores.length === 1 && leaves[0].index === 0 && below(address, one.address)) ||
    (scores.length === 1 && leaves[0].index === commitment.count - 1 && below(one.address, address)) ||
    (scores.length === 2 && leaves[0].index + 1 === leaves[1].index &&
      below(one.address, address) && below(address, two.address));
  demand(absent, "score", "the leaves shown do not decide it");
  return null;
}

function verifiedScore(commitment, { leaf, index, path }) {
  demand(leaf.length === SCORE_BYTES, "score", "a leaf has a wrong size");
  demand(verifyInclusion(commitment.root, concat(SCORE, leaf), index, commitment.count, path),
    "score", "it does not lead to the committed root");
  const view = new DataView(leaf.buffer, leaf.byteOffset, leaf.byteLength);
  demand(view.getBigUint64(33) === BigInt(commitment.epoch), "score", "a leaf is of another epoch");
  return {
    address: leaf.slice(0, ADDRESS_BYTES),
    trust: view.getBigUint64(41),
    quality: view.getUint32(49),
    standing: view.getBigUint64(53),
    rank: view.getUint32(61),
    raters: view.getUint32(65),
    flags: leaf[69],
  };
}

function scoreForm(address, score) {
  return {
    subject: peerId(address),
    newcomer: score === null,
    trust: String(score?.trust ?? 0),
    quality: String(score?.quality ?? UNRATED_QUALITY),
    standing: String(score?.standing ?? 0),
    rank: score?.rank ?? null,
    raters: score?.raters ?? 0,
    flags: FLAGS.filter(([bit]) => (score?.flags ?? 0) & bit).map(([, name]) => name),
  };
}

function accountForm(address, account) {
  return {
    address: peerId(address),
    exists: account !== null,
    balance: String(account?.balance ?? 0),
    nonce: account?.nonce ?? 0,
    activeKey: account ? hex(account.activeKey) : "0x",
    registeredHeight: account?.registeredHeight ?? 0,
    serviceMask: account?.serviceMask ?? 0,
    endpointHash: account ? hex(account.endpointHash) : "0x",
    deposit: String(account?.deposit ?? 0),
    isRegistered: account !== null && (account.registeredHeight > 0 || account.deposit > 0),
  };
}

function signersOf(bitmap) {
  const signers = [];
  bitmap.forEach((byte, place) => {
    for (let bit = 0; bit < 8; bit += 1) if ((byte >> bit) & 1) signers.push(8 * place + bit);
  });
  return signers;
}

function signatureHolds(signature, digest, key) {
  try {
    return verifySecp256k1(signature, digest, key, { prehash: false, lowS: true });
  } catch {
    return false; // bytes that are no signature or no key
  }
}

/** The value at `key` under the header's state root, null for proven absence. */
function stateObject(header, key, given, step, name) {
  object(given, name, step);
  const value = given.value === null ? null : bytes(given.value, step, `${name}.value`);
  const proof = decodeStateProof(bytes(given.proof, step, `${name}.proof`), step);
  demand(verifyStateProof(header.stateRoot, key, value, proof), step,
    `the proof of ${name} does not lead to the state root of the header`);
  return value;
}

function leafOf(given, root, step) {
  object(given, step, step);
  const { index, size, path } = given;
  const leaf = bytes(given.leaf, step, `${step}.leaf`);
  demand(Number.isSafeInteger(index) && Number.isSafeInteger(size) && Array.isArray(path), step,
    "its place or its path is missing");
  const nodes = path.map((node) => bytes(node, step, `${step}.path`));
  demand(verifyInclusion(root, leaf, index, size, nodes), step,
    "it does not lead to its root in the header");
  return [leaf, index, size];
}

function sameWords(answer, proven) {
  for (const [name, value] of Object.entries(proven)) {
    const given = answer[name];
    const same = Array.isArray(value)
      ? Array.isArray(given) && given.length === value.length && value.every((each, i) => each === given[i])
      : given === value;
    demand(same, "answer", `the answer says ${name} ${said(given)}, proven is ${said(value)}`);
  }
}

const said = (value) => (value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80));

function object(value, name, step = "answer") {
  demand(typeof value === "object" && value !== null, step, `${name} is missing`);
  return value;
}

function bytes(text, step, name) {
  const found = unhex(text);
  demand(found !== null, step, `${name} is not 0x and lower-case hexadecimal digits`);
  return found;
}
