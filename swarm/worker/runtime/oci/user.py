"""`--user` and `--group` against the container's own /etc/passwd and /etc/group (pure)."""

from __future__ import annotations

from typing import NamedTuple

from swarm.worker.runtime.port import RuntimeRefused


class ContainerUser(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(user: str, groups: tuple[str, ...], passwd: str, group: str) -> ContainerUser:
    """`name|uid[:name|gid]` by Docker's rules; "" is root.

    Raises RuntimeRefused for a name that the image does not know.
    """
    name, _, group_name = user.partition(":")
    accounts = _rows(passwd, 7)
    wanted = name or "0"
    account = next((row for row in accounts if wanted in (row[0], row[2])), None)
    if account is None and not wanted.isdigit():
        raise RuntimeRefused(f'user "{name}" is not in the image', "user")
    uid = int(account[2]) if account else int(wanted)
    gid = int(account[3]) if account else 0
    home = account[5] if account else "/"
    member_of: list[int] = []
    if group_name:
        gid = _group_id(group_name, group, "user")
    elif account:
        rows = _rows(group, 4)
        member_of = [int(row[2]) for row in rows if account[0] in row[3].split(",")]
    member_of += [_group_id(extra, group, "groups") for extra in groups]
    extra_groups = tuple(dict.fromkeys(number for number in member_of if number != gid))
    return ContainerUser(uid, gid, extra_groups, home or "/")


def _group_id(name: str, group: str, field: str) -> int:
    for row in _rows(group, 4):
        if row[0] == name:
            return int(row[2])
    if name.isdigit():
        return int(name)
    raise RuntimeRefused(f'group "{name}" is not in the image', field)


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = [line.strip().split(":") for line in text.splitlines()]
    ids = (2, 3) if columns == 7 else (2,)
    return [
        row for row in rows if len(row) >= columns and all(row[index].isdigit() for index in ids)
    ]
