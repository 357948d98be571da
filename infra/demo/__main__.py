"""`python -m infra.demo`: a month of made-up traffic for the local stack; `--remove` takes it away again."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from infra.demo.loading import Demo
from infra.demo.story import (
    CHANGED_MODEL,
    FORMER_PRICE_FACTOR,
    LEAST_DAYS,
    OUTAGE_ZONE,
    SLOW_FACTOR,
    SLOW_PUBLISHER,
    Story,
)
from infra.local.environment import HOST, Directories, Ports, StackError, function_app_environment, postgres_dsn
from infra.local.stack import say
from shared.config import REGISTRY_DIRECTORY, Settings
from shared.domain.errors import DependencyUnavailable
from shared.stores.registry_files import load_policy, load_registry
from shared.stores.system import SystemClock

_MOST_DAYS = 366
_HOUR = timedelta(hours=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description=__doc__)
    parser.add_argument(
        "--days", type=int, default=31, help="length of the window, which ends with the last whole hour"
    )
    parser.add_argument("--requests", type=int, default=300_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other requests")
    parser.add_argument("--tenant", default="local", help="whose traffic it is; the local stack's callers are `local`")
    parser.add_argument("--dsn", help="another database than the local stack's")
    parser.add_argument("--remove", action="store_true", help="take the demo away")
    return parser


async def _run(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    ports = Ports.from_environment(environment)
    settings = Settings.from_env({**function_app_environment(ports, Directories()), **environment})
    registry = load_registry(REGISTRY_DIRECTORY)
    demo = Demo(
        options.dsn or postgres_dsn(ports.postgres),
        tenant_id=options.tenant,
        registry=registry,
        tag_keys=settings.analytics_tags,
        say=say,
    )
    try:
        if options.remove:
            for what, rows in (await demo.remove()).items():
                say(f"removed {rows:>9,} {what}")
            return
        now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
        known = await demo.since()
        story = Story(known or now - options.days * 24 * _HOUR, options.days)
        say(f"{options.requests:,} requests from {story.since:%Y-%m-%d %H:%M} to {story.until:%Y-%m-%d %H:%M} UTC:")
        began_s = time.perf_counter()
        version = load_policy(REGISTRY_DIRECTORY, registry=registry).version
        loaded = await demo.load(story, requests=options.requests, seed=options.seed, policy_version=version)
        say(
            f"{loaded.requests:,} requests, {loaded.ratings:,} ratings and {loaded.events:,} security events are new; "
            f"{loaded.steps:,} steps of rollups; {time.perf_counter() - began_s:.0f} s."
        )
        say(_guide(story, f"http://{HOST}:{ports.function_app}/api/v1", options.tenant))
    finally:
        await demo.aclose()


def _guide(story: Story, api: str, tenant_id: str) -> str:
    """What happened in the month, and how to see it."""
    day = f"from={story.since:%Y-%m-%dT%H:%MZ}&to={story.until:%Y-%m-%dT%H:%MZ}"
    own = "" if tenant_id == "local" else f" -H 'x-router-tenant: {tenant_id}'"
    outage, slow = story.outage, story.slow_hour

    def ask(path: str) -> str:
        return f"  curl -s{own} '{api}/{path}'"

    return "\n".join(
        (
            f"Cost, latency and quality by model, day by day:\n{ask(f'analytics?{day}&bucket=day&group_by=model')}",
            f"The outage of {OUTAGE_ZONE}, {outage}:\n"
            + ask(f"analytics?{_hours(outage.since)}&bucket=hour&group_by=deployment&of=attempts"),
            f"The price of {CHANGED_MODEL}, {FORMER_PRICE_FACTOR} times as high until {story.price_change}:\n"
            + ask(f"analytics?{day}&bucket=day&filter.model={CHANGED_MODEL}&metrics=requests,tokens,cost_usd"),
            f"The hour in which {SLOW_PUBLISHER}'s models take {SLOW_FACTOR:g} times as long, {slow}:\n"
            + ask(f"analytics?{_hours(slow.since)}&bucket=hour&group_by=model&metrics=latency_ms"),
            f"The answer cache, from {story.cache_from:%Y-%m-%d} on:\n"
            + ask(f"analytics?{day}&bucket=day&filter.service=shopping-guide&metrics=requests,cache_hits,saved_usd"),
            f"What was saved, against the best single model:\n{ask(f'analytics/savings?{day}&group_by=service')}",
            f"The guessed passwords, {story.guessing}:\n{ask('admin/security')}",
            "`make demo-data-remove` takes everything away again.",
        )
    )


def _hours(at: datetime) -> str:
    """Some hours around an instant, as the query string of GET /analytics."""
    begin = at.replace(minute=0) - 2 * _HOUR
    return f"from={begin:%Y-%m-%dT%H:%MZ}&to={begin + 5 * _HOUR:%Y-%m-%dT%H:%MZ}"


def main() -> int:
    """The command line: 0 when all is there, or gone; 1 when the stack does not run."""
    options = _parser().parse_args()
    if not LEAST_DAYS <= options.days <= _MOST_DAYS or options.requests < 1:
        say(f"--days: from {LEAST_DAYS} to {_MOST_DAYS}; --requests: at least 1")
        return 2
    try:
        asyncio.run(_run(options, os.environ))
    except StackError as failure:
        say(str(failure))
    except DependencyUnavailable:
        say("The database does not answer. Is the stack running (`make run`)?")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
