"""In place of the process that reads documents: does what a hostile document might make it do, by the document's name."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from shared.providers.parsing.worker import Limits


def tell(title):
    answer = {"title": title, "pages": None, "hidden": 0, "warnings": [], "blocks": [["paragraph", "x", None, 0]]}
    sys.stdout.write(json.dumps(answer))


def write():
    Path("left").write_text("x" * 10)


def main():  # noqa: C901, PLR0912 - a list of deeds
    order = json.loads(sys.stdin.buffer.readline())
    Limits(**order["limits"]).impose()
    content = sys.stdin.buffer.read()
    match order["name"]:
        case "environment":
            tell(" ".join(sorted(os.environ)))
        case "size":
            tell(str(len(content)))
        case "hang":
            time.sleep(600)
        case "spin":
            while True:
                pass
        case "memory":
            tell(str(len(b"x" * 8 * 2**30)))
        case "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
            tell(str(child.pid))
        case "write":
            write()
            tell("written")
        case "flood":
            while True:
                sys.stdout.write("x" * 2**20)
        case "garbage":
            sys.stdout.write('{"title": ')
        case "silence":
            return
        case "death":
            os.abort()


main()
