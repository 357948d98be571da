"""Idempotency keys between real processes: one call a key, whoever sends it; and when its worker is killed, another."""

import asyncio
import json
import sys
from collections import defaultdict
from uuid import uuid4

from shared.stores.redis import connect_redis

_PROCESSES, _EACH = 4, 5


async def _worker(url, names, mode):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.idempotency_worker", url, names, mode, stdout=asyncio.subprocess.PIPE
    )


async def test_four_processes_make_one_call_for_each_key(redis_url):
    names = [str(uuid4()) for _ in range(8)]
    workers = [await _worker(redis_url, ",".join(names), str(_EACH)) for _ in range(_PROCESSES)]
    async with asyncio.timeout(90):
        outputs = [(await worker.communicate())[0] for worker in workers]
    results = defaultdict(list)
    for output in outputs:
        for name, result in json.loads(output):
            results[name].append(result)
    async with connect_redis(redis_url, timeout_s=10) as redis:
        calls = [int(await redis.get(f"calls:{name}")) for name in names]
    assert calls == [1] * len(names)
    for name in names:
        assert len(results[name]) == _PROCESSES * _EACH
        assert len(set(results[name])) == 1


async def test_the_key_of_a_killed_worker_is_taken_over(redis_url):
    name = str(uuid4())
    holder = await _worker(redis_url, name, "hold")
    async with asyncio.timeout(60):
        assert await holder.stdout.readline() == b"held\n"
        heir = await _worker(redis_url, name, "1")
        holder.kill()
        await holder.wait()
        output, _ = await heir.communicate()
    assert json.loads(output)[0][0] == name
    async with connect_redis(redis_url, timeout_s=10) as redis:
        assert int(await redis.get(f"calls:{name}")) == 1
