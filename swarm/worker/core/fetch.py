"""An image from peers: which piece is asked of whom, until all of it is here.

Everybody who takes an image gives on what they have of it. What only nodes have that have all of it
is asked of them by one taker, which a hash of both gives, and the others take it from there: so a
node that was the first is asked for each piece about once, however many take it. Otherwise pieces
that few have come first, from those that have least. A taker that has nothing else to do for a
moment asks for others' pieces too: whoever should have may be slow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

PIECE_BYTES = 1 << 20
# Among so many of a peer's pieces the rarest is looked for: a glance is enough.
GLANCE = 64


class Rng(Protocol):
    """What is used of random.Random."""

    def random(self) -> float: ...

    def shuffle(self, x: list[Any], /) -> None: ...


@dataclass(frozen=True, slots=True)
class WantedBlob:
    digest: str
    size_bytes: int

    @property
    def pieces(self) -> int:
        return max(1, math.ceil(self.size_bytes / PIECE_BYTES))


@dataclass(frozen=True, slots=True)
class Piece:
    blob: str
    number: int


# Events


@dataclass(frozen=True, slots=True)
class Begin:
    """`here`: pieces that an earlier attempt left, known to be good."""

    here: Mapping[str, Iterable[int]] = field(default_factory=dict[str, Iterable[int]])


@dataclass(frozen=True, slots=True)
class PeersFound:
    """Node ids of those that have it, or take it."""

    peers: Sequence[str]


@dataclass(frozen=True, slots=True)
class PeersUnknown:
    """No manager could say."""

    reason: str


@dataclass(frozen=True, slots=True)
class PeerHas:
    peer: str
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class PeerLost:
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """Checked, and on the disk."""

    peer: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Wrong:
    """What the peer sent is not what it should be."""

    peer: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Failed:
    peer: str
    piece: Piece
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """It is time: see `next_wakeup`."""


Event = Begin | PeersFound | PeersUnknown | PeerHas | PeerLost | Arrived | Wrong | Failed | Tick

# Effects


@dataclass(frozen=True, slots=True)
class FindPeers:
    """PeersFound or PeersUnknown."""


@dataclass(frozen=True, slots=True)
class WatchPeer:
    """PeerHas now and whenever there is more; PeerLost at the end."""

    peer: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Arrived, Wrong or Failed."""

    peer: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Done:
    """Every piece is here."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


Effect = FindPeers | WatchPeer | Ask | Done | GiveUp


@dataclass(frozen=True, slots=True)
class FetchTimes:
    """Seconds, but for the first two."""

    asked_of_peer_max: int = 2
    asked_max: int = 8
    # Between two questions for peers: the first two; twice as long each time while it goes on, as
    # a thousand nodes may take the image, and all ask the same few managers.
    find_s: float = 1.0
    find_max_s: float = 8.0
    peer_again_s: float = 1.0  # after a peer was lost
    idle_s: float = 0.5  # before others' pieces are asked for
    patience_s: float = 60.0  # without a single piece


@dataclass(slots=True)
class _Peer:
    watched: bool = False
    banned: bool = False
    again_at: float = float("-inf")
    asked: int = 0
    # What it has in all, and in random order what of it is missing here.
    has: int = 0
    offers: dict[Piece, None] = field(default_factory=dict[Piece, None])
    # Nothing of it is this node's to take first: no need to look again.
    nothing_mine: bool = False


class Fetch:
    """`handle(event, now) -> [effect]`; after Done or GiveUp nothing follows.

    `me` is this node's id.
    """

    def __init__(
        self, me: str, blobs: Sequence[WantedBlob], rng: Rng, times: FetchTimes | None = None
    ) -> None:
        self.blobs = blobs
        self._me = me
        self._rng = rng
        self._times = times or FetchTimes()
        pieces = [Piece(blob.digest, number) for blob in blobs for number in range(blob.pieces)]
        self._missing = dict.fromkeys(pieces)
        self._total = len(self._missing)
        self._holders: dict[Piece, int] = {}
        self._owners: dict[Piece, str] = {}
        self._owners_among: tuple[str, ...] = ()
        # When nothing will have been asked for so long that others' pieces are; -inf: it is so.
        self._idle_at = float("inf")
        self._peers: dict[str, _Peer] = {}
        self._asked: dict[Piece, str] = {}
        self._finding = False
        self._find_at = float("-inf")
        self._find_pause_s = self._times.find_s
        self._give_up_at = float("inf")
        self._trouble = "no node that is up has it"
        self._over = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        if self._over:
            return []
        match event:
            case Begin(here):
                self._give_up_at = now + self._times.patience_s
                for blob, numbers in here.items():
                    for number in numbers:
                        self._is_here(Piece(blob, number))
            case PeersFound(peers):
                self._finding = False
                for peer in peers:
                    self._peers.setdefault(peer, _Peer())
            case PeersUnknown(reason):
                self._finding = False
                self._trouble = reason
            case PeerHas(peer, pieces):
                self._peer_has(self._peers.setdefault(peer, _Peer()), pieces)
            case PeerLost(peer, reason):
                self._trouble = reason
                self._lost(peer, now)
            case Arrived(peer, piece):
                self._answered(peer, piece)
                self._is_here(piece)
                self._give_up_at = now + self._times.patience_s
            case Wrong(peer, piece):
                self._answered(peer, piece)
                self._trouble = f"node {peer} sent what is not part of it"
                self._peers[peer].banned = True
                self._forget_pieces(self._peers[peer])
            case Failed(peer, piece, reason):
                self._answered(peer, piece)
                self._trouble = reason
                # It said that it has it: it may be overloaded, or about to go.
                self._peers[peer].again_at = now + self._times.peer_again_s
            case Tick():
                pass
        return self._decide(now)

    def next_wakeup(self) -> float | None:
        """When a Tick is due."""
        if self._over:
            return None
        times = [self._give_up_at]
        if self._idle_at > float("-inf"):
            times.append(self._idle_at)
        if not self._finding:
            times.append(self._find_at)
        times += [
            peer.again_at
            for peer in self._peers.values()
            if not peer.banned and peer.again_at > float("-inf")
        ]
        return min(times)

    # What was heard

    def _is_here(self, piece: Piece) -> None:
        if piece in self._missing:
            del self._missing[piece]
            for peer in self._peers.values():
                peer.offers.pop(piece, None)

    def _peer_has(self, peer: _Peer, pieces: Iterable[Piece]) -> None:
        if peer.banned:
            return
        fresh = list(pieces)
        peer.has += len(fresh)
        offers = [piece for piece in fresh if piece in self._missing]
        self._rng.shuffle(offers)
        for piece in offers:
            peer.offers[piece] = None
            self._holders[piece] = self._holders.get(piece, 0) + 1
        peer.nothing_mine = False

    def _lost(self, name: str, now: float) -> None:
        peer = self._peers[name]
        peer.watched = False
        peer.again_at = now + self._times.peer_again_s
        # There may be another in its stead.
        self._find_pause_s = self._times.find_s
        self._find_at = min(self._find_at, now + self._times.find_s)
        self._forget_pieces(peer)

    def _forget_pieces(self, peer: _Peer) -> None:
        for piece in peer.offers:
            self._holders[piece] -= 1
        peer.offers.clear()
        peer.has = 0

    def _answered(self, name: str, piece: Piece) -> None:
        self._peers[name].asked -= 1
        if self._asked.get(piece) == name:
            del self._asked[piece]
        for peer in self._peers.values():
            peer.nothing_mine = False

    # What is to be done

    def _decide(self, now: float) -> list[Effect]:
        if not self._missing:
            self._over = True
            return [Done()]
        if now >= self._give_up_at:
            self._over = True
            return [GiveUp(self._trouble)]
        effects: list[Effect] = []
        if not self._finding and now >= self._find_at:
            self._finding = True
            busy = any(peer.has for peer in self._peers.values())
            pause_s = self._find_pause_s if busy else self._times.find_s
            self._find_at = now + pause_s
            self._find_pause_s = min(2 * pause_s, self._times.find_max_s)
            effects.append(FindPeers())
        for name, peer in self._peers.items():
            if now >= peer.again_at and not peer.banned:
                peer.again_at = float("-inf")
                if not peer.watched:
                    peer.watched = True
                    effects.append(WatchPeer(name))
        return effects + self._asks(now)

    def _asks(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if len(self._asked) < self._times.asked_max:
            self._share()
        while len(self._asked) < self._times.asked_max:
            asked = self._ask_one(self._is_idle(now))
            if asked is None:
                break
            effects.append(asked)
        if self._asked:
            self._idle_at = float("inf")
        elif self._idle_at == float("inf"):
            self._idle_at = now + self._times.idle_s
        return effects

    def _is_idle(self, now: float) -> bool:
        """Nothing was asked for a while; from then on, until something is."""
        if now >= self._idle_at:
            self._idle_at = float("-inf")
        return self._idle_at == float("-inf")

    def _share(self) -> None:
        """Who takes which piece first: of this node and those that are on it as well."""
        takers = [
            name
            for name, peer in self._peers.items()
            if peer.watched and not peer.banned and peer.has < self._total
        ]
        among = tuple(sorted([self._me, *takers]))
        if among != self._owners_among:
            self._owners_among = among
            self._owners.clear()
            for peer in self._peers.values():
                peer.nothing_mine = False

    def _is_mine(self, piece: Piece) -> bool:
        owner = self._owners.get(piece)
        if owner is None:
            owner = max(self._owners_among, key=lambda name: _weight(piece, name))
            self._owners[piece] = owner
        return owner == self._me

    def _ask_one(self, idle: bool) -> Ask | None:
        """Of those that are least busy with us, and have least: they have nothing else to give."""
        able = [
            (peer.asked, peer.has, self._rng.random(), name)
            for name, peer in self._peers.items()
            if peer.offers
            and (idle or not peer.nothing_mine)
            and not peer.banned
            and peer.again_at == float("-inf")
            and peer.asked < self._times.asked_of_peer_max
        ]
        for *_, name in sorted(able):
            piece = self._rarest_of(self._peers[name], idle)
            if piece is not None:
                self._asked[piece] = name
                self._peers[name].asked += 1
                return Ask(name, piece)
        return None

    def _rarest_of(self, peer: _Peer, idle: bool) -> Piece | None:
        only_mine = peer.has == self._total and not idle
        best: Piece | None = None
        seen = 0
        for piece in peer.offers:
            if piece in self._asked or (only_mine and not self._is_mine(piece)):
                continue
            if best is None or self._holders[piece] < self._holders[best]:
                best = piece
            seen += 1
            if seen >= GLANCE:
                break
        peer.nothing_mine = only_mine and best is None
        return best


def _weight(piece: Piece, name: str) -> bytes:
    return hashlib.sha256(f"{piece.blob} {piece.number} {name}".encode()).digest()
