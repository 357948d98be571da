"""A process that works on idempotency keys: ``python -m tests.contract.idempotency_worker URL KEYS EACH|hold``.

It sends each key EACH times at once, does the work where it is its turn, and prints what came out as JSON. With ``hold``
it takes the first key, says so, and never finishes.
"""

import asyncio
import json
import os
import sys

from shared.services.idempotency import IdempotencyService, Turn, idempotency_key
from shared.stores.redis import connect_redis
from shared.stores.redis_idempotency import RedisIdempotencyStore
from shared.stores.system import SystemClock
from shared.telemetry import RecordingTelemetry

PATIENT_S = 10.0
LEASE_S = 1.0


def work_key(name):
    return idempotency_key("tenant", "shop", "chat", key=name, body=name.encode())


async def main(url, names, mode):
    clock = SystemClock()
    async with connect_redis(url, timeout_s=PATIENT_S) as redis:
        store = RedisIdempotencyStore(redis, clock, timeout_s=PATIENT_S)
        service = IdempotencyService(store, clock, RecordingTelemetry(), lease_s=LEASE_S)

        async def send(name, number):
            deadline_s = clock.monotonic() + 60
            turn = await service.begin(work_key(name), f"{os.getpid()}-{number}", deadline_s=deadline_s)
            if not isinstance(turn, Turn):
                return name, turn.decode()
            if mode == "hold":
                print("held", flush=True)  # noqa: T201 - the test reads it
                await asyncio.Event().wait()
            await redis.incr(f"calls:{name}")
            await asyncio.sleep(0.02)
            result = f"{os.getpid()}-{number}"
            assert await turn.finish(result.encode())
            return name, result

        each = 1 if mode == "hold" else int(mode)
        came = await asyncio.gather(*(send(name, number) for name in names.split(",") for number in range(each)))
        print(json.dumps(came))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
