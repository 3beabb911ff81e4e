"""Encrypted private keys: EIP-2335 key stores, holding secp256k1 secrets.

    decryption key = scrypt(password, salt, n, r, p) or PBKDF2-HMAC-SHA256, 32 bytes
    checksum       = SHA-256(decryption key[16:32] ‖ ciphertext)
    secret         = AES-128-CTR(decryption key[:16], iv) over the ciphertext

The password is NFKD-normalised, its control characters are removed, and it is encoded as UTF-8.
`pubkey` is the compressed public key in hex and is compared after decryption. The format was made
for BLS12-381 keys; nothing in it depends on the curve but `path`, which is empty for keys that
are not derived. New stores use scrypt; PBKDF2 is read because the standard has it.
Source: https://eips.ethereum.org/EIPS/eip-2335 ; RFC 7914 (scrypt).

Cost. A store protects its key by what one guess costs: N = 2^18 takes about a second and 256 MiB.
The devnet's keys are published, so protecting them means nothing and four nodes should not take
seconds to start: its stores use N = 2^10, which any network that is not a devnet refuses
(`require_cost`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ledger.crypto import InvalidKey, PrivateKey
from ledger.identity import peer_id
from node.home import check_secret

SCRYPT_N = 2**18
"""The standard's own cost for new stores."""

DEVNET_SCRYPT_N = 2**10
"""Three milliseconds. Only for keys that are published anyway."""

MINIMUM_SCRYPT_N = 2**14
MINIMUM_PBKDF2_COUNT = 2**17
"""What a store must cost for a network that is not a devnet."""

_SCRYPT_R, _SCRYPT_P = 8, 1

# A foreign store decides how much memory and time opening it takes: at most 1 GiB, and PBKDF2 with
# ten million rounds takes about five seconds.
SCRYPT_MEMORY_LIMIT_BYTES = 1 << 30
PBKDF2_COUNT_LIMIT = 10_000_000

# A store has about 800 bytes; a description may be long.
KEYSTORE_LIMIT_BYTES = 64 * 1024

PASSPHRASE_LIMIT_BYTES = 4_096
MINIMUM_PASSPHRASE_CHARACTERS = 8

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL_NAME = "tally-passphrase"


class KeystoreError(Exception):
    """A key store that cannot be used. The message says what to do."""


class MalformedKeystore(KeystoreError):
    """The file is no EIP-2335 key store that we can read."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source} is no EIP-2335 key store: {detail}")
        self.source = source
        self.detail = detail


class WrongPassphrase(KeystoreError):
    """The checksum does not match; nothing more can be known."""

    def __init__(self, source: str) -> None:
        super().__init__(f"the passphrase does not open {source}")
        self.source = source


class TooCheap(KeystoreError):
    """A store whose passphrase could be guessed quickly, in a network where that matters."""

    def __init__(self, source: str, function: str, cost: int) -> None:
        super().__init__(
            f"{source} is protected by {function} with cost {cost:,} only; export the key and "
            "import it again to protect it properly"
        )
        self.source = source
        self.cost = cost


class NoPassphrase(KeystoreError):
    """There is nowhere to get the passphrase from."""

    def __init__(self, tried: list[str]) -> None:
        super().__init__(f"no passphrase: tried {', '.join(tried)}")
        self.tried = tried


def _hex(minimum_bytes: int, maximum_bytes: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not minimum_bytes <= len(bytes.fromhex(text)) <= maximum_bytes:
            raise ValueError(f"needs {minimum_bytes} to {maximum_bytes} bytes in hex")
        return text

    return check


def _check_n(value: int) -> int:
    if value & (value - 1):
        raise ValueError("scrypt's n is a power of two")
    return value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _ScryptParams(_Part):
    dklen: Literal[32]
    n: Annotated[int, Field(ge=2, le=2**24), AfterValidator(_check_n)]
    r: Annotated[int, Field(ge=1, le=64)]
    p: Annotated[int, Field(ge=1, le=16)]
    salt: Annotated[str, AfterValidator(_hex(1, 1024))]


class _Pbkdf2Params(_Part):
    dklen: Literal[32]
    c: Annotated[int, Field(ge=1, le=PBKDF2_COUNT_LIMIT)]
    prf: Literal["hmac-sha256"]
    salt: Annotated[str, AfterValidator(_hex(1, 1024))]


class _Scrypt(_Part):
    function: Literal["scrypt"]
    params: _ScryptParams
    message: Literal[""]


class _Pbkdf2(_Part):
    function: Literal["pbkdf2"]
    params: _Pbkdf2Params
    message: Literal[""]


class _Checksum(_Part):
    function: Literal["sha256"]
    params: Annotated[dict[str, str], Field(max_length=0)]
    message: Annotated[str, AfterValidator(_hex(32, 32))]


class _CipherParams(_Part):
    iv: Annotated[str, AfterValidator(_hex(16, 16))]


class _Cipher(_Part):
    function: Literal["aes-128-ctr"]
    params: _CipherParams
    message: Annotated[str, AfterValidator(_hex(32, 32))]


class _Crypto(_Part):
    kdf: Annotated[_Scrypt | _Pbkdf2, Field(discriminator="function")]
    checksum: _Checksum
    cipher: _Cipher


class Keystore(_Part):
    """One encrypted key, as in the file."""

    crypto: _Crypto
    description: str = ""
    pubkey: str = ""
    path: str
    uuid: str
    version: Literal[4]

    @property
    def public_key(self) -> bytes:
        """The 33-byte public key the file claims; empty where it claims none of our kind."""
        try:
            claimed = bytes.fromhex(self.pubkey)
        except ValueError:
            return b""
        return claimed if len(claimed) == 33 else b""

    def require_cost(self, source: str) -> None:
        """Raise TooCheap unless guessing the passphrase costs what it should."""
        kdf = self.crypto.kdf
        if isinstance(kdf, _Scrypt):
            if kdf.params.n * kdf.params.r < MINIMUM_SCRYPT_N * _SCRYPT_R:
                raise TooCheap(source, "scrypt", kdf.params.n)
        elif kdf.params.c < MINIMUM_PBKDF2_COUNT:
            raise TooCheap(source, "PBKDF2", kdf.params.c)

    def open(self, passphrase: str, source: str = "the key store") -> bytes:
        """The 32-byte secret. Raises WrongPassphrase, MalformedKeystore."""
        key = self._decryption_key(passphrase, source)
        ciphertext = bytes.fromhex(self.crypto.cipher.message)
        checksum = hashlib.sha256(key[16:] + ciphertext).digest()
        if not hmac.compare_digest(checksum, bytes.fromhex(self.crypto.checksum.message)):
            raise WrongPassphrase(source)
        return _aes_128_ctr(key[:16], bytes.fromhex(self.crypto.cipher.params.iv), ciphertext)

    def _decryption_key(self, passphrase: str, source: str) -> bytes:
        kdf = self.crypto.kdf
        password, salt = encode_passphrase(passphrase), bytes.fromhex(kdf.params.salt)
        if isinstance(kdf, _Pbkdf2):
            return hashlib.pbkdf2_hmac("sha256", password, salt, kdf.params.c, 32)
        if 128 * kdf.params.n * kdf.params.r * kdf.params.p > SCRYPT_MEMORY_LIMIT_BYTES:
            raise MalformedKeystore(source, "opening it would take more than 1 GiB of memory")
        return _scrypt(password, salt, kdf.params.n, kdf.params.r, kdf.params.p)

    def open_key(self, passphrase: str, source: str = "the key store") -> PrivateKey:
        """The private key, checked against `pubkey`. Raises WrongPassphrase, MalformedKeystore."""
        try:
            key = PrivateKey(self.open(passphrase, source))
        except InvalidKey as error:
            raise MalformedKeystore(source, str(error)) from error
        if self.pubkey and self.pubkey != key.public_key.hex():
            raise MalformedKeystore(source, "its pubkey is not that of the key inside")
        return key

    def dump(self) -> bytes:
        """The file's content."""
        return json.dumps(self.model_dump(), indent=2).encode() + b"\n"


def seal(
    key: PrivateKey,
    passphrase: str,
    *,
    description: str = "",
    n: int = SCRYPT_N,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Keystore:
    """A new store for `key`. `n` is scrypt's cost, a power of two."""
    salt, iv = random_bytes(32), random_bytes(16)
    decryption_key = _scrypt(encode_passphrase(passphrase), salt, n, _SCRYPT_R, _SCRYPT_P)
    ciphertext = _aes_128_ctr(decryption_key[:16], iv, key.secret)
    checksum = hashlib.sha256(decryption_key[16:] + ciphertext).hexdigest()
    params = {"dklen": 32, "n": n, "r": _SCRYPT_R, "p": _SCRYPT_P, "salt": salt.hex()}
    return Keystore.model_validate(
        {
            "crypto": {
                "kdf": {"function": "scrypt", "params": params, "message": ""},
                "checksum": {"function": "sha256", "params": {}, "message": checksum},
                "cipher": {
                    "function": "aes-128-ctr",
                    "params": {"iv": iv.hex()},
                    "message": ciphertext.hex(),
                },
            },
            "description": description or peer_id(key.public_key),
            "pubkey": key.public_key.hex(),
            "path": "",
            "uuid": str(uuid.UUID(bytes=random_bytes(16), version=4)),
            "version": 4,
        }
    )


def parse_keystore(text: str | bytes, source: str = "the text") -> Keystore:
    """The store in a JSON text. Raises MalformedKeystore."""
    if len(text) > KEYSTORE_LIMIT_BYTES:
        raise MalformedKeystore(source, f"{len(text)} bytes, at most {KEYSTORE_LIMIT_BYTES}")
    try:
        return Keystore.model_validate(json.loads(text))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedKeystore(source, "not JSON") from error
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MalformedKeystore(source, f"{where}: {first['msg']}") from error


def read_keystore(path: Path) -> Keystore:
    """The store in a file of ours. Raises MalformedKeystore, InsecureFile, OSError."""
    check_secret(path)
    with path.open("rb") as file:
        return parse_keystore(file.read(KEYSTORE_LIMIT_BYTES + 1), str(path))


def encode_passphrase(passphrase: str) -> bytes:
    """EIP-2335's encoding: NFKD, without C0, C1 and Delete, UTF-8."""
    normal = unicodedata.normalize("NFKD", passphrase)
    kept = (each for each in normal if not (ord(each) < 0x20 or 0x7F <= ord(each) <= 0x9F))
    return "".join(kept).encode()


def find_passphrase(
    file: Path | None,
    environment: Mapping[str, str],
    prompt: Callable[[str], str] | None,
    *,
    question: str = "Passphrase",
) -> str:
    """The passphrase from the first place that has one. Raises NoPassphrase, InsecureFile, OSError.

    In order: `file`; systemd's credential `tally-passphrase`; `prompt`, None where there is no
    terminal. One line feed at the end of a file is not part of the passphrase.
    """
    tried: list[str] = []
    if file is not None:
        check_secret(file)
        return _read_passphrase(file)
    tried.append("no passphrase file is set (keys.passphrase_file, --passphrase-file)")
    folder = environment.get(CREDENTIALS_VARIABLE)
    if folder:
        credential = Path(folder) / CREDENTIAL_NAME
        if credential.exists():
            return _read_passphrase(credential)
        tried.append(f"{credential} does not exist")
    else:
        tried.append("no systemd credential")
    if prompt is None:
        raise NoPassphrase([*tried, "there is no terminal to ask on"])
    return prompt(question)


def terminal_prompt() -> Callable[[str], str] | None:
    """A prompt that does not echo, or None where standard input is no terminal."""
    if not sys.stdin.isatty():
        return None
    from getpass import getpass

    return lambda question: getpass(f"{question}: ", stream=sys.stderr)


def _read_passphrase(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(PASSPHRASE_LIMIT_BYTES + 1)
    if len(content) > PASSPHRASE_LIMIT_BYTES:
        raise KeystoreError(f"{path} has more than {PASSPHRASE_LIMIT_BYTES} bytes")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise KeystoreError(f"{path} is not UTF-8") from None


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    # OpenSSL counts its own blocks too, hence the room.
    maximum = 128 * r * (n + p + 2) + (1 << 20)
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=maximum, dklen=32)


def _aes_128_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    # CTR authenticates nothing by itself; the standard's checksum covers the ciphertext.
    stream = Cipher(AES(key), CTR(iv)).encryptor()
    return stream.update(data) + stream.finalize()
