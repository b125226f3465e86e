"""Whether a registry takes a login: the distribution API's /v2/, by basic authentication, or with a
token from whom the registry names."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
    parse_http_list,
    parse_keqv_list,
)

from swarm.cli.errors import CliError
from swarm.cli.registry_logins import Login
from swarm.worker.images.reference import DOCKER_HUB

_TIMEOUT_S = 15.0
_ANSWER_MAX_BYTES = 1 << 20
_DOCKER_CERTS = Path("/etc/docker/certs.d")


class _Answer(NamedTuple):
    status: int
    challenge: str
    body: bytes


class _NoRedirect(HTTPRedirectHandler):
    """A login is for whom it is sent to, nobody else."""

    def redirect_request(
        self,
        req: Request,  # noqa: ARG002 - urllib's signature
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: http.client.HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> Request | None:
        return None


def check(server: str, login: Login) -> None:
    """Raises CliError: for a login that is refused, and for a registry that can't be reached."""
    host = "registry-1.docker.io" if server == DOCKER_HUB else server
    reason = ""
    for root in _roots(host):
        opener = _opener(host)
        try:
            _log_in(opener, f"{root}/v2/", server, login)
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = _reason(error)
    raise CliError(
        f"registry {server} can't be reached ({reason}): see to its name and the network"
    )


def _log_in(opener: OpenerDirector, url: str, server: str, login: Login) -> None:
    pair = f"{login.username}:{login.password}"
    basic = f"Basic {base64.b64encode(pair.encode()).decode()}"
    answer = _get(opener, url)
    if answer.status == 401:
        kind, _, rest = answer.challenge.partition(" ")
        if kind.lower() == "bearer":
            answer = _token(opener, url, _parameters(rest), login.username, basic)
            if answer.status == 200:
                answer = _get(opener, url, f"Bearer {_token_in(answer.body, server)}")
        else:
            answer = _get(opener, url, basic)
    if answer.status in (401, 403):
        raise CliError(f"registry {server} refused the login: incorrect username or password")
    if answer.status != 200:
        raise CliError(
            f"{server} does not answer as a registry does (status {answer.status}): see to its name"
        )


def _token(
    opener: OpenerDirector, url: str, asked: dict[str, str], username: str, basic: str
) -> _Answer:
    realm = urlsplit(asked.get("realm", ""))
    if realm.scheme != "https" and not (
        realm.scheme == "http" and url.startswith("http:") and is_loopback(realm.netloc)
    ):
        raise CliError(
            f"the registry wants logins sent to {realm.netloc or 'nobody'} without TLS: refused"
        )
    query = {"account": username, "client_id": "swarmctl"}
    query |= {key: asked[key] for key in ("service", "scope") if key in asked}
    given = f"{realm.query}&" if realm.query else ""
    return _get(opener, realm._replace(query=given + urlencode(query)).geturl(), basic)


def _token_in(body: bytes, server: str) -> str:
    try:
        answer: dict[str, str] = json.loads(body)
        return answer.get("token") or answer["access_token"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CliError(f"registry {server} takes the login, but gives no token for it") from None


def _get(opener: OpenerDirector, url: str, authorization: str = "") -> _Answer:
    request = Request(url)  # noqa: S310 - http or https, see _roots and _token
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return _Answer(answer.status, "", answer.read(_ANSWER_MAX_BYTES))
    except HTTPError as error:
        with error:
            return _Answer(error.code, error.headers.get("WWW-Authenticate", ""), b"")


def _parameters(challenge: str) -> dict[str, str]:
    pairs = [pair for pair in parse_http_list(challenge) if "=" in pair]
    return {key.lower(): value for key, value in parse_keqv_list(pairs).items()}


def _roots(host: str) -> Iterator[str]:
    yield f"https://{host}"
    if is_loopback(host):
        # Docker, too, speaks to these without TLS.
        yield f"http://{host}"


def is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _opener(host: str) -> OpenerDirector:
    trust = ssl.create_default_context()
    for file in sorted((_DOCKER_CERTS / host).glob("*.crt")):
        trust.load_verify_locations(file)
    handlers = [_NoRedirect(), HTTPSHandler(context=trust)]
    return build_opener(*handlers, *([ProxyHandler({})] if is_loopback(host) else []))


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return " ".join(str(cause).split()) or type(cause).__name__
