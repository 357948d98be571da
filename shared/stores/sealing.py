"""Content at rest, sealed with AES-256-GCM (NIST SP 800-38D), bound to the key under which it lies."""

import base64
import binascii
import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Seal:
    """Seals and opens values with one key.

    Nonces are random: a key is good for 2**32 values (SP 800-38D, 8.3), which is years of answers.

    Args:
        key: 32 random bytes.

    Raises:
        ValueError: the key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)

    @classmethod
    def from_setting(cls, text: str) -> "Seal":
        """Read a key in Base64, as a Key Vault reference gives it.

        Raises:
            ValueError: not Base64 of 32 bytes.
        """
        try:
            return cls(base64.b64decode(text, validate=True))
        except binascii.Error:
            raise ValueError("a sealing key is Base64") from None

    @classmethod
    def derived(cls, *secrets: bytes) -> "Seal":
        """A seal that only those can make who know all of these."""
        digest = hashlib.sha256(b"llm-router seal v1")
        for secret in secrets:
            digest.update(len(secret).to_bytes(8, "big") + secret)
        return cls(digest.digest())

    def seal(self, plain: bytes, name: str) -> bytes:
        """The sealed value, to lie under `name`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes | None:
        """The value, or None when it was sealed with another key, for another name, or was altered."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            return None
