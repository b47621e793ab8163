"""The watcher of a spot machine: what it makes of the clouds' notices, and that Ray drains the node."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_clusters import clean, running

from sweep.preemption import GOOGLE_GIVES, Aws, Google, main, wait_for_notice


def action(seconds: float = 120) -> tuple[str, float]:
    """A notice of AWS as its service words it, and its deadline."""
    end = int(time.time() + seconds)
    when = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps({"action": "terminate", "time": when}), float(end)


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of a cloud; every question needs what that cloud asks for."""

    cloud = "AWS"
    action = ""  # AWS: the body of the notice
    tokens: tuple[str, ...] = ()
    given = 0
    preempted = "FALSE"

    def do_PUT(self) -> None:
        kind = type(self)
        known = kind.cloud == "AWS" and self.path == "/latest/api/token"
        if not known or not self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
            return self.answer(405, "")
        kind.given += 1
        kind.tokens = (f"token-{kind.given}",)
        return self.answer(200, kind.tokens[0])

    def do_GET(self) -> None:
        kind = type(self)
        if kind.cloud == "AWS":
            if self.headers["X-aws-ec2-metadata-token"] not in kind.tokens:
                return self.answer(401, "")
            known = self.path == "/latest/meta-data/spot/instance-action" and kind.action
            return self.answer(200, kind.action) if known else self.answer(404, "")
        if self.headers["Metadata-Flavor"] != "Google" or self.path != "/computeMetadata/v1/instance/preempted":
            return self.answer(403, "")
        return self.answer(200, kind.preempted)

    def answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


class Service:
    """A metadata service on a free port of this machine."""

    def __init__(self, port: int = 0, **state: object) -> None:
        self.state = type("State", (Metadata,), state)
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self.state)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def aws() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def test_aws_gives_none_then_the_time_it_names(aws: Service) -> None:
    cloud = Aws(aws.url)
    assert cloud.notice() is None
    assert cloud.notice() is None
    assert aws.state.given == 1, "one token serves many questions"
    aws.state.action, deadline = action()
    notice = cloud.notice()
    assert notice is not None
    assert notice.deadline == deadline
    assert "terminate" in notice.text


def test_aws_is_asked_for_another_token_when_one_has_run_out(aws: Service) -> None:
    cloud = Aws(aws.url)
    cloud.notice()
    aws.state.tokens = ()
    aws.state.action = action()[0]
    assert cloud.notice() is not None
    assert aws.state.given == 2


@pytest.mark.parametrize("text", ["soon", "{}", '{"action": "stop", "time": "tomorrow"}', "[1]"])
def test_a_notice_in_another_form_is_a_notice(aws: Service, text: str) -> None:
    aws.state.action = text
    notice = Aws(aws.url).notice()
    assert notice is not None
    assert notice.deadline > time.time()


def test_google_says_true_and_gives_half_a_minute() -> None:
    service = Service(cloud="Google")
    assert Google(service.url).notice() is None
    service.state.preempted = "TRUE"
    notice = Google(service.url).notice()
    service.close()
    assert notice is not None
    assert 0 < notice.deadline - time.time() <= GOOGLE_GIVES


@pytest.mark.parametrize("cloud", ["AWS", "Google"])
def test_a_service_that_does_not_answer_is_asked_on(cloud: str) -> None:
    place = Service()
    place.close()
    said: list[str] = []
    services: list[Service] = []
    rounds = 0

    def sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            services.append(Service(place.port, cloud=cloud))
        if rounds == 4:
            services[0].state.action, services[0].state.preempted = action()[0], "TRUE"

    notice = wait_for_notice(place.url, 1.0, said.append, sleep)
    services[0].close()
    assert rounds == 4
    assert cloud in notice.text
    assert [line.split(" at ")[0] for line in said] == ["no metadata service", f"watching for a spot notice of {cloud}"]


def test_a_notice_without_a_cluster_ends_with_one_line(
    aws: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    aws.state.action = action(-60)[0]
    assert main(["--url", aws.url, "--every", "0.1"]) == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["sweep.preemption: the time is over; this node was not drained"]
    assert "not drained yet" in shown.out


BUSY = """
import time, ray
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
address, node = {address!r}, {node!r}
ray.init(address=address, log_to_driver=False, logging_level=40)
class Trial:
    def place(self):
        return ray.get_runtime_context().get_node_id()
first = ray.remote(Trial).options(num_cpus=0.5, scheduling_strategy=On(node, soft=False)).remote()
assert ray.get(first.place.remote()) == node
print("BUSY", state.get_draining_nodes(), flush=True)
end = time.monotonic() + 60
while not state.get_draining_nodes() and time.monotonic() < end:
    time.sleep(0.1)
print("DRAINING", state.get_draining_nodes(), flush=True)
second = ray.remote(Trial).options(num_cpus=0.5, scheduling_strategy=On(node, soft=True)).remote()
print("ELSEWHERE", ray.get(second.place.remote()) != node, ray.get(first.place.remote()) == node, flush=True)
"""


def test_ray_drains_the_node_and_what_runs_there_goes_on(aws: Service, tmp_path: Path) -> None:
    environment = clean(tmp_path, RAY_AUTH_MODE="disabled")
    with running(environment, ("", "")) as cluster:
        node = cluster.nodes[1]
        code = BUSY.format(address=cluster.address, node=node)
        command = ["-m", "sweep.preemption", "--address", cluster.address, "--node", node, "--every", "0.2"]
        with started(["-c", code], environment) as sweep:
            assert line_of(sweep) == "BUSY {}"
            with started(command, {**environment, "SWEEP_PREEMPTION_URL": aws.url}) as watcher:
                assert node[:12] in line_of(watcher)
                assert "watching for a spot notice of AWS" in line_of(watcher)
                aws.state.action, deadline = action(600)
                rest, _ = watcher.communicate(timeout=60)
                assert watcher.returncode == 0, rest
                assert f"node {node[:12]} is drained" in rest
            assert line_of(sweep) == f"DRAINING {{'{node}': {int(1000 * deadline)}}}"
            assert line_of(sweep) == "ELSEWHERE True True"


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A Python process whose output is read, ended at the end."""
    process = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line, without its end."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
