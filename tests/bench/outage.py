"""PostgreSQL goes away for a minute under load: nothing is lost, nothing is counted twice, on the real stack.

    python -m tests.bench.outage [--down 60] [--rps 50] [--how kill|freeze] [--before 20] [--after 30]

Starts PostgreSQL, Redis, Azurite, the simulator and the Function App on free ports. Requests come at a steady rate
(open loop): plain and streamed, pinned and left to the router, and some that must fail. After `--before` seconds
PostgreSQL is killed (or frozen), `--down` seconds later it is there again, and the load goes on for `--after` seconds.
Then the records are awaited, the host's own timer rolls them up, and all that must agree is compared. The exit code is
1 when something differs.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.e2e import outage_truth as truth
from tests.e2e.outage_load import Load, Sent, Watch, outage_stack, tally
from tests.e2e.own_stack import OwnStack

SETTLED_S = 300.0
ROLLED_UP_S = 180.0


def of_sorted(values: Sequence[float], share: float) -> float:
    """The value at a share of an ascending list."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def latencies(name: str, sent: Sequence[Sent]) -> str:
    """p50/p95/p99/max in milliseconds, from when requests were due."""
    ordered = sorted(1000 * one.latency_s for one in sent)
    figures = "/".join(f"{of_sorted(ordered, share):.0f}" for share in (0.50, 0.95, 0.99, 1.0))
    return f"{name:<7} {len(sent):>6} requests  ms p50/p95/p99/max {figures:<20} {tally(sent)}"


def outage(stack: OwnStack, *, how: str, before_s: float, down_s: float, after_s: float) -> tuple[float, float]:
    """Takes PostgreSQL away and gives it back; says from when to when."""
    time.sleep(before_s)
    gone_s = time.monotonic()
    if how == "kill":
        stack.postgres.kill()
    else:
        stack.postgres.freeze()
    time.sleep(down_s)
    back_s = time.monotonic()
    if how == "kill":
        stack.postgres.start()
    else:
        stack.postgres.thaw()
    time.sleep(after_s)
    return gone_s, back_s


def report(stack: OwnStack, sent: Sequence[Sent], watch: Watch, gone_s: float, back_s: float) -> bool:
    """Prints what came of it; whether all agrees."""
    ended_s = time.monotonic()
    settled = truth.until(lambda: truth.is_settled(stack, sent), SETTLED_S)
    print(f"settled {settled}: {time.monotonic() - ended_s:.1f} s after the load, {ended_s - back_s:.1f} s of it after")
    waits = truth.waited_s(stack)
    print(
        f"records {len(waits)}; reached the ledger after s p50/p95/p99/max "
        + "/".join(f"{of_sorted(waits, share):.2f}" for share in (0.50, 0.95, 0.99, 1.0))
    )
    poisoned = stack.app.log_path.read_text(errors="replace").count("of queue request-log went to its poison queue")
    print(f"messages that the queue gave up: {poisoned}")
    rolled = truth.until(lambda: truth.is_rolled_up(stack, sent), ROLLED_UP_S)
    print(f"rolled up by the host's timer: {rolled}, {time.monotonic() - ended_s:.1f} s after the load")
    watch.__exit__()
    for name, low, high in (("before", 0.0, gone_s), ("during", gone_s, back_s), ("after", back_s, float("inf"))):
        print(latencies(name, [one for one in sent if low <= one.due_s < high]))
        looks = [look for look in watch.looks if low <= look.began_s < high]
        slowest_s = max((look.ended_s - look.began_s for look in looks), default=0.0)
        statuses = {status: sum(look.status == status for look in looks) for status in {look.status for look in looks}}
        print(f"        GET /analytics {statuses}, the slowest {slowest_s:.2f} s")
    found = {
        "ledger": truth.ledger_differences(stack, sent),
        "money": truth.money_differences(stack),
        "rollups": truth.rollup_differences(stack, sent),
        "chains": asyncio.run(truth.chain_differences(stack)),
        "receipts": truth.receipt_differences(stack, sent, sample=50),
        "freshness": truth.freshness_differences(watch.looks, down_s=gone_s, up_s=back_s),
    }
    for name, differences in found.items():
        print(f"{name:<10} {'agrees' if not differences else ''}")
        for line in differences:
            print(f"    {line}")
    agrees = settled and rolled and not any(found.values())
    if not agrees:
        print(stack.app.log_tail(60))
    return agrees


def main() -> int:
    """Start, break, mend, compare, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--down", type=float, default=60.0)
    parser.add_argument("--rps", type=float, default=50.0)
    parser.add_argument("--how", choices=("kill", "freeze"), default="kill")
    parser.add_argument("--before", type=float, default=20.0)
    parser.add_argument("--after", type=float, default=30.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        # PostgreSQL's server gives up root, and then must get at its files.
        Path(root).chmod(0o755)
        with outage_stack(Path(root) / "stack", durable=True) as stack:
            watch = Watch(stack)
            watch.__enter__()
            with Load(stack.url, asked.rps) as load:
                gone_s, back_s = outage(
                    stack, how=asked.how, before_s=asked.before, down_s=asked.down, after_s=asked.after
                )
            return 0 if report(stack, load.sent, watch, gone_s, back_s) else 1


if __name__ == "__main__":
    sys.exit(main())
