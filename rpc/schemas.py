"""JSON Schemas of results, for the OpenRPC document: what a client may rely on to be there.

Written as tables of members; one whose name ends in `_opt` may be missing. Schemas name what is
promised and allow more: a later version may add members. They are held against real answers in the
tests.
"""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

ANY: Final[Schema] = {}
TEXT: Final[Schema] = {"type": "string"}
TRUTH: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "integer"}
HEX: Final[Schema] = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
HASH: Final[Schema] = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
PEER_ID: Final[Schema] = {"type": "string", "pattern": "^16Uiu2HA[1-9A-HJ-NP-Za-km-z]+$"}
AMOUNT: Final[Schema] = {"type": "string", "pattern": "^-?[0-9]+$"}
"""A decimal string: µT, or parts of a score's unit."""


def members(**named: Schema) -> Schema:
    """An object with these members."""
    names = {name.removesuffix("_opt"): schema for name, schema in named.items()}
    required = [name for name in named if not name.endswith("_opt")]
    return {"type": "object", "properties": names, "required": required}


def maybe(schema: Schema) -> Schema:
    """Or null."""
    return {"oneOf": [schema, {"type": "null"}]}


def listed(schema: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": schema}


def joined(*schemas: Schema) -> Schema:
    """An object with the members of all."""
    made = members()
    for schema in schemas:
        made["properties"] |= schema["properties"]
        made["required"] = list(dict.fromkeys([*made["required"], *schema["required"]]))
    return made


AT_HEIGHT: Final = members(height=COUNT)


def page(item: Schema) -> Schema:
    """A page of a list."""
    return members(items=listed(item), nextCursor=maybe(TEXT))


def page_at(item: Schema) -> Schema:
    """A page of a list about the state of a height."""
    return joined(AT_HEIGHT, page(item))


HEADER: Final = members(
    hash=HASH,
    version=COUNT,
    chainId=TEXT,
    height=COUNT,
    timeMs=COUNT,
    parentHash=HASH,
    lastCommitHash=HASH,
    txRoot=HASH,
    receiptsRoot=HASH,
    stateRoot=HASH,
    validatorsHash=HASH,
    nextValidatorsHash=HASH,
    paramsHash=HASH,
    nextMode=TEXT,
    proposer=PEER_ID,
)
BLOCK_SUMMARY: Final = joined(HEADER, members(transactionCount=COUNT))
RECEIPT: Final = members(
    hash=HASH, ok=TRUTH, fee=AMOUNT, reason_opt=TEXT, facts_opt={"type": "object"}
)
PAYLOAD: Final = members(
    type=TEXT, chainId=TEXT, sender=PEER_ID, nonce=COUNT, fee=AMOUNT, expiryHeight=COUNT
)
TRANSACTION: Final = members(hash=HASH, fullHash=HASH, sizeBytes=COUNT, raw=HEX, payload=PAYLOAD)
STANDING: Final = members(
    hash=HASH,
    status={"enum": ["pending", "committed"]},
    height_opt=COUNT,
    index_opt=COUNT,
    receipt_opt=maybe(RECEIPT),
)
ACCOUNT: Final = members(
    address=PEER_ID,
    exists=TRUTH,
    balance=AMOUNT,
    nonce=COUNT,
    activeKey=HEX,
    registeredHeight=COUNT,
    serviceMask=COUNT,
    endpointHash=HEX,
    deposit=AMOUNT,
    isRegistered=TRUTH,
)
SCORE: Final = members(
    subject=PEER_ID,
    newcomer=TRUTH,
    trust=AMOUNT,
    quality=AMOUNT,
    standing=AMOUNT,
    rank=maybe(COUNT),
    raters=COUNT,
    flags=listed(TEXT),
)
VALIDATOR: Final = members(
    index=COUNT, operator=PEER_ID, nodeId=PEER_ID, consensusKey=HEX, power=COUNT
)
PEER: Final = members(
    peerId=PEER_ID,
    address=TEXT,
    direction={"enum": ["inbound", "outbound"]},
    connectedMs=COUNT,
    roundTripMs=maybe(COUNT),
    validator=maybe(PEER_ID),
)
ROUND: Final = members(
    mode=TEXT,
    tolerates=TEXT,
    quorum=TEXT,
    height=COUNT,
    round=COUNT,
    phase=TEXT,
    leader=maybe(PEER_ID),
    ownIndex=maybe(COUNT),
)
CERTIFICATE: Final = members(
    mode=TEXT,
    chainId=TEXT,
    height=COUNT,
    round=COUNT,
    blockHash=HASH,
    validatorsHash=HASH,
    signers=listed(COUNT),
    signatures=listed(HEX),
)
ANCHOR: Final = members(header=HEX, certificate=HEX)
RATING: Final = members(
    rater=PEER_ID,
    subject=PEER_ID,
    service=COUNT,
    seq=COUNT,
    cumUnits=COUNT,
    cumPaid=AMOUNT,
    epoch=COUNT,
    paidCosigned=AMOUNT,
    paidRatable=AMOUNT,
    score=NUMBER,
    edge=maybe(members(epoch=COUNT, pos=COUNT, neg=COUNT)),
    windows=listed(
        members(
            epoch=COUNT,
            afterSeq=COUNT,
            lastSeq=COUNT,
            points=COUNT,
            blame=COUNT,
            score=NUMBER,
            ratedIn=maybe(COUNT),
        )
    ),
)
VOICE: Final = members(rater=PEER_ID, weight=COUNT, pos=COUNT, neg=COUNT, effect=AMOUNT)

RESULTS: Final[dict[str, Schema]] = {
    "account_get": joined(
        AT_HEIGHT, ACCOUNT, members(nextNonce=COUNT, proof_opt={"type": "object"})
    ),
    "account_list": page_at(ACCOUNT),
    "admin_addPeer": members(peerId=PEER_ID),
    "admin_removePeer": members(peerId=PEER_ID),
    "admin_setLogLevel": members(level=TEXT),
    "admin_stop": members(stopping=TRUTH),
    "chain_getBlock": members(
        header=HEADER,
        lastCommit=maybe(CERTIFICATE),
        sizeBytes=COUNT,
        transactions=listed({"oneOf": [HASH, TRANSACTION]}),
    ),
    "chain_getCommit": joined(CERTIFICATE, members(anchor=ANCHOR)),
    "chain_getHeader": joined(HEADER, members(encoded=HEX)),
    "chain_listBlocks": page(BLOCK_SUMMARY),
    "consensus_getParams": joined(
        AT_HEIGHT,
        members(
            hash=HASH,
            items=listed(members(name=TEXT, unit=TEXT, value=ANY, low=ANY, high=ANY)),
        ),
    ),
    "consensus_status": ROUND,
    "mempool_list": page(
        members(hash=HASH, status={"enum": ["ready", "parked"]}, sizeBytes=COUNT, payload=PAYLOAD)
    ),
    "mempool_status": members(
        count=COUNT, sizeBytes=COUNT, limitCount=COUNT, limitBytes=COUNT, floorFee=AMOUNT
    ),
    "net_info": members(
        peerId=PEER_ID,
        listening=TEXT,
        agent=TEXT,
        links=COUNT,
        inbound=COUNT,
        outbound=COUNT,
        validators=COUNT,
        dialing=listed(
            members(
                peerId=PEER_ID, address=TEXT, link=TEXT, failures=COUNT, lastFailure=maybe(TEXT)
            )
        ),
        foreign=listed(members(peerId=TEXT, address=TEXT, agent=TEXT)),
    ),
    "net_peers": page(PEER),
    "reputation_explain": joined(
        AT_HEIGHT, members(epoch=COUNT, score=maybe(SCORE), items=listed(VOICE))
    ),
    "reputation_history": page_at(
        members(
            epoch=COUNT,
            height=maybe(COUNT),
            root=HASH,
            count=COUNT,
            held=TRUTH,
            subject_opt=PEER_ID,
        )
    ),
    "reputation_leaderboard": joined(AT_HEIGHT, members(epoch=maybe(COUNT)), page(SCORE)),
    "reputation_ratings": page_at(RATING),
    "subscribe": members(subscription=COUNT, topic=TEXT, fromHeight=maybe(COUNT)),
    "system_health": members(
        status={"enum": ["ok", "behind", "not ready"]},
        reason=maybe(TEXT),
        height=COUNT,
        targetHeight=maybe(COUNT),
        tipAgeMs=COUNT,
    ),
    "system_status": members(
        chainId=TEXT,
        genesisHash=HASH,
        version=TEXT,
        height=COUNT,
        blockHash=HASH,
        blockTimeMs=COUNT,
        earliestHeight=COUNT,
        targetHeight=maybe(COUNT),
        mode=TEXT,
        peers=COUNT,
        mempoolCount=COUNT,
        timeMs=COUNT,
    ),
    "system_version": members(name=TEXT, version=TEXT),
    "tx_get": joined(TRANSACTION, STANDING),
    "tx_getReceipt": STANDING,
    "tx_list": page(joined(TRANSACTION, STANDING)),
    "tx_simulate": joined(AT_HEIGHT, members(receipt=RECEIPT, accounts=listed(ACCOUNT))),
    "unsubscribe": members(subscription=COUNT),
    "validator_get": joined(
        AT_HEIGHT,
        VALIDATOR,
        members(
            totalPower=COUNT,
            participation=members(
                fromHeight=COUNT, toHeight=COUNT, proposed=listed(COUNT), absent=listed(COUNT)
            ),
        ),
    ),
    "validator_list": joined(
        AT_HEIGHT, members(hash=HASH, count=COUNT, totalPower=COUNT), page(VALIDATOR)
    ),
}
"""By method. Those that answer with one shape or another, by their parameters, are left out."""

EVENTS: Final[dict[str, Schema]] = {
    "blocks": joined(BLOCK_SUMMARY, members(transactions_opt=listed(HASH))),
    "tx": members(
        hash=HASH,
        status={"enum": ["committed", "pending", "dropped"]},
        height_opt=COUNT,
        index_opt=COUNT,
        payload_opt=PAYLOAD,
        receipt_opt=RECEIPT,
        reason_opt=TEXT,
    ),
    "account": joined(AT_HEIGHT, ACCOUNT),
    "reputation": joined(
        AT_HEIGHT,
        members(epoch=COUNT, root=maybe(HASH), count=maybe(COUNT), items_opt=maybe(listed(SCORE))),
    ),
    "validators": joined(AT_HEIGHT, members(hash=HASH, totalPower=COUNT, items=listed(VALIDATOR))),
    "consensus": ROUND,
    "peers": members(items=listed(PEER)),
}
"""By topic; the `event` of a `subscription` notification, unless it is the last, {lagged, …}."""
