"""Keys of the simulated world: real addresses, signatures by keyed hash.

Checking an ECDSA signature costs more than everything else that a simulated validator does, and
simulating consensus does not test ECDSA. So a world has its own signature scheme, handed into the
production classes where a node hands in `ledger.crypto`: the signature of a digest is

    SHA-256(secret ‖ digest ‖ 0) ‖ SHA-256(secret ‖ digest ‖ 1)

and the key ring, which knows every secret of the world, checks it. Forgery is impossible for
anybody who does not ask the ring to sign, which is what unforgeable means to the protocol. Public
keys are points on the curve, as everything that decodes an address expects. Nothing outside
node/simulation can reach this scheme. Transactions, which are far fewer than votes, are signed by
real keys.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from ledger.crypto import PrivateKey


class SimulatedKey:
    """A validator's key. Has the shape of consensus.ports.Signer."""

    __slots__ = ("_secret", "public_key")

    def __init__(self, secret: bytes, public_key: bytes) -> None:
        self._secret = secret
        self.public_key = public_key

    def sign(self, digest: bytes) -> bytes:
        """The 64-byte keyed-hash signature of a 32-byte digest."""
        keyed = self._secret + digest
        return hashlib.sha256(keyed + b"\0").digest() + hashlib.sha256(keyed + b"\1").digest()


@lru_cache(maxsize=1_024)
def simulated_key(label: str) -> SimulatedKey:
    """The key named `label`: the same in every world, so that its curve point is computed once."""
    secret = hashlib.sha256(b"tally/simulated key/" + label.encode()).digest()
    return SimulatedKey(secret, PrivateKey(secret).public_key)


@lru_cache(maxsize=64)
def client_key(number: int) -> PrivateKey:
    """The account key of a client: a real one."""
    return PrivateKey(hashlib.sha256(b"tally/simulated client/%d" % number).digest())


class KeyRing:
    """Every key of one world; checks signatures."""

    def __init__(self) -> None:
        self._keys: dict[bytes, SimulatedKey] = {}

    def key(self, label: str) -> SimulatedKey:
        """The key named `label`, known to this ring from now on."""
        key = simulated_key(label)
        self._keys[key.public_key] = key
        return key

    def verify(self, public_key: bytes, digest: bytes, signature: bytes) -> bool:
        """Whether `signature` is the one that the owner of `public_key` makes of `digest`."""
        key = self._keys.get(public_key)
        return key is not None and key.sign(digest) == signature
