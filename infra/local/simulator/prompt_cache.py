"""The vendors' prompt caches: what of a prompt was seen before. Answers do not depend on it; usage does."""

import hashlib
import time
from collections import OrderedDict

import orjson

from infra.local.simulator.ask import Ask
from infra.local.simulator.plan import CacheUse, PromptTokens
from infra.local.simulator.profiles import Profile

_IMPLICIT_TTL_S = 300
_LONG_TTL_S = 3600
_KEPT = 10_000


class PromptCache:
    """Prefixes (system and tools, then turn by turn) by digest, with their expiry on the monotonic clock."""

    def __init__(self) -> None:
        self._expiry: OrderedDict[bytes, float] = OrderedDict()

    def use(self, profile: Profile, ask: Ask, prompt: PromptTokens) -> CacheUse:
        """What of this prompt is read from the cache and what is written; remembers it for the next call.

        Anthropic writes and reads at marks only and bills both; the others cache by themselves and bill reads.
        """
        if ask.explicit_cache_tokens:
            return CacheUse(read_tokens=ask.explicit_cache_tokens)
        least = profile.cache_min_tokens
        if not least or prompt.total < least or (profile.dialect == "anthropic" and not ask.cache_marks):
            return CacheUse()
        digests = _prefix_digests(profile.key, ask)
        now = time.monotonic()
        known = [
            n for n, digest in enumerate(digests) if self._expiry.get(digest, 0) > now and prompt.prefixes[n] >= least
        ]
        seen = prompt.prefixes[known[-1]] if known else 0
        if profile.dialect != "anthropic":
            for number, digest in enumerate(digests):
                if prompt.prefixes[number] >= least:
                    self._remember(digest, now + _IMPLICIT_TTL_S)
            return CacheUse(read_tokens=min(seen, prompt.total - 1))
        return self._marked(ask, prompt, digests, now, least)

    def _marked(self, ask: Ask, prompt: PromptTokens, digests: list[bytes], now: float, least: int) -> CacheUse:
        marks = [(after, ttl) for after, ttl in ask.cache_marks if prompt.prefixes[after] >= least]
        if not marks:
            return CacheUse()
        last, lifetime = max(marks)
        # A mark looks back for the longest prefix that an earlier request wrote.
        known = [n for n in range(last + 1) if self._expiry.get(digests[n], 0) > now and prompt.prefixes[n] >= least]
        read = prompt.prefixes[known[-1]] if known else 0
        written = prompt.prefixes[last] - read
        for after, ttl in marks:
            self._remember(digests[after], now + ttl)
        if lifetime >= _LONG_TTL_S:
            return CacheUse(read_tokens=read, write_long_tokens=written)
        return CacheUse(read_tokens=read, write_tokens=written)

    def clear(self) -> None:
        """Forget everything."""
        self._expiry.clear()

    def _remember(self, digest: bytes, expiry: float) -> None:
        self._expiry[digest] = expiry
        self._expiry.move_to_end(digest)
        if len(self._expiry) > _KEPT:
            self._expiry.popitem(last=False)


def _prefix_digests(key: str, ask: Ask) -> list[bytes]:
    running = hashlib.sha256(key.encode() + orjson.dumps([ask.system, ask.tools], option=orjson.OPT_SORT_KEYS))
    digests = [running.digest()]
    for turn in ask.turns:
        running.update(orjson.dumps(turn))
        digests.append(running.digest())
    return digests
