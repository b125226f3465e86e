"""Machines on a network of the benchmark's own: a network namespace each, joined by a switch in
another one. Needs root. When the benchmark ends, however it ends, the kernel takes it all away.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from benchmarks import processes

_SWITCH = "br0"


class Namespace:
    """A network namespace, as long as it is not closed."""

    def __init__(self) -> None:
        self._holder = processes.start(["unshare", "-n", "sleep", "infinity"], Path(os.devnull))
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 5
        while Path(f"/proc/{self.pid}/ns/net").readlink() == own:
            if time.monotonic() > deadline:
                raise RuntimeError("no network namespace can be made here")
            time.sleep(0.01)
        self.ip("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def inside(self) -> list[str]:
        """What to put in front of a command."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def ip(self, *arguments: str) -> None:
        subprocess.run([*self.inside(), "ip", *arguments], check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


class Network:
    """Numbered machines, with addresses 10.231.0.NUMBER."""

    def __init__(self) -> None:
        self._switch = Namespace()
        self._switch.ip("link", "add", _SWITCH, "type", "bridge")
        self._switch.ip("link", "set", _SWITCH, "up")
        self._machines: dict[int, Namespace] = {}

    def machine(self, number: int) -> Namespace:
        """The machine with this number, made when it is first asked for."""
        if number not in self._machines:
            machine = self._machines[number] = Namespace()
            peer = ("type", "veth", "peer", "name", "e0", "netns", str(machine.pid))
            self._switch.ip("link", "add", f"v{number}", *peer)
            self._switch.ip("link", "set", f"v{number}", "master", _SWITCH, "up")
            machine.ip("addr", "add", f"{self.address(number)}/24", "dev", "e0")
            machine.ip("link", "set", "e0", "up")
        return self._machines[number]

    @staticmethod
    def address(number: int) -> str:
        return f"10.231.0.{number}"

    def cut(self, number: int) -> None:
        """From now on every packet from and to the machine is lost; it sees no link go down."""
        self._switch.ip("link", "set", f"v{number}", "nomaster")

    def heal(self, number: int) -> None:
        self._switch.ip("link", "set", f"v{number}", "master", _SWITCH)

    def drop(self, lost: Collection[tuple[int, int]]) -> None:
        """From now on every packet of these (sender, receiver) is lost, and no others are."""
        for receiver, machine in self._machines.items():
            senders = [self.address(sender) for sender, other in lost if other == receiver]
            rules = ["add table ip lost", "delete table ip lost"]
            if senders:
                rules += [
                    "add table ip lost",
                    "add chain ip lost in { type filter hook input priority 0; }",
                    f"add rule ip lost in ip saddr {{ {', '.join(senders)} }} drop",
                ]
            nft = [*machine.inside(), "nft", "-f", "-"]
            subprocess.run(nft, input="\n".join(rules), text=True, check=True)

    def close(self) -> None:
        for machine in self._machines.values():
            machine.close()
        self._switch.close()
