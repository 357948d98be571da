"""The local host as a process: HTTP on a real socket, workers that come and go, an orderly end."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.contract.host_process import AppFolder, HostProcess, eventually, is_alive

Start = Callable[..., HostProcess]


@pytest.fixture
def app(tmp_path: Path) -> AppFolder:
    return AppFolder(tmp_path / "app")


@pytest.fixture
def start(app: AppFolder) -> Iterator[Start]:
    started: list[HostProcess] = []

    def run(*arguments: str) -> HostProcess:
        started.append(HostProcess(app, *arguments, name=f"host{len(started)}"))
        return started[-1]

    yield run
    for host in started:
        host.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def worker_pids(http: aiohttp.ClientSession, url: str, count: int) -> set[int]:
    """The processes that answer; each request is a connection, and connections go round."""
    pids = set()
    for _ in range(count):
        async with http.get(f"{url}/api/pid") as response:
            pids.add((await response.json())["pid"])
    return pids


async def test_requests_are_served_without_any_storage(start: Start, http: aiohttp.ClientSession):
    host = start()
    url = await host.ready()
    async with http.post(f"{url}/API/Echo/a%20b?x=1", data=b"12345") as response:
        assert response.status == 200
        assert "server" not in response.headers
        assert await response.json() == {"name": "a b", "bytes": 5, "query": {"x": "1"}}
    async with http.get(f"{url}/api/echo/a") as response:
        assert (response.status, await response.read()) == (404, b"")
    async with http.get(f"{url}/admin/host/status") as response:
        assert (await response.json())["state"] == "Running"
    assert "Not started: queue trigger consume (AzureWebJobsStorage is not set)." in host.output
    assert "Not started: timer trigger each_second (AzureWebJobsStorage is not set)." in host.output
    assert f"Host ready on {url} (workers: 1)" in host.output


async def test_a_stream_passes_chunk_by_chunk(start: Start, app: AppFolder, http: aiohttp.ClientSession):
    url = await start().ready()
    async with http.get(f"{url}/api/stream/s") as response:
        # The second piece does not exist before the gate opens, so the first one was not held back for it.
        assert await response.content.readexactly(3) == b"one"
        app.open_gate("s")
        assert await response.content.read() == b"two"
    await eventually(lambda: app.noted("stream-closed") == [["s"]])


async def test_a_disconnect_closes_the_generator(start: Start, app: AppFolder, http: aiohttp.ClientSession):
    url = await start().ready()
    response = await http.get(f"{url}/api/stream/never")
    assert await response.content.readexactly(3) == b"one"
    response.close()
    await eventually(lambda: app.noted("stream-closed") == [["never"]])


async def test_a_handler_can_ask_for_the_disconnect(start: Start, app: AppFolder):
    url = await start().ready()
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /api/watch/w HTTP/1.1\r\nhost: x\r\n\r\n")
    await eventually(lambda: app.noted("watch-started") == [["w"]])
    writer.close()
    await eventually(lambda: app.noted("watch-saw-disconnect") == [["w"]])


async def test_silence_becomes_502_and_the_connection_stays_usable(start: Start, app: AppFolder):
    url = await start("--response-timeout-s", "0.2").ready()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        async with http.get(f"{url}/api/wait/late") as response:
            assert (response.status, await response.read()) == (502, b"")
        assert app.noted("wait-done") == []
        async with http.get(f"{url}/api/pid") as response:
            assert response.status == 200
    app.open_gate("late")
    await eventually(lambda: app.noted("wait-done") == [["late"]])


async def test_a_body_beyond_100_mb_is_refused_before_it_is_sent(start: Start):
    url = await start().ready()
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/echo/x HTTP/1.1\r\nhost: x\r\ncontent-length: 104857601\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_keys_guard_what_is_not_anonymous(start: Start, http: aiohttp.ClientSession):
    url = await start("--function-key", "f-key").ready()
    for headers, status in (({}, 401), ({"x-functions-key": "no"}, 401), ({"x-functions-key": "f-key"}, 200)):
        async with http.get(f"{url}/api/guarded", headers=headers) as response:
            assert response.status == status
    async with http.get(f"{url}/api/pid") as response:
        assert response.status == 200


async def test_local_settings_reach_the_app_and_the_environment_wins(
    start: Start, app: AppFolder, http: aiohttp.ClientSession
):
    (app.root / "local.settings.json").write_text('{"Values": {"HOST_TEST_SETTING": "file", "HOST_TEST_QUEUE": "x"}}')
    url = await start().ready()
    async with http.get(f"{url}/api/pid") as response:
        assert (await response.json())["setting"] == "file"
    app.settings["HOST_TEST_SETTING"] = "environment"
    url = await start().ready()
    async with http.get(f"{url}/api/pid") as response:
        assert (await response.json())["setting"] == "environment"


async def test_connections_go_round_the_workers(start: Start, http: aiohttp.ClientSession):
    host = start("--workers", "3", "--verbose")
    url = await host.ready()
    pids = await worker_pids(http, url, 3)
    assert len(pids) == 3
    assert host.process.pid not in pids
    assert f"Host ready on {url} (workers: 3)" in host.output
    assert "echo: [POST] /api/echo/{name}" in host.output


async def test_a_killed_worker_is_replaced_and_the_others_serve_on(start: Start, http: aiohttp.ClientSession):
    host = start("--workers", "2")
    url = await host.ready()
    before = await worker_pids(http, url, 2)
    killed, survivor = sorted(before)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: "A worker ended with code -9" in host.output)
    assert await worker_pids(http, url, 3) >= {survivor}
    after = set()
    while len(after) < 2:
        after = await worker_pids(http, url, 4)
    assert killed not in after
    assert survivor in after


async def test_sigterm_lets_requests_finish_and_leaves_no_process(
    start: Start, app: AppFolder, http: aiohttp.ClientSession
):
    host = start("--workers", "2")
    url = await host.ready()
    pids = await worker_pids(http, url, 2)
    waiting = asyncio.create_task(http.get(f"{url}/api/wait/end"))
    await eventually(lambda: app.noted("wait-started") == [["end"]])
    host.signal(signal.SIGTERM)
    address = url.removeprefix("http://").split(":")

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address[0], int(address[1]))) != 0

    await eventually(refuses)
    app.open_gate("end")
    async with await waiting as response:
        assert (response.status, await response.text()) == (200, "done")
    assert await host.exit_code() == 0
    assert [pid for pid in pids if is_alive(pid)] == []


async def test_the_drain_is_bounded(start: Start, app: AppFolder, http: aiohttp.ClientSession):
    host = start("--grace-s", "1")
    url = await host.ready()
    waiting = asyncio.create_task(http.get(f"{url}/api/wait/never"))
    await eventually(lambda: app.noted("wait-started") == [["never"]])
    host.signal(signal.SIGINT)
    assert await host.exit_code() == 0
    (result,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(result, aiohttp.ClientError) or result.status == 500
    assert app.noted("wait-done") == []


async def test_workers_end_with_a_killed_supervisor(start: Start, http: aiohttp.ClientSession):
    host = start("--workers", "2", "--grace-s", "1")
    url = await host.ready()
    pids = await worker_pids(http, url, 2)
    host.signal(signal.SIGKILL)
    await eventually(lambda: not [pid for pid in pids if is_alive(pid)])


async def test_a_taken_port_is_one_sentence(start: Start):
    url = await start().ready()
    second = start("--port", url.rpartition(":")[2])
    assert await second.exit_code() == 1
    assert second.output.count("\n") == 1
    assert "Cannot listen on 127.0.0.1:" in second.output
    assert "--port" in second.output


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("function_app.py", "import not_there_at_all\n", "Cannot import function_app: ModuleNotFoundError"),
        ("host.json", "{}}", "host.json cannot be read"),
        ("local.settings.json", '{"Values": {"A": 1}}', "local.settings.json: Values.A must be a string."),
    ],
)
async def test_an_app_that_cannot_start_is_one_sentence(
    start: Start, app: AppFolder, name: str, text: str, sentence: str
):
    (app.root / name).write_text(text)
    host = start("--workers", "2")
    assert await host.exit_code() == 1
    assert host.output.count("\n") == 1
    assert sentence in host.output


async def test_a_malformed_connection_string_is_one_sentence(start: Start):
    host = start("--storage", "nonsense")
    assert await host.exit_code() == 1
    assert "The setting AzureWebJobsStorage is no storage connection string" in host.output
