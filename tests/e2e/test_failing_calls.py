"""With one call in five of every deployment failing, requests succeed. tests/bench/failing_calls.py runs 10,000."""

import re

from shared.config import REGISTRY_DIRECTORY
from tests.e2e import fault_load
from tests.e2e.fault_app import function_app

REQUESTS = 1_500
LEAST = 0.997
"""Five attempts leave 0.2^5 = 0.03% to fail, 0.5 of these requests; more than four of them fail once in 6,000 runs."""


async def test_requests_survive_what_calls_do_not(stack, tmp_path):
    policy = (REGISTRY_DIRECTORY / "policy.toml").read_text()
    files = {"models.toml": fault_load.registry(), "policy.toml": policy}
    with function_app(stack, tmp_path, files, redis_database=8) as url:
        stack.simulator.set_faults(fault_load.rules())
        tally = await fault_load.run(url, REQUESTS)
    assert tally.requests == REQUESTS
    assert tally.success_rate >= LEAST, str(tally)
    # The calls did fail: more than one in ten requests needed another one.
    assert sum(count for attempts, count in tally.attempts.items() if attempts > 1) > REQUESTS / 10, str(tally)


def test_the_policy_that_is_shipped_allows_five_attempts():
    assert re.search(r"^max_attempts = 5$", (REGISTRY_DIRECTORY / "policy.toml").read_text(), re.MULTILINE)
