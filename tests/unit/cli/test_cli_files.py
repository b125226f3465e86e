"""`--secret` and `--config` of services, in Docker's syntax and words."""

import pytest

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.types_pb2 import Meta
from swarm.cli.fileflag import parse_config, parse_secret
from swarm.cli.pretty import config_text, secret_text
from swarm.dockerapi.file import (
    config_reference_from_json,
    config_reference_to_json,
    config_to_json,
    secret_reference_from_json,
    secret_reference_to_json,
    secret_to_json,
)


def test_short_form() -> None:
    secret = parse_secret("key")
    assert (secret.secret_name, secret.file.name, secret.file.mode) == ("key", "key", 0o444)
    assert (secret.file.uid, secret.file.gid) == (0, 0)
    assert parse_config("conf").config_name == "conf"


def test_long_form() -> None:
    secret = parse_secret("source=key,target=k,uid=5,gid=6,mode=0400")
    assert (secret.secret_name, secret.file.name, secret.file.mode) == ("key", "k", 0o400)
    assert (secret.file.uid, secret.file.gid) == (5, 6)
    config = parse_config("src=conf,target=/etc/c,mode=440")
    assert (config.config_name, config.file.name, config.file.mode) == ("conf", "/etc/c", 0o440)
    assert parse_secret("source=key").file.name == "key"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "source is required"),
        ("target=x", "source is required"),
        ("a,target=x", "invalid field 'a' must be a key=value pair"),
        ("source=a,color=red", "invalid field in secret request: color"),
        ("source=a,mode=9", "invalid mode specified: 9"),
        ("source=a,uid=root", "invalid uid specified: root is not a number"),
    ],
)
def test_bad_flags(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_secret(text)


def test_references_as_docker_writes_them() -> None:
    secret = parse_secret("source=key,target=k,uid=5,mode=0400")
    secret.secret_id = "id1"
    shown = secret_reference_to_json(secret)
    assert shown == {
        "File": {"Name": "k", "UID": "5", "GID": "0", "Mode": 256},
        "SecretID": "id1",
        "SecretName": "key",
    }
    assert secret_reference_from_json(shown) == secret
    config = parse_config("conf")
    assert config_reference_from_json(config_reference_to_json(config)) == config


def test_objects_as_docker_shows_them() -> None:
    meta = Meta(version=7, created_at_ns=10**18, updated_at_ns=10**18)
    secret = Secret(id="id1", meta=meta)
    secret.spec.annotations.name = "key"
    secret.spec.annotations.labels["a"] = "b"
    secret.spec.data, secret.spec.template_driver = b"hidden", "golang"
    shown = secret_to_json(secret)
    assert shown == {
        "ID": "id1",
        "Version": {"Index": 7},
        "CreatedAt": "2001-09-09T01:46:40Z",
        "UpdatedAt": "2001-09-09T01:46:40Z",
        "Spec": {"Name": "key", "Labels": {"a": "b"}, "Templating": {"Name": "golang"}},
    }
    assert secret_text(shown).splitlines() == [
        "ID:              id1",
        "Name:              key",
        "Labels:",
        " - a=b",
        "Driver:            ",
        "Created at:        2001-09-09 01:46:40 +0000 utc",
        "Updated at:        2001-09-09 01:46:40 +0000 utc",
    ]
    config = Config(id="id2", meta=meta)
    config.spec.annotations.name, config.spec.data = "conf", b"text"
    shown = config_to_json(config)
    assert shown["Spec"] == {"Name": "conf", "Labels": {}, "Data": "dGV4dA=="}
    assert config_text(shown).splitlines()[-2:] == ["Data:", "text"]
