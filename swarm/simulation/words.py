"""Events, effects and messages in words: short, and the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from swarm.api.v1 import raft_pb2 as raft
from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.managers_pb2 import RelayBatch
from swarm.api.v1.store_pb2 import LogPayload, Transaction, Verdict, VerdictCode
from swarm.api.v1.task_pb2 import Task, TaskState, TaskStatus
from swarm.manager.core import effects as fx
from swarm.manager.core import events as ev
from swarm.worker.core import effects as do
from swarm.worker.core import events as happened


def describe(thing: object) -> str:
    """Anything that is noted in a trace."""
    if isinstance(thing, str):
        return thing
    words = _WORDS.get(type(thing))
    if words is not None:
        return words(thing)
    if isinstance(thing, float):
        return f"{thing:.4f}"
    if isinstance(thing, int | bool) or thing is None:
        return str(thing)
    return type(thing).__name__


def short(identifier: str) -> str:
    """Enough of an id to tell it from others."""
    return identifier[-5:]


def state(value: int) -> str:
    return TaskState.Name(value)[len("TASK_STATE_") :]  # type: ignore[arg-type]


def _message(m: raft.Message) -> str:
    text = f"{raft.MessageType.Name(m.type)[4:]} {m.from_}>{m.to} t{m.term}"
    if m.type in (raft.MSG_APP, raft.MSG_APP_RESP, raft.MSG_VOTE, raft.MSG_PRE_VOTE):
        text += f" i{m.index}"
    if m.type == raft.MSG_APP:
        text += f" l{m.log_term} c{m.commit}"
    if m.entries:
        text += f" +{m.entries[0].index}..{m.entries[-1].index}"
    if m.type == raft.MSG_SNAP:
        text += f" snapshot {m.snapshot.index}"
    return text + (f" reject hint {m.reject_hint}" if m.reject else "")


def _messages(messages: Sequence[raft.Message]) -> str:
    return ", ".join(map(_message, messages))


def _persist(persist: fx.Persist) -> str:
    parts = [f"persist {persist.number}"]
    if persist.snapshot is not None:
        parts.append(f"snapshot {persist.snapshot.index}")
    if persist.entries:
        first, last = persist.entries[0], persist.entries[-1]
        parts.append(f"entries {first.index}..{last.index} t{last.term}")
    if persist.hard_state is not None:
        hard = persist.hard_state
        parts.append(f"term {hard.term} vote {hard.vote} commit {hard.commit}")
    return " ".join(parts)


def _transaction(transaction: Transaction) -> str:
    kinds: list[str] = []
    for change in transaction.changes:
        operation = change.WhichOneof("operation")
        if operation in ("create", "replace"):
            wrapped = getattr(change, operation)
            kind = wrapped.WhichOneof("kind")
            inner = getattr(wrapped, kind)
            if isinstance(inner, Task):
                kinds.append(f"{operation} {_task(inner)}")
            else:
                kinds.append(f"{operation} {kind} {short(inner.id)}")
        elif operation == "delete":
            kinds.append(f"delete {change.delete.table}/{short(change.delete.id)}")
        elif operation == "task_status":
            status = change.task_status
            kinds.append(f"status {short(status.task_id)} {state(status.status.state)}")
    request = f" [{transaction.request_id}]" if transaction.request_id else ""
    return f"{transaction.who}{request}: {'; '.join(kinds)}"


def _task(task: Task) -> str:
    return (
        f"task {short(task.id)} {short(task.service_id)}.{task.slot} r{task.revision} "
        f"{task.node_id} {state(task.desired_state)}<-{state(task.status.state)}"
    )


def _payload(payload: LogPayload) -> str:
    return " | ".join(map(_transaction, payload.transactions))


def _entry(entry: raft.Entry) -> str:
    if entry.type == raft.ENTRY_CONF_CHANGE:
        change = raft.ConfChange.FromString(entry.data)
        parts = [f"{raft.ConfChangeType.Name(c.type)[12:]} {c.node_id}" for c in change.changes]
        return f"entry {entry.index} t{entry.term} conf {', '.join(parts) or 'leave joint'}"
    if not entry.data:
        return f"entry {entry.index} t{entry.term} empty"
    return f"entry {entry.index} t{entry.term} {_payload(LogPayload.FromString(entry.data))}"


def _verdict(verdict: Verdict) -> str:
    name = VerdictCode.Name(verdict.code)[8:]
    return f"{name} at {verdict.revision} {verdict.message}".rstrip()


def _agent_message(message: AgentMessage) -> str:
    kind = message.WhichOneof("kind")
    if kind == "statuses":
        updates = message.statuses.updates
        return "statuses " + ", ".join(
            f"{short(u.task_id)} {state(u.status.state)}" for u in updates
        )
    if kind == "hello":
        return f"hello at {message.hello.revision}"
    return str(kind)


def _manager_message(message: ManagerMessage) -> str:
    kind = message.WhichOneof("kind")
    if kind == "assignments":
        a = message.assignments
        parts = ["all" if a.complete else "changes", f"at {a.revision}"]
        parts += [_task(task) for task in a.tasks]
        parts += [f"-{short(task_id)}" for task_id in a.removed_task_ids]
        return "assignments " + ", ".join(parts)
    if kind == "acknowledged":
        return "ack " + " ".join(short(u.task_id) for u in message.acknowledged.updates)
    return str(kind)


def _relay(batch: RelayBatch) -> str:
    parts = [f"heard {heard.node_id}" for heard in batch.nodes]
    parts += [f"{short(u.task_id)} {state(u.status.state)}" for u in batch.statuses]
    return "relay " + ", ".join(parts)


def _agent_effect(effect: Any) -> str:
    name = type(effect).__name__
    task_id = getattr(effect, "task_id", "")
    if isinstance(effect, do.Prepare):
        task_id = effect.run.task_id
    return f"{name} {short(task_id)}".rstrip()


_WORDS: dict[type[Any], Callable[[Any], str]] = {
    raft.Message: _message,
    raft.Entry: _entry,
    Transaction: _transaction,
    LogPayload: _payload,
    Verdict: _verdict,
    Task: _task,
    TaskStatus: lambda status: state(status.state),
    AgentMessage: _agent_message,
    ManagerMessage: _manager_message,
    RelayBatch: _relay,
    ev.Tick: lambda _: "tick",
    ev.Resume: lambda _: "resume",
    ev.Received: lambda e: "received " + _messages(e.messages),
    ev.Persisted: lambda e: f"persisted {e.number}",
    ev.SnapshotSaved: lambda e: f"snapshot saved {e.index}",
    ev.SnapshotReceived: lambda e: "snapshot received " + _message(e.message),
    ev.SnapshotSent: lambda e: f"snapshot sent to {e.raft_id} {'ok' if e.ok else 'failed'}",
    ev.PeerUnreachable: lambda e: f"unreachable {e.raft_id}",
    ev.Propose: lambda e: f"propose #{e.token} {_transaction(e.transaction)}",
    ev.Read: lambda e: f"read #{e.token}",
    ev.JoinRaft: lambda e: f"join raft #{e.token} {e.node_id} as {e.raft_id}",
    ev.SessionOpened: lambda e: f"session {e.session_id} opened by {e.node_id}",
    ev.SessionMessage: lambda e: f"session {e.session_id}: {_agent_message(e.message)}",
    ev.SessionClosed: lambda e: f"session {e.session_id} closed",
    ev.Relayed: lambda e: "relayed " + _relay(e.batch),
    fx.Persist: _persist,
    fx.Send: lambda e: "send " + _messages(e.messages),
    fx.SendSnapshot: lambda e: "send snapshot " + _message(e.message),
    fx.SaveSnapshot: lambda e: f"save snapshot {e.index}",
    fx.CompactLog: lambda e: f"compact to {e.index}",
    fx.Answer: lambda e: (
        f"answer #{e.token} "
        + (_verdict(e.verdict) if e.verdict is not None else e.refused or "unknown")
    ),
    fx.ReadReady: lambda e: f"read ready #{e.token}",
    fx.JoinAnswer: lambda e: f"join answer #{e.token} {e.raft_id} {e.refused}".rstrip(),
    fx.SessionSend: lambda e: f"to session {e.session_id}: {_manager_message(e.message)}",
    fx.SessionClose: lambda e: f"close session {e.session_id}: {e.reason}",
    fx.Relay: lambda e: f"to {e.raft_id} {_relay(e.batch)}",
    fx.Changed: lambda e: "replaced" if e.replaced else f"changed {len(e.changes)} rows",
    fx.MembersChanged: lambda e: (
        "members "
        + " ".join(
            f"{m.raft_id}{'-' if m.removed else '?' if m.learner else ''}" for m in e.members
        )
    ),
    fx.RoleChanged: lambda e: f"term {e.term} leader {e.leader}{' (me)' if e.leading else ''}",
    fx.Notice: lambda e: f"notice: {e.text}",
    fx.Again: lambda _: "again",
    fx.Stop: lambda e: f"stop: {e.reason}",
    do.Save: lambda e: f"save {e.ticket} " + " ".join(f"{r.kind}/{short(r.key)}" for r in e.puts),
    do.Connect: lambda e: f"connect {e.session} to {e.address}",
    do.Send: lambda e: f"send on {e.session} {_agent_message(e.message)}",
    do.Disconnect: lambda e: f"disconnect {e.session}",
    do.SessionUp: lambda e: f"session up with {e.address}",
    do.SessionDown: lambda e: f"session down: {e.reason}",
    do.RoleChanged: lambda e: f"role {e.role}",
    do.Warn: lambda e: f"warn: {e.message}",
    happened.Received: lambda e: f"received on {e.session}: {_manager_message(e.message)}",
    happened.SessionClosed: lambda e: f"session {e.session} closed: {e.reason}",
    happened.Saved: lambda e: f"saved {e.ticket}",
    happened.Wake: lambda _: "wake",
}
for _kind in (
    do.Prepare, do.CancelPrepare, do.Start, do.Wait, do.WatchHealth, do.Stop, do.Remove,
    do.OpenPorts, do.ClosePorts, happened.Prepared, happened.PrepareFailed, happened.TaskStarted,
    happened.StartFailed, happened.Exited, happened.WaitFailed, happened.HealthReported,
    happened.HealthFailed, happened.Stopped, happened.StopFailed, happened.Removed,
    happened.RemoveFailed, happened.PortsOpened, happened.PortsFailed, happened.PortsDrained,
):  # fmt: skip
    _WORDS[_kind] = _agent_effect
