"""The network that a replay defines for itself.

Seeds of trust are seven people of the data, as the definition's `seeds`: here trust starts from the
people whom governance would have named, not from the validators' operators.

Epochs. All ratings in one epoch would not decay at all, but the epoch must be guessed longer than
the replay takes, and whoever watches waits out the rest of it. So epochs are of a few seconds (ADR
0090): the replay spreads over several, the oldest ratings lose a few per cent for each, the figures
keep (with 16 epochs the AUC of quality is 0.992 instead of 0.996), and the scores stand at most one
epoch and `score_delay_ms` after the last rating.
"""

from __future__ import annotations

import msgspec

from genesis.devnet import devnet_document
from genesis.document import Document
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, ChainParams
from node.demo.dataset import Dataset
from node.demo.plan import person_key

CHAIN_ID = "tally-otc"
REPLAY = "otc"
"""The name the people's keys are derived from."""

SHORTEST_EPOCH_MS = 5_000
LONGEST_EPOCH_MS = 20_000
# Of epoch for each transaction: a replay at 1,000 a second takes eight epochs.
EPOCH_US_EACH = 125

SCORE_DELAY_MS = 1_000
"""What the computation has before a block is due: 6,000 people take a tenth of it."""

# Several validators, a load generator and whatever else runs here share few cores: a leader may be
# slow without being faulty.
BASE_TIMEOUT_MS = 2_000
TIMEOUT_CAP_MS = 8_000


def params_for(data: Dataset, transactions: int) -> ChainParams:
    """A devnet's parameters with epochs for this many transactions."""
    epoch_ms = max(SHORTEST_EPOCH_MS, min(LONGEST_EPOCH_MS, transactions * EPOCH_US_EACH // 1_000))
    return msgspec.structs.replace(
        DEVNET_PARAMS,
        epoch_ms=epoch_ms,
        score_delay_ms=SCORE_DELAY_MS,
        pbft_base_timeout_ms=BASE_TIMEOUT_MS,
        pbft_timeout_cap_ms=TIMEOUT_CAP_MS,
        reputation_n_ref=data.n_ref,
    )


def document_for(data: Dataset, transactions: int, genesis_time_ms: int) -> Document:
    """The definition: four validators with published keys, seven people as seeds."""
    made = devnet_document(
        genesis_time_ms=genesis_time_ms,
        chain_id=CHAIN_ID,
        params=params_for(data, transactions),
    )
    seeds = [peer_id(person_key(REPLAY, person).public_key) for person in data.seeds]
    return Document.model_validate({**made.model_dump(), "seeds": seeds})
