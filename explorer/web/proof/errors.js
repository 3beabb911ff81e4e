// The one way in which a proof fails: at a named step, with words for people.

export const STEPS = {
  definition: "Network definition",
  changes: "Validator changes",
  validators: "Validator set",
  header: "Block header",
  certificate: "Commit certificate",
  state: "State proof",
  commitment: "Score commitment",
  score: "Score proof",
  account: "Account object",
  transaction: "Transaction",
  receipt: "Receipt",
  answer: "What the answer says",
};

export class ProofRefused extends Error {
  constructor(step, detail) {
    super(detail);
    this.name = "ProofRefused";
    this.step = step;
  }
}

/** Raise at `step` unless `holds`. */
export function demand(holds, step, detail) {
  if (!holds) throw new ProofRefused(step, detail);
}
