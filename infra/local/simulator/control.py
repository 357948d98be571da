"""The control API below /_sim/: health, faults, profiles, calls and the prompt cache."""

from typing import Any
from urllib.parse import parse_qs

import orjson

from infra.local.simulator.engine import Engine
from infra.local.simulator.profiles import Profiles

PREFIX = "/_sim/"
_DEFAULT_LAST = 200


class Control:
    """Answers control requests.

    Args:
        engine: what is controlled.
        initial: the profiles to return to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._initial = orjson.dumps(engine.profiles.document())

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and document for a request; nothing changes when the body is not right."""
        handler = {
            "health": self._health,
            "faults": self._faults,
            "profiles": self._profiles,
            "calls": self._calls,
            "cache": self._cache,
        }.get(path.removeprefix(PREFIX).strip("/"))
        if handler is None:
            return 404, {"error": f"{path} is not a control page"}
        try:
            answer = handler(method, query, body)
        except (ValueError, TypeError) as error:  # orjson's decode error is a ValueError
            return 400, {"error": str(error)}
        return (405, {"error": f"{method} is not for {path}"}) if answer is None else (200, answer)

    def _health(self, method: str, _query: str, _body: bytes) -> dict[str, Any] | None:
        if method != "GET":
            return None
        models = sorted(profile.key for profile in self._engine.profiles)
        return {
            "status": "ok",
            "simulator": True,
            "seed": self._engine.seed,
            "time_scale": self._engine.profiles.time_scale,
            "embeddings": self._engine.vectors.name,
            "models": models,
        }

    def _faults(self, method: str, _query: str, body: bytes) -> dict[str, Any] | None:
        if method == "PUT":
            document = orjson.loads(body)
            rules = document.get("faults") if isinstance(document, dict) else document
            if not isinstance(rules, list):
                raise ValueError("the body must be a list of rules, or an object with the list `faults`")
            self._engine.faults.replace(rules)
        elif method == "DELETE":
            self._engine.faults.replace([])
        elif method != "GET":
            return None
        return {"faults": self._engine.faults.documents()}

    def _profiles(self, method: str, _query: str, body: bytes) -> dict[str, Any] | None:
        profiles = self._engine.profiles
        if method == "PUT":
            document = orjson.loads(body)
            if not isinstance(document, dict):
                raise ValueError("the body must be an object")
            profiles.merge(document)
        elif method == "DELETE":
            self._engine.profiles = Profiles(orjson.loads(self._initial))
        elif method != "GET":
            return None
        return self._engine.profiles.document()

    def _calls(self, method: str, query: str, _body: bytes) -> dict[str, Any] | None:
        if method == "DELETE":
            self._engine.calls.clear()
        elif method != "GET":
            return None
        last = int(parse_qs(query).get("last", [str(_DEFAULT_LAST)])[0])
        return {"calls": self._engine.calls.documents(last)}

    def _cache(self, method: str, _query: str, _body: bytes) -> dict[str, Any] | None:
        if method != "DELETE":
            return None
        self._engine.prompt_cache.clear()
        return {"cleared": True}
