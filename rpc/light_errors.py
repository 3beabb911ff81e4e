"""What can be wrong with an answer of a node that nobody trusts; see rpc.light.

LightError
  MalformedAnswer       a member is missing or its bytes do not decode
  WrongChain            header or certificate of another chain, or another definition's hash
  UnknownValidatorSet   the header's set is not the one in force on the chain followed so far
  CertificateRefused    the certificate proves nothing; `rule` says why (power, signature, …)
  WrongHeader           the certificate is of another block, or the answer of another height
  ChangeRefused         a change of validators out of order, or another set than announced
  ProofRefused          a state, score or Merkle proof does not lead to its root (`link`)
  ContradictedAnswer    what the answer says in words is not what it proves (`member`)
  StaleScores           proven, but not of the last scored epoch
  TooFarBehind          more changes of validators than are followed in one go
"""

from __future__ import annotations


class LightError(Exception):
    """The answer is not believed."""


class MalformedAnswer(LightError):
    """`member` is the path of the member in the answer, `detail` what was found."""

    def __init__(self, member: str, detail: str) -> None:
        super().__init__(f"{member}: {detail}")
        self.member = member
        self.detail = detail


class WrongChain(LightError):
    """`what` names another chain than the trusted one."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what} is of {found}, not of {expected}")
        self.what = what
        self.expected = expected
        self.found = found


class UnknownValidatorSet(LightError):
    """No chain of changes that was followed so far leads to the set this header names.

    `followed_height` is the height of the last change known: asking the node for later changes may
    mend it.
    """

    def __init__(self, height: int, validators_hash: bytes, followed_height: int) -> None:
        super().__init__(
            f"header {height} names validator set {validators_hash.hex()}, which no change up to "
            f"height {followed_height} leads to"
        )
        self.height = height
        self.validators_hash = validators_hash
        self.followed_height = followed_height


class CertificateRefused(LightError):
    """`rule` and `detail` are those of ledger.certificate.InvalidCertificate."""

    def __init__(self, height: int, rule: str, detail: str) -> None:
        super().__init__(f"certificate of height {height}: {rule}: {detail}")
        self.height = height
        self.rule = rule
        self.detail = detail


class WrongHeader(LightError):
    """The certificate or the answer belongs to another header than the one given."""

    def __init__(self, height: int, detail: str) -> None:
        super().__init__(f"header {height}: {detail}")
        self.height = height
        self.detail = detail


class ChangeRefused(LightError):
    """A change of validators that does not continue the chain of changes."""

    def __init__(self, height: int, detail: str) -> None:
        super().__init__(f"change of validators at height {height}: {detail}")
        self.height = height
        self.detail = detail


class ProofRefused(LightError):
    """`link` is the step that does not hold: account, epochState, commitment, score, …"""

    def __init__(self, link: str, detail: str) -> None:
        super().__init__(f"proof of {link}: {detail}")
        self.link = link
        self.detail = detail


class ContradictedAnswer(LightError):
    """The member `member` of the answer is not what the answer's proof shows."""

    def __init__(self, member: str, proven: object) -> None:
        super().__init__(f"{member} is proven to be {proven!r}, the answer says otherwise")
        self.member = member
        self.proven = proven


class StaleScores(LightError):
    """The scores are of `epoch`, but the state says that `last_scored` is the last one."""

    def __init__(self, epoch: int | None, last_scored: int) -> None:
        super().__init__(f"the answer is about epoch {epoch}, the last scored one is {last_scored}")
        self.epoch = epoch
        self.last_scored = last_scored


class TooFarBehind(LightError):
    """More than `limit` changes of validators lie ahead."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} changes of validators to follow")
        self.limit = limit
