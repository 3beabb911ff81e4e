"""The page's light client beside rpc.light: the same answers, the same verdicts.

Answers come from a node in memory with four validators and three changes of the set; bent ones are
both chosen (a link of each kind) and drawn. The module under test runs in the browser.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.certificate import decode_certificate
from ledger.codec import encode
from ledger.crypto import sha256
from rpc.forms import account_form, score_form
from rpc.light import LightVerifier, TrustRoot
from rpc.light_errors import LightError
from tests.browser.devtools import Page
from tests.browser.story import Story
from tests.kit.chain import CHAIN, make_validators
from tests.kit.rpc_asking import Asking
from tests.kit.rpc_bending import ADDRESS, NAMES, PEER, drop, flipped, hexed, set_at
from tests.kit.rpc_node import RpcNode, ascending, certify, score

SETS = {
    2: make_validators(("val-0", "val-1", "val-2", "val-3", "val-4")),
    5: make_validators(("val-1", "val-2", "val-3", "val-4", "val-5")),
    8: make_validators(("val-2", "val-4", "val-5", "val-6", "val-7")),
}

# Every draw costs up to five signature checks in two languages.
DRAWS = 150

Case = tuple[str, str, dict[str, Any]]

JUDGE = """
(async ({trust, changes, cases}) => {
  const base = '/explorer/proof/';
  const [light, bytes, identity, errors, shapes] = await Promise.all(
    ['light', 'bytes', 'identity', 'errors', 'shapes'].map((name) => import(`${base}${name}.js`)));
  const verifier = new light.LightVerifier({
    chainId: trust.chainId,
    genesisHash: bytes.unhex(trust.genesisHash),
    validators: shapes.decodeValidatorSet(bytes.unhex(trust.validators), 'definition'),
  });
  for (const change of changes) verifier.follow(change);
  return cases.map(([kind, subject, answer]) => {
    try {
      if (kind === 'score') return verifier.verifyScore(answer, identity.keyOf(subject)).score;
      if (kind === 'account') {
        return verifier.verifyAccount(answer, identity.keyOf(subject)).account;
      }
      if (kind === 'change') { verifier.follow(answer); return 'followed'; }
      return verifier.verifyTransaction(answer, subject).receipt.reason;
    } catch (error) {
      if (error instanceof errors.ProofRefused) return `refused: ${error.step}`;
      return `crashed: ${error.stack}`;
    }
  });
})
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RpcNode]:
    made = RpcNode(tmp_path)
    yield made
    made.close()


async def judged(page: Page, trust: TrustRoot, changes: list[Any], cases: list[Case]) -> list[Any]:
    """The verdicts of the module in the browser."""
    given = {
        "trust": {
            "chainId": trust.chain.chain_id,
            "genesisHash": hexed(trust.chain.genesis_hash),
            "validators": hexed(trust.validators.encode()),
        },
        "changes": changes,
        "cases": cases,
    }
    verdicts: list[Any] = await page.evaluate(f"{JUDGE}({json.dumps(given)})")
    return verdicts


def judged_by_python(verifier: LightVerifier, case: Case) -> Any:
    """The same verdict by rpc.light, without the name of the step."""
    kind, subject, answer = case
    address = next((ADDRESS[name] for name in NAMES if PEER[name] == subject), b"")
    try:
        if kind == "score":
            return score_form(address, verifier.verify_score(answer, address).score)
        if kind == "account":
            return account_form(address, verifier.verify_account(answer, address).account)
        proven = verifier.verify_transaction(answer, bytes.fromhex(subject[2:]))
        return proven.receipt.reason
    except LightError:
        return "refused"


async def history(node: RpcNode, ask: Asking) -> list[Case]:
    """Answers worth proving, after three changes of the validators."""
    signed = [node.transfer("alice", "bob", 1 + n, nonce=n) for n in range(5)]
    signed.append(node.transfer("carol", "bob", 2**52))
    node.make_block(*signed)
    for height in range(2, 9):
        node.make_block(next_validators=SETS.get(height))
    before: list[Case] = [
        ("score", PEER["alice"], await ask("reputation_get", subject=PEER["alice"], proof=True))
    ]
    table = ascending(score("alice", 0, 1), score("bob", 0, 2, trust=77, flags=5))
    node.score_block(0, table)
    cases = before + [
        ("score", PEER[name], await ask("reputation_get", subject=PEER[name], proof=True))
        for name in NAMES
    ]
    cases += [
        ("account", PEER[name], await ask("account_get", address=PEER[name], proof=True))
        for name in NAMES
    ]
    for each in signed:
        proven = await ask("tx_getProof", hash=hexed(each.transaction_id))
        cases.append(("transaction", hexed(each.transaction_id), proven))
    return cases


def leaves(value: Any, path: str = "") -> list[str]:
    """Paths of all texts, numbers, flags and nulls in an answer."""
    if isinstance(value, dict):
        pairs: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return [path]
    return [leaf for name, each in pairs for leaf in leaves(each, f"{path}.{name}".lstrip("."))]


def bent_at(answer: dict[str, Any], path: str, rng: random.Random) -> dict[str, Any]:
    """A copy with one leaf changed: a bit of a hexadecimal text, or another value."""
    bent = copy.deepcopy(answer)
    holder: Any = bent
    *parents, last = path.split(".")
    for name in parents:
        holder = holder[int(name)] if isinstance(holder, list) else holder[name]
    place: Any = int(last) if isinstance(holder, list) else last
    old = holder[place]
    if isinstance(old, str) and old.startswith("0x") and len(old) > 2:
        holder[place] = flipped(old, rng.randrange(len(old) // 2 - 1))
    elif isinstance(old, bool):
        holder[place] = not old
    elif isinstance(old, int):
        holder[place] = old + 1
    else:
        holder[place] = rng.choice(["", "0x", None, 7, [], {}])
        if holder[place] == old:
            holder[place] = "other"
    return bent


async def test_the_same_verdicts_as_the_reference(page: Page, story: Story, node: RpcNode) -> None:
    ask = Asking(node)
    good = await history(node, ask)
    changes = (await ask("validator_listChanges"))["items"]
    trust = TrustRoot(CHAIN, node.validators)
    rng = random.Random(20)
    drawn = []
    for _ in range(DRAWS):
        kind, subject, answer = rng.choice(good)
        drawn.append((kind, subject, bent_at(answer, rng.choice(leaves(answer)), rng)))
    cases = [*good, *drawn]
    verifier = LightVerifier(trust)
    for change in changes:
        verifier.follow(change)
    expected = [judged_by_python(verifier, case) for case in cases]
    assert "refused" not in expected[: len(good)]
    assert expected[len(good) :].count("refused") > DRAWS * 9 // 10
    await page.open(story.page)
    found = await judged(page, trust, changes, cases)
    for case, one, other in zip(cases, expected, found, strict=True):
        told = "refused" if isinstance(other, str) and other.startswith("refused") else other
        assert told == one, (case[0], other)


async def test_links_of_every_kind(page: Page, story: Story, node: RpcNode) -> None:
    """Forgeries that fit together everywhere but at one link, and the step that names it."""
    ask = Asking(node)
    header = node.make_block()
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    certificate = decode_certificate(bytes.fromhex(answer["proof"]["anchor"]["certificate"][2:]))
    fields = [getattr(certificate, name) for name in certificate.__struct_fields__]
    strangers = make_validators(("val-4", "val-5", "val-6", "val-7"))
    replaced = {name: getattr(header, name) for name in header.__struct_fields__}
    forged = type(header)(**{**replaced, "validators_hash": strangers.hash})

    def certified(by: Any, form: dict[str, Any] = answer) -> dict[str, Any]:
        bent = copy.deepcopy(form)
        bent["proof"]["anchor"]["certificate"] = hexed(by.encode())
        return bent

    at_forged = certified(certify(forged, strangers))
    at_forged["proof"]["anchor"]["header"] = hexed(forged.encode())
    dropped = copy.deepcopy(answer)
    drop("proof.anchor")(dropped)
    spelled = copy.deepcopy(answer)
    # Another spelling of the same header: its version as a number of two bytes.
    raw = bytes.fromhex(spelled["proof"]["anchor"]["header"][2:])
    assert encode(1) == raw[1:2]
    spelled["proof"]["anchor"]["header"] = hexed(raw[:1] + b"\xcc" + raw[1:])
    doubled = type(certificate)(*fields[:-1], (certificate.signatures[0],) * 4)
    raft = type(certificate)("raft", *fields[1:])
    elsewhere = certify(header, node.validators, genesis_hash=sha256(b"another"))
    expected = {
        "refused: certificate": [
            certified(certify(header, node.validators, [0, 3])),
            certified(doubled),
            certified(raft),
            certified(elsewhere),
        ],
        "refused: validators": [at_forged],
        "refused: header": [dropped, spelled],
        "refused: account": [bent(answer, "proof.account.value")],
        "refused: answer": [bent(answer, "balance", "1"), bent(answer, "height", 7)],
    }
    cases = [("account", PEER["alice"], each) for bends in expected.values() for each in bends]
    await page.open(story.page)
    found = await judged(page, TrustRoot(CHAIN, node.validators), [], cases)
    assert found == [step for step, bends in expected.items() for _ in bends]


def bent(answer: dict[str, Any], path: str, value: Any = flipped) -> dict[str, Any]:
    """A copy with something else at a path."""
    copied = copy.deepcopy(answer)
    set_at(path, value)(copied)
    return copied


async def test_changes_are_followed_in_order_or_refused(
    page: Page, story: Story, node: RpcNode
) -> None:
    ask = Asking(node)
    for height in range(1, 10):
        node.make_block(next_validators=SETS.get(height))
    answer = await ask("account_get", address=PEER["alice"], proof=True)
    first, second, third = (await ask("validator_listChanges"))["items"]
    script: list[tuple[str, Any, str]] = [
        ("account", answer, "refused: validators"),
        ("change", second, "refused: validators"),
        ("change", bent(first, "validators", hexed(SETS[5].encode())), "refused: changes"),
        ("change", bent(first, "validators", hexed(SETS[2].encode()) + "00"), "refused: changes"),
        ("change", bent(first, "height", 3), "refused: changes"),
        ("change", first, "followed"),
        ("change", first, "refused: changes"),
        ("change", third, "refused: validators"),
        ("change", second, "followed"),
        ("change", third, "followed"),
    ]
    cases = [(kind, PEER["alice"], given) for kind, given, _ in script]
    cases.append(("account", PEER["alice"], answer))
    await page.open(story.page)
    found = await judged(page, TrustRoot(CHAIN, node.validators), [], cases)
    assert found[:-1] == [verdict for _, _, verdict in script]
    assert found[-1]["balance"] == str(node.account("alice").balance)
