"""Hosts made of namespaces on this machine: each has its own network, processes, /tmp, home and SSH server.

Their network is an island: a bridge inside the namespace of the first host, which no other interface joins. Since each
host has its own processes too, `ray stop` on a host ends the Ray of that host alone. Needs root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("ip", "unshare", "nsenter", "mount", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")
NETWORK = "10.213.0"
SHARED = Path("/mnt/sweeps")  # where every host sees the folder that they share


def missing() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}: run cluster/install-tools.sh"
    name = f"sweep-probe-{os.getpid()}"
    probe = f"ip netns add {name} && ip netns exec {name} unshare --mount --pid --uts --fork --mount-proc true"
    done = subprocess.run(["sh", "-c", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return f"namespaces are not permitted here: {done.stderr.strip()[-200:]}" if done.returncode else ""


def run(*command: str | Path) -> str:
    """A command of this machine that must succeed; what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Host:
    """One machine of the island."""

    name: str
    address: str
    folder: Path
    shared: Path
    netns: str = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.netns = f"sweep-{self.name}-{os.getpid()}"

    @property
    def home(self) -> Path:
        """The home of root on this host, as both sides see it."""
        return self.folder / "home"

    def start(self, sshd: bool) -> None:
        """Bring its processes up; its network namespace exists already."""
        for part in ("home/.ssh", "tmp", "etc"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "etc/passwd").write_text(
            f"root:x:0:0:root:{self.home}:/bin/bash\nsshd:x:100:65534::/:/bin/false\n"
        )
        (self.home / ".bashrc").touch()
        (self.folder / "init.sh").write_text("\n".join(self._init(sshd)) + "\n")
        log = (self.folder / "init.log").open("wb")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
             "--kill-child", "--mount-proc", "bash", str(self.folder / "init.sh")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not (self.folder / "ready").exists():
            assert self.process.poll() is None, (self.folder / "init.log").read_text()
            assert time.monotonic() < deadline, "a host does not start"
            time.sleep(0.05)

    def _init(self, sshd: bool) -> list[str]:
        lines = ["set -e", f"hostname {self.name}", "mkdir -p /run /mnt"]
        for path in dict.fromkeys(map(os.path.realpath, (ROOT, sys.prefix, sys.base_prefix, self.folder))):
            if Path(path).is_relative_to("/tmp"):  # must be seen beyond the host's own /tmp
                place = shlex.quote(f"{self.folder}/tmp/{Path(path).relative_to('/tmp')}")
                lines += [f"mkdir -p {place}", f"mount --rbind {shlex.quote(path)} {place}"]
        lines += [
            "mount -t tmpfs tmpfs /mnt",
            f"mkdir {SHARED}",
            f"mount --bind {shlex.quote(str(self.shared))} {SHARED}",
            f"mount --bind {shlex.quote(str(self.folder / 'etc/passwd'))} /etc/passwd",
            f"mount --rbind {shlex.quote(str(self.folder / 'tmp'))} /tmp",
            "mount -t tmpfs tmpfs /dev/shm",
            "mount -t tmpfs tmpfs /run",
            "mkdir -p /run/sshd",
        ]
        for path in dict.fromkeys((str(ROOT), sys.prefix)):  # a host must not change the checkout it was made from
            lines += [f"mount --rbind {shlex.quote(path)} {shlex.quote(path)}",
                      f"mount -o remount,bind,ro {shlex.quote(path)}"]  # fmt: skip
        if sshd:
            lines += [
                f"/usr/sbin/sshd -f {shlex.quote(str(self.folder / 'etc/sshd_config'))} -E {self.folder}/sshd.log"
            ]
        return [*lines, f"touch {shlex.quote(str(self.folder / 'ready'))}", "while true; do sleep 3600 & wait $!; done"]

    def accept(self, public_key: str) -> None:
        """Configure an SSH server that lets the owner of a key in, and nobody else."""
        etc = self.folder / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", etc / "host_key")
        (etc / "authorized_keys").write_text(public_key)
        (etc / "sshd_config").write_text(
            f"Port 22\nListenAddress {self.address}\nListenAddress 127.0.0.1\n"
            f"HostKey {etc}/host_key\nAuthorizedKeysFile {etc}/authorized_keys\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "UsePAM no\nStrictModes no\nPidFile none\n"
        )

    def prepare(self) -> None:
        """What an administrator would have installed: the project's Python environment, without the project."""
        env = self.home / "sweep-env"
        run(sys.executable, "-m", "venv", "--without-pip", env)
        site = next(env.glob("lib/python*/site-packages"))
        base = next(Path(sys.prefix).glob("lib/python*/site-packages"))
        code = self.home / "representation-sweep"  # the project itself comes with `ray up`
        (site / "base.pth").write_text(f"{code}\n{base}\n")
        for name, module in (("ray", "ray.scripts.scripts"), ("sweep", "sweep.cli")):
            script = env / "bin" / name
            script.write_text(f"#!{env}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
            script.chmod(0o755)
        shutil.copy2(ROOT / "pyproject.toml", env / "installed")

    def command(self, *words: str | Path, cwd: Path = ROOT, **environment: str) -> list[str]:
        """The command line that runs `words` on this host, from this machine."""
        first = run("ps", "-o", "pid=", "--ppid", str(self.process.pid)).split()[0]
        settings = {
            "HOME": str(self.home), "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
            "TERM": "dumb", "USER": "root", **environment,
        }  # fmt: skip
        enter = ["nsenter", "-t", first, "--mount", "--net", "--pid", "--uts", "--ipc", f"--wd={cwd}"]
        return [*enter, "env", "-i", *(f"{k}={v}" for k, v in settings.items()), *map(str, words)]

    def run(self, *words: str | Path, cwd: Path = ROOT, timeout: float = 300, **environment: str) -> str:
        """Run a command on this host that must succeed; what it printed."""
        done = subprocess.run(
            self.command(*words, cwd=cwd, **environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def pids(self, part: str) -> list[int]:
        """Processes of this host, as this machine numbers them, whose command line has `part`."""
        found = []
        for pid in map(int, run("ip", "netns", "pids", self.netns).split()):
            try:
                if part in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                    found.append(pid)
            except OSError:  # it has ended meanwhile
                continue
        return found

    def stop(self) -> None:
        """End all its processes: the first one of a process namespace takes the others with it."""
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 20
        while self.pids("") and time.monotonic() < deadline:
            time.sleep(0.1)


class Island:
    """A place outside, and hosts that it reaches by SSH."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sweep-island-"))
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.outside = self._host("outside", 1)
        self.hosts = {name: self._host(name, 10 + i) for i, name in enumerate(names)}

    def _host(self, name: str, number: int) -> Host:
        return Host(name, f"{NETWORK}.{number}", self.folder / name, self.shared)

    def __enter__(self) -> Island:
        try:
            self._connect()
            self.outside.start(sshd=False)
            key = self.outside.home / ".ssh/id_ed25519"
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
            for host in self.hosts.values():
                host.accept(key.with_suffix(".pub").read_text())
                host.start(sshd=True)
                host.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self) -> None:
        out = self.outside.netns
        run("ip", "netns", "add", out)
        run("ip", "-n", out, "link", "set", "lo", "up")
        run("ip", "-n", out, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", out, "addr", "add", f"{self.outside.address}/24", "dev", "br0")
        run("ip", "-n", out, "link", "set", "br0", "up")
        for host in self.hosts.values():
            run("ip", "netns", "add", host.netns)
            run("ip", "-n", host.netns, "link", "set", "lo", "up")
            run("ip", "-n", out, "link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.netns)
            run("ip", "-n", out, "link", "set", host.name, "master", "br0")
            run("ip", "-n", host.netns, "addr", "add", f"{host.address}/24", "dev", "eth0")
            run("ip", "-n", host.netns, "link", "set", "eth0", "up")
            # Ray finds its own address by asking which way leads outside; nothing is forwarded there
            run("ip", "-n", host.netns, "route", "add", "default", "via", self.outside.address)
            self.link(host, up=True)

    def link(self, host: Host, up: bool) -> None:
        """Plug the cable of a host in, or pull it."""
        run("ip", "-n", self.outside.netns, "link", "set", host.name, "up" if up else "down")

    def __exit__(self, *_: object) -> None:
        everyone = [*self.hosts.values(), self.outside]
        for host in everyone:
            if Path(f"/run/netns/{host.netns}").exists():
                host.stop()
        for host in everyone:
            subprocess.run(["ip", "netns", "del", host.netns], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
