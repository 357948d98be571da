"""An issuer of tokens as Entra is one, for tests: keys, tokens, and a JWKS address that counts its callers."""

import json
import time

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

TENANT = "4f1c0a9e-0000-4000-8000-000000000001"
AUDIENCE = "api://llm-router"
APPLICATION = "0b6d2f1c-0000-4000-8000-00000000000a"
OBJECT = "7c3e4d2a-0000-4000-8000-00000000000b"


class Issuer:
    """Signs what it is asked to, also what no honest issuer would."""

    def __init__(self, authority="http://127.0.0.1"):
        self.authority = authority
        self.keys = {"key-1": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.calls = 0
        self.broken = False

    def claims(self, **changes):
        """The claims of an application's own version 2 token; a change to None takes a claim out."""
        now = int(time.time())
        claims = {
            "iss": f"{self.authority}/{TENANT}/v2.0",
            "aud": AUDIENCE,
            "tid": TENANT,
            "azp": APPLICATION,
            "oid": OBJECT,
            "sub": OBJECT,
            "roles": ["Router.Service"],
            "nbf": now - 5,
            "exp": now + 3600,
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, *, key_id="key-1", headers=(), algorithm="RS256", key=None, **changes):
        key = key or self.keys.get(key_id) or next(iter(self.keys.values()))
        return jwt.encode(self.claims(**changes), key, algorithm=algorithm, headers={"kid": key_id, **dict(headers)})

    def rotate(self, key_id):
        self.keys = {key_id: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    @property
    def key_set(self):
        entries = [
            json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": key_id, "use": "sig"}
            for key_id, key in self.keys.items()
        ]
        return {"keys": entries}

    async def serve(self, request):
        del request
        self.calls += 1
        return web.Response(status=503) if self.broken else web.json_response(self.key_set)
