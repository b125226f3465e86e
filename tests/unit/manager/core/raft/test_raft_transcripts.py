"""Consensus as stories: tests/transcripts/*.txt, run and compared line by line.

A story is a list of blocks, separated by empty lines: comments, a command, perhaps lines of
input, `----`, and what must come of it. `SWARM_REGENERATE=1 pytest <this file>` writes what does
come of it into the files; read the difference before you commit it.

    nodes 3 voters=(1,2,3) [learners=(4)] [index=2] [async] [pre_vote] ... options of Config
    campaign|tick|ready|write|apply|restart <id> [ticks]
    propose <id> <data>            propose-conf-change <id> [transition=explicit|implicit]
    settle [ids]                   ready, deliver, write, apply until nothing is left
    deliver [to ...] [drop=(...)]  the messages under way, to all or to some
    show <id> | states             what a leader knows of the others; everybody's role
    log <id> | view <id>           what is on its disk; the log as it sees it
    compact <id> <index>           transfer <id> to=<id>      read <id> <context>
    unreachable <id> <peer>        snapshot-report <id> <peer> ok|failed
    wipe <id>                      it comes back with the log that it began with
    quiet | loud
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.manager.core.raft import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_TRANSITION_AUTO,
    CONF_CHANGE_TRANSITION_JOINT_EXPLICIT,
    CONF_CHANGE_TRANSITION_JOINT_IMPLICIT,
    ENTRY_CONF_CHANGE,
    ConfChange,
    ConfChangeSingle,
    Config,
    ConfState,
    Entry,
    MemoryStorage,
    Message,
    MessageType,
    RaftError,
    RawNode,
    ReadOnlyOption,
    Ready,
    Snapshot,
)

STORIES = Path(__file__).parents[4] / "transcripts"
REGENERATE = bool(os.environ.get("SWARM_REGENERATE"))
PROMISES = {MessageType.MSG_APP_RESP, MessageType.MSG_VOTE_RESP, MessageType.MSG_PRE_VOTE_RESP}

KINDS = {
    "v": CONF_CHANGE_ADD_NODE,
    "l": CONF_CHANGE_ADD_LEARNER_NODE,
    "r": CONF_CHANGE_REMOVE_NODE,
}
TRANSITIONS = {
    "auto": CONF_CHANGE_TRANSITION_AUTO,
    "explicit": CONF_CHANGE_TRANSITION_JOINT_EXPLICIT,
    "implicit": CONF_CHANGE_TRANSITION_JOINT_IMPLICIT,
}

_OTHER_SETS = ("learners", "voters_outgoing", "learners_next")


def describe_entry(entry: Entry) -> str:
    if entry.type == ENTRY_CONF_CHANGE:
        change = ConfChange.FromString(entry.data)
        letters = {kind: letter for letter, kind in KINDS.items()}
        words = [f"{letters[single.type]}{single.node_id}" for single in change.changes]
        return f"{entry.term}/{entry.index} change({' '.join(words)})"
    return f'{entry.term}/{entry.index} "{entry.data.decode()}"'


def describe_snapshot(snapshot: Snapshot) -> str:
    state = snapshot.conf_state
    parts = [f"voters={list(state.voters)}"]
    sets = {name: list(getattr(state, name)) for name in _OTHER_SETS}
    parts += [f"{name}={ids}" for name, ids in sets.items() if ids]
    return f"{snapshot.term}/{snapshot.index} {' '.join(parts)}"


def describe_message(message: Message) -> str:
    kind = MessageType.Name(message.type).removeprefix("MSG_")
    parts = [f"{message.from_}->{message.to} {kind} term={message.term}"]
    if message.index or message.log_term:
        parts.append(f"at={message.log_term}/{message.index}")
    if message.reject:
        parts.append(f"rejected hint={message.reject_hint}")
    if message.commit:
        parts.append(f"commit={message.commit}")
    if message.context:
        parts.append(describe_context(message))
    if message.entries:
        parts.append(f"[{', '.join(describe_entry(entry) for entry in message.entries)}]")
    if message.HasField("snapshot"):
        parts.append(f"snapshot {describe_snapshot(message.snapshot)}")
    return " ".join(parts)


def describe_context(message: Message) -> str:
    context = message.context
    if message.type in (MessageType.MSG_HEARTBEAT, MessageType.MSG_HEARTBEAT_RESP):
        return f"round={int.from_bytes(context, 'big')}"
    if message.reject:
        index, term = int.from_bytes(context[:8], "big"), int.from_bytes(context[8:], "big")
        return f"committed={term}/{index}"
    return f"context={context.decode()}"


def describe_ready(ready: Ready) -> list[str]:
    lines: list[str] = []
    if ready.soft_state is not None:
        lines.append(f"{ready.soft_state.role.value}, leader {ready.soft_state.lead}")
    if ready.hard_state is not None:
        state = ready.hard_state
        lines.append(f"save term={state.term} vote={state.vote} commit={state.commit}")
    lines += [f"read {read.request_ctx.decode()} at {read.index}" for read in ready.read_states]
    if ready.snapshot is not None:
        lines.append(f"restore {describe_snapshot(ready.snapshot)}")
    lines += [f"append {describe_entry(entry)}" for entry in ready.entries]
    lines += [f"apply {describe_entry(entry)}" for entry in ready.committed_entries]
    # Without asynchronous writes both kinds are in one list, which goes after the write.
    messages = [*ready.messages, *ready.messages_after_append]
    lines += [f"{describe_kind(message)} {describe_message(message)}" for message in messages]
    return lines or ["nothing"]


def describe_kind(message: Message) -> str:
    return "promise" if message.type in PROMISES else "send"


class StoryStorage(MemoryStorage):
    """Whoever asks for a snapshot gets the state machine's newest."""

    newest: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        return self.newest if self.newest is not None else super().snapshot()


class Actor:
    """A node, what of it is durable, and the Readys that wait to be written and applied."""

    def __init__(self, options: dict, storage: StoryStorage) -> None:
        self.options = options
        self.storage = storage
        self.first = storage.snapshot()
        self.start(storage.first_index() - 1)

    def start(self, applied: int) -> None:
        self.node = RawNode(
            Config(storage=self.storage, rng=random.Random(1), applied=applied, **self.options)
        )
        self.unwritten: deque[Ready] = deque()
        self.unapplied: deque[Ready] = deque()
        self.conf_state = self.storage.initial_state()[1]

    @property
    def is_async(self) -> bool:
        return self.options.get("async_storage_writes", False)

    def write(self) -> Ready:
        ready = self.unwritten.popleft()
        if ready.snapshot is not None:
            self.storage.apply_snapshot(ready.snapshot)
        self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)
        return ready

    def apply(self) -> tuple[Ready, list[str]]:
        ready = self.unapplied.popleft()
        lines: list[str] = []
        if ready.snapshot is not None:
            self.storage.newest = ready.snapshot
            self.conf_state = ready.snapshot.conf_state
        for entry in ready.committed_entries:
            if entry.type == ENTRY_CONF_CHANGE:
                change = ConfChange.FromString(entry.data)
                self.conf_state = self.node.apply_conf_change(change)
                lines.append(f"now {self.node.raft.tracker.config}")
            self.storage.newest = Snapshot(
                index=entry.index, term=entry.term, conf_state=self.conf_state
            )
        return ready, lines


class Story:
    """The stage: executes commands and says what happened."""

    def __init__(self) -> None:
        self.actors: dict[int, Actor] = {}
        self.messages: list[Message] = []
        self.loud = True
        self.input: list[str] = []

    def run(self, command: str, given: list[str]) -> str:
        self.input = given
        words = command.split()
        positional = [word for word in words[1:] if "=" not in word]
        named = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        method: Callable[..., list[str]] = getattr(self, "do_" + words[0].replace("-", "_"))
        try:
            lines = method(*positional, **named)
        except (RaftError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return "\n".join(lines) if lines and self.loud else "ok"

    def do_quiet(self) -> list[str]:
        self.loud = False
        return []

    def do_loud(self) -> list[str]:
        self.loud = True
        return []

    def do_nodes(self, count: str, *flags: str, **named: str) -> list[str]:
        ids = {key: _ids(named.pop(key, "()")) for key in ("voters", "learners")}
        index = int(named.pop("index", "0"))
        options = {key: int(value) for key, value in named.items()}
        options |= {{"async": "async_storage_writes"}.get(flag, flag): True for flag in flags}
        if options.pop("lease_reads", False):
            options["read_only"] = ReadOnlyOption.LEASE_BASED
        for _ in range(int(count)):
            storage = StoryStorage()
            if index:
                storage.apply_snapshot(Snapshot(index=index, term=1, conf_state=ConfState(**ids)))
            id_ = len(self.actors) + 1
            self.actors[id_] = Actor({"id": id_, **options}, storage)
        return []

    def do_campaign(self, id_: str) -> list[str]:
        self._node(id_).campaign()
        return []

    def do_tick(self, id_: str, count: str = "1") -> list[str]:
        for _ in range(int(count)):
            self._node(id_).tick()
        return []

    def do_propose(self, id_: str, data: str) -> list[str]:
        self._node(id_).propose(data.encode())
        return []

    def do_propose_conf_change(self, id_: str, transition: str = "auto") -> list[str]:
        words = " ".join(self.input).split()
        change = ConfChange(
            transition=TRANSITIONS[transition],
            changes=[
                ConfChangeSingle(type=KINDS[word[0]], node_id=int(word[1:])) for word in words
            ],
        )
        node = self._node(id_)
        obstacle = node.conf_change_obstacle(change)
        node.propose_conf_change(change)
        return [f"refused: {obstacle}"] if obstacle else []

    def do_read(self, id_: str, context: str) -> list[str]:
        self._node(id_).read_index(context.encode())
        return []

    def do_transfer(self, id_: str, to: str) -> list[str]:
        self._node(id_).transfer_leader(int(to))
        return []

    def do_forget_leader(self, id_: str) -> list[str]:
        self._node(id_).forget_leader()
        return []

    def do_unreachable(self, id_: str, peer: str) -> list[str]:
        self._node(id_).report_unreachable(int(peer))
        return []

    def do_snapshot_report(self, id_: str, peer: str, outcome: str) -> list[str]:
        self._node(id_).report_snapshot(int(peer), outcome == "ok")
        return []

    def do_compact(self, id_: str, index: str) -> list[str]:
        self.actors[int(id_)].storage.compact(int(index))
        return self.do_log(id_)

    def do_restart(self, id_: str) -> list[str]:
        actor = self.actors[int(id_)]
        actor.start(actor.storage.first_index() - 1)
        return []

    def do_wipe(self, id_: str) -> list[str]:
        actor = self.actors[int(id_)]
        actor.storage = StoryStorage()
        actor.storage.apply_snapshot(actor.first)
        actor.start(actor.first.index)
        return []

    def do_ready(self, *ids: str) -> list[str]:
        return self._each(ids, self._ready)

    def do_write(self, *ids: str) -> list[str]:
        return self._each(ids, self._write)

    def do_apply(self, *ids: str) -> list[str]:
        return self._each(ids, self._apply)

    def do_deliver(self, *to: str, drop: str = "()") -> list[str]:
        dropped = _ids(drop)
        targets = [int(id_) for id_ in to] or ([] if dropped else sorted(self.actors))
        lines: list[str] = []
        batch, self.messages = self.messages, []
        for message in batch:
            if message.to in dropped:
                lines.append(f"lost {describe_message(message)}")
            elif message.to in targets:
                lines += [describe_message(message), *self._step(message)]
            else:
                self.messages.append(message)
        return lines

    def do_settle(self, *ids: str) -> list[str]:
        chosen = [int(id_) for id_ in ids] or sorted(self.actors)
        lines: list[str] = []
        while True:
            before = len(lines)
            for id_ in chosen:
                if self.actors[id_].node.has_ready():
                    lines += [f"> {id_} ready", *_indented(self._ready(id_))]
            moved = self._deliver_quietly(chosen)
            lines += _indented(moved[1])
            for id_ in chosen:
                while self.actors[id_].unwritten:
                    lines += [f"> {id_} written", *_indented(self._write(id_))]
                while self.actors[id_].unapplied:
                    lines += [f"> {id_} applied", *_indented(self._apply(id_))]
            if len(lines) == before and not moved[0]:
                return lines

    def do_show(self, id_: str) -> list[str]:
        tracker = self._node(id_).raft.tracker
        return [f"{node}: {tracker.progress[node]}" for node in sorted(tracker.progress)]

    def do_states(self) -> list[str]:
        lines: list[str] = []
        for id_, actor in self.actors.items():
            status = actor.node.basic_status()
            voter = id_ in actor.node.raft.tracker.config.voters.ids()
            lines.append(
                f"{id_}: {status.role.value} ({'voter' if voter else 'no voter'}) "
                f"term={status.term} leader={status.lead} commit={status.commit}"
            )
        return lines

    def do_log(self, id_: str) -> list[str]:
        storage = self.actors[int(id_)].storage
        lo, hi = storage.first_index(), storage.last_index() + 1
        if lo == hi:
            return [f"empty after {lo - 1}"]
        return [describe_entry(entry) for entry in storage.entries(lo, hi, 2**64)]

    def do_view(self, id_: str) -> list[str]:
        log = self._node(id_).raft.log
        entries = log.slice(log.first_index(), log.last_index() + 1)
        return [describe_entry(entry) for entry in entries] + [
            f"stable before {log.unstable.offset}"
        ]

    def _node(self, id_: str) -> RawNode:
        return self.actors[int(id_)].node

    def _each(self, ids: tuple[str, ...], act: Callable[[int], list[str]]) -> list[str]:
        if len(ids) == 1:
            return act(int(ids[0]))
        return [line for id_ in ids for line in [f"> {id_}", *_indented(act(int(id_)))]]

    def _ready(self, id_: int) -> list[str]:
        actor = self.actors[id_]
        ready = actor.node.ready()
        lines = describe_ready(ready)
        self.messages += ready.messages
        actor.unwritten.append(ready)
        if ready.committed_entries or ready.snapshot is not None:
            actor.unapplied.append(ready)
        if not actor.is_async:
            actor.write()
            if actor.unapplied:
                lines += actor.apply()[1]
            self.messages += ready.messages_after_append
            actor.node.advance(ready)
        return lines

    def _write(self, id_: int) -> list[str]:
        actor = self.actors[id_]
        if not actor.unwritten:
            return ["nothing to write"]
        ready = actor.write()
        self.messages += ready.messages_after_append
        actor.node.persisted(ready)
        return [f"durable {describe_entry(entry)}" for entry in ready.entries] + [
            f"promised {describe_message(message)}" for message in ready.messages_after_append
        ]

    def _apply(self, id_: int) -> list[str]:
        actor = self.actors[id_]
        if not actor.unapplied:
            return ["nothing to apply"]
        ready, lines = actor.apply()
        actor.node.applied(ready.last_applied_index())
        return [f"applied up to {ready.last_applied_index()}", *lines]

    def _step(self, message: Message) -> list[str]:
        try:
            self.actors[message.to].node.step(message)
        except RaftError as error:
            return [f"  {message.to} refuses: {type(error).__name__}: {error}"]
        return []

    def _deliver_quietly(self, to: list[int]) -> tuple[int, list[str]]:
        batch = [message for message in self.messages if message.to in to]
        self.messages = [message for message in self.messages if message.to not in to]
        return len(batch), [line for message in batch for line in self._step(message)]


def _ids(text: str) -> list[int]:
    return [int(word) for word in text.strip("()").split(",") if word]


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def tell(text: str) -> str:
    """Run a story; the same text with what came of it."""
    story = Story()
    told: list[str] = []
    for block in text.strip().split("\n\n"):
        head = block.split("\n----")[0].split("\n")
        commands = [line for line in head if not line.startswith("#")]
        if commands:
            outcome = story.run(commands[0], commands[1:])
            told.append("\n".join([*head, "----", outcome]))
        else:
            told.append("\n".join(head))
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("path", sorted(STORIES.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(path: Path):
    expected = path.read_text()
    told = tell(expected)
    if REGENERATE:
        path.write_text(told)
    else:
        assert told == expected


def test_there_are_stories():
    assert len(list(STORIES.glob("*.txt"))) >= 10


def test_a_story_that_goes_otherwise_is_noticed():
    text = "nodes 1 voters=(1) index=2\n----\nok\n\nstates\n----\n1: leader\n"
    assert "1: follower" in tell(text)
