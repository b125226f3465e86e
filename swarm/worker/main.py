"""The agent's process: `python -m swarm.worker.main --config FILE`, or `-` for a line of stdin.

A child of swarmd. It takes commands on stdin and tells what happens on stdout, in lines of JSON;
its log goes to stderr. It ends when stdin ends, when its parent dies, or on SIGTERM. Tasks stay,
except after the command stop_all.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import faulthandler
import gc
import json
import logging
import os
import platform
import random
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from swarm.api.v1.node_pb2 import (
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    EngineDescription,
    NodeDescription,
    NodeRole,
)
from swarm.api.v1.types_pb2 import Platform, Resources
from swarm.generic_resources import parse_generic_resources
from swarm.priority import prefer_this_process
from swarm.security.errors import SecurityError
from swarm.security.node_keys import NodeBundle, NodeKeys
from swarm.security.roles import Role
from swarm.security.tls import manager_channel
from swarm.worker.agent import Agent, Report, Surroundings
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.core.agent import AgentConfig, AgentCore
from swarm.worker.database import Database, DatabaseError
from swarm.worker.images.layout import Layout
from swarm.worker.images.node import NodeImages
from swarm.worker.network.redirect import Redirect, RedirectError
from swarm.worker.network.stack_names import StackNames
from swarm.worker.runtime.port import Identity, RuntimeFailed
from swarm.worker.runtime.select import Choice, RuntimeConfig, choose

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 65536


class ConfigError(Exception):
    """The configuration cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Config:
    """As swarmd gives it, in JSON. `certificate_dir` holds the folder certificates/."""

    state_dir: str
    certificate_dir: str
    cluster_id: str
    node_id: str
    managers: list[str]
    hostname: str
    listen_host: str
    advertise_host: str
    labels: dict[str, str] = field(default_factory=dict[str, str])
    runtime: str = "auto"
    cpus: float = 0.0
    memory_bytes: int = 0
    generic_resources: list[str] = field(default_factory=list[str])
    parallel_starts: int = 4
    log_level: str = "info"

    @classmethod
    def parse(cls, text: str) -> Config:
        try:
            values = json.loads(text)
            known = {f.name for f in fields(cls)}
            return cls(**{name: value for name, value in values.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"the agent's configuration cannot be used: {error}") from None


class Reports:
    """Lines for swarmd; written by a thread of its own, as swarmd may be slow to read."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "agent-reports")

    def say(self, **line: Any) -> None:
        self._thread.submit(_write_line, json.dumps(line))

    def effect(self, report: Report) -> None:
        match report:
            case do.SessionUp(address):
                self.say(event="session", manager=address)
            case do.SessionDown(reason, refused):
                self.say(event="no_session", reason=reason, refused=refused)
            case do.RoleChanged(role):
                name = "manager" if role == NODE_ROLE_MANAGER else "worker"
                self.say(event="role", role=name)
            case do.RootChanged(pem):
                self.say(event="root", pem=pem.decode())
            case do.Warn(message):
                log.warning("%s", message)
                self.say(event="warning", message=message)
            case do.AllStopped():
                self.say(event="stopped")

    def close(self) -> None:
        self._thread.shutdown()


def _write_line(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        pass  # swarmd is gone; stdin's end says so as well


class Process:
    """One run of the agent, from its configuration to its end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._choice: Choice | None = None
        self._keys = NodeKeys(Path(config.certificate_dir))
        self._bundle = self._keys.load()
        self._reports = Reports()
        self._end = asyncio.Event()
        self._agent: Agent | None = None
        self._images: NodeImages | None = None

    async def run(self, stdin: asyncio.StreamReader) -> None:
        """Raises RuntimeFailed, DatabaseError or SecurityError where it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        state = Path(self._config.state_dir)
        database = Database(state / "agent.db")
        layout = Layout(state / "images")
        choice = await choose(
            self._config.runtime,
            RuntimeConfig(
                state / "runtime",
                Identity(self._config.cluster_id, self._config.node_id),
                layout=layout,
            ),
        )
        try:
            await self._work(choice, database, layout, stdin)
        finally:
            await choice.runtime.close()
            self._reports.close()

    async def _work(
        self, choice: Choice, database: Database, layout: Layout, stdin: asyncio.StreamReader
    ) -> None:
        config = self._config
        self._choice = choice
        reason = _reason(config.runtime, choice)
        self._reports.say(event="runtime", name=choice.runtime.name, reason=reason)
        names = await self._start_names(choice)
        core = AgentCore(
            config.node_id,
            random.Random(),
            AgentConfig(
                parallel_prepares=config.parallel_starts,
                parallel_starts=config.parallel_starts,
                parallel_removes=config.parallel_starts,
                names=names is not None,
            ),
        )
        images = self._images = NodeImages(
            layout,
            config.cluster_id,
            config.node_id,
            choice.runtime,
            lambda: self._bundle,
            self._images_changed,
        )
        images.managers = lambda: core.managers
        await images.start(config.listen_host, config.advertise_host)
        surroundings = Surroundings(
            node_id=config.node_id,
            runtime=choice.runtime,
            database=database,
            open_channel=lambda address: manager_channel(address, self._bundle),
            listen_host=config.listen_host,
            advertise_host=config.advertise_host,
            images=images,
            names=names,
        )
        agent = self._agent = Agent(core, surroundings, self._report)
        commands = asyncio.create_task(self._obey(stdin))
        try:
            agent.deliver(
                ev.Loaded(
                    rows=database.load(),
                    managers=config.managers,
                    certificate_role=_role(self._bundle),
                    root_certificate_pem=self._bundle.root_pem,
                    description=self._describe(),
                    address=config.advertise_host,
                )
            )
            gc.freeze()
            await self._end.wait()
        finally:
            commands.cancel()
            await agent.close()
            await images.close()
            if names is not None:
                await names.close()

    def _images_changed(self) -> None:
        if self._agent is not None:
            self._agent.deliver(ev.Described(self._describe()))

    def _describe(self) -> NodeDescription:
        assert self._choice is not None
        description = describe(self._config, self._choice)
        if self._images is not None:
            description.images.CopyFrom(self._images.reported)
        return description

    async def _start_names(self, choice: Choice) -> StackNames | None:
        """None, and a warning, where this node can't answer for the names of services."""
        try:
            bridge = await choice.runtime.bridge()
            if not bridge:
                return None
            redirect = Redirect(self._config.cluster_id, self._config.node_id, bridge)
            names = StackNames(redirect, lambda message: self._report(do.Warn(message)))
            await names.start()
        except (RuntimeFailed, RedirectError, OSError) as error:
            self._report(
                do.Warn(f"services of a stack don't find each other by name on this node: {error}")
            )
            return None
        return names

    def _report(self, report: Report) -> None:
        self._reports.effect(report)
        if isinstance(report, do.AllStopped):
            self._end.set()

    async def _obey(self, stdin: asyncio.StreamReader) -> None:
        """Commands, until stdin ends: then the parent has ended, or wants us to."""
        while line := await stdin.readline():
            try:
                self._command(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("a command that means nothing: %r", error)
        self._end.set()

    def _command(self, command: dict[str, Any]) -> None:
        assert self._agent is not None
        match command["cmd"]:
            case "renewed":
                self._renewed()
            case "settings":
                self._take_over(command["settings"])
            case "managers":
                self._agent.deliver(ev.ManagersGiven(list(command["addresses"])))
            case "stop_all":
                self._agent.deliver(ev.StopAll())
            case "stop":
                if command.get("goodbye"):
                    self._agent.deliver(ev.Goodbye())
                self._end.set()
            case other:
                log.warning("unknown command %r", other)

    def _renewed(self) -> None:
        try:
            self._bundle = self._keys.load()
        except SecurityError as error:
            self._report(do.Warn(f"the renewed certificate cannot be used: {error}"))
            return
        assert self._agent is not None
        self._agent.deliver(ev.CertificateRenewed(_role(self._bundle), self._bundle.root_pem))

    def _take_over(self, settings: dict[str, Any]) -> None:
        """Of what swarmd has read anew; keys are those of Config."""
        assert self._agent is not None
        assert self._choice is not None
        self._config = replace(self._config, **settings)
        logging.getLogger().setLevel(self._config.log_level.upper())
        self._agent.deliver(ev.Described(self._describe()))


def _reason(asked_for: str, choice: Choice) -> str:
    """Why this runtime, and what its users should know of it, in a line."""
    if asked_for == "auto":
        reason = "; ".join([*choice.reasons, "the best that works here"])
    else:
        reason = "asked for"
    if choice.runtime.name == "process":
        reason += "; tasks are plain processes, without isolation"
    return reason


def describe(config: Config, choice: Choice) -> NodeDescription:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return NodeDescription(
        hostname=config.hostname,
        platform=Platform(architecture=platform.machine(), os=platform.system().lower()),
        resources=Resources(
            nano_cpus=int((config.cpus or os.cpu_count() or 1) * 1e9),
            memory_bytes=config.memory_bytes or memory,
            generic=parse_generic_resources(config.generic_resources),
        ),
        engine=EngineDescription(
            engine_version=version("swarm"),
            labels=config.labels,
            runtime=choice.runtime.name,
            runtime_reason=_reason(config.runtime, choice),
        ),
    )


def _role(bundle: NodeBundle) -> NodeRole.ValueType:
    return NODE_ROLE_MANAGER if bundle.identity.role is Role.MANAGER else NODE_ROLE_WORKER


def end_with_parent() -> None:
    """SIGTERM when the parent dies, even if somebody else holds our stdin open."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def _run(config_path: str) -> None:
    stdin = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    if config_path == "-":
        text = (await stdin.readline()).decode()
        if not text:
            return  # swarmd ended before it had told us anything
    else:
        text = Path(config_path).read_text()  # noqa: ASYNC240 - nothing else runs yet
    config = Config.parse(text)
    logging.basicConfig(
        level=config.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    await Process(config).run(stdin)


def main() -> int:
    parser = argparse.ArgumentParser(prog="swarm.worker.main")
    parser.add_argument("--config", required=True, metavar="FILE", help="JSON; - for stdin")
    arguments = parser.parse_args()
    faulthandler.enable()
    end_with_parent()
    prefer_this_process()
    allow_many_connections()
    try:
        asyncio.run(_run(arguments.config))
    except ConfigError as error:
        sys.stderr.write(f"the agent cannot start: {error}\n")
        return 1
    except (RuntimeFailed, DatabaseError, SecurityError, OSError) as error:
        # swarmd shows it to its users, and tries again.
        _write_line(json.dumps({"event": "failed", "reason": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
