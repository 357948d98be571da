"""Every file of a folder of fixtures, parsed as in production, against its manifest: `... tests.evals.rag_fixtures DATA`.

The manifest (`manifest.json`) says of each file its kind, what its text must contain, and, for some, a reference text.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

from shared.domain.documents import DocumentUnreadable, NeedsOcr
from shared.providers.parsing.sandbox import SandboxedParser
from shared.telemetry import RecordingTelemetry

FAILS = {"pdf-user-pw": "password", "empty": "empty"}
"""Kinds that cannot be taken, and what the reason must name."""
SCANS = {"pdf-scan"}
PICTURES_ONLY = {"un_table-multi-row-column-cells.pdf"}
"""Of another kind by the manifest, but without any text in the file."""
EITHER = {"pdf-truncated", "pptx-malformed"}
"""Salvaged, or refused with a reason."""
WARNS = {"wrong-ext", "txt-badutf8"}
NEVER = {"html_hidden.html": ("SCRIPTTEXT", "IGNORE ALL PREVIOUS", "hidden-33")}
LEAST_RECALL = 0.9
"""Of a reference text's words."""


def folded(text):
    return " ".join(text.split())


def recall(truth, text):
    """The share of the reference's words that were found, repeated ones as often."""
    wanted = Counter(re.findall(r"\w+", re.sub(r"<!--.*?-->", "", truth)))
    found = Counter(re.findall(r"\w+", text))
    return sum((wanted & found).values()) / max(1, sum(wanted.values()))


def problems_of(entry, folder, status, parsed, reason):
    """What is not as the manifest says."""
    kind, name = entry["kind"], entry["file"]
    if kind in EITHER:
        return [] if status in {"ready", "failed"} and (parsed or reason) else [f"ended as {status}"]
    wanted = "failed" if kind in FAILS else "needs_ocr" if kind in SCANS or name in PICTURES_ONLY else "ready"
    if status != wanted:
        return [f"{status} instead of {wanted}: {reason}"]
    if parsed is None:
        return [f"reason does not name {FAILS[kind]!r}"] if FAILS.get(kind, "") not in reason else []
    text = folded(parsed.text)
    found = [f"lacks {part!r}" for part in entry["must_contain"] if folded(part) not in text]
    found += [f"holds {part!r}" for part in NEVER.get(name, ()) if part in text]
    if kind in WARNS and not parsed.warnings:
        found.append("no warning")
    if name in NEVER and not parsed.hidden:
        found.append("hidden text was not counted")
    if entry["truth"]:
        share = recall((folder / "truth" / entry["truth"]).read_text(), text)
        if share < LEAST_RECALL:
            found.append(f"{share:.0%} of the reference's words")
    return found


async def main(folder):
    parser = SandboxedParser(RecordingTelemetry())
    entries = json.loads((folder / "manifest.json").read_text())
    good = 0
    for entry in entries:
        content = (folder / "files" / entry["file"]).read_bytes()
        started = time.perf_counter()
        parsed, reason, status = None, "", "ready"
        try:
            parsed = await parser.parse(content, media_type="application/octet-stream", name=entry["file"])
        except NeedsOcr as error:
            status, reason = "needs_ocr", error.reason
        except DocumentUnreadable as error:
            status, reason = "failed", error.reason
        problems = problems_of(entry, folder, status, parsed, reason)
        good += not problems
        size = (
            "" if parsed is None else f"{len(parsed.blocks)} blocks, {len(parsed.text)} chars, {parsed.hidden} hidden"
        )
        took_ms = 1000 * (time.perf_counter() - started)
        print(
            f"{'ok ' if not problems else 'BAD'} {entry['file']:50.50} {entry['kind']:16} {status:10} {took_ms:6.0f} ms "
            f"{size} {reason} {' '.join(parsed.warnings) if parsed else ''} {'; '.join(problems)}".rstrip()
        )
    print(f"{good}/{len(entries)} as the manifest says")
    return 0 if good == len(entries) else 1


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path, help="the folder that holds fixtures/, or that folder")
    given = arguments.parse_args().data
    sys.exit(asyncio.run(main(given / "fixtures" if (given / "fixtures").is_dir() else given)))
