"""Compose files from a disk to a project: interpolated, checked, extended, included, merged."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Variables
from dataclasses import replace

from swarm.compose import dotenv, schema, yaml_text
from swarm.compose.errors import ComposeError, Place
from swarm.compose.forms import canonical, pairs
from swarm.compose.interpolation import Interpolator
from swarm.compose.merging import merge, merge_services, settled
from swarm.compose.project import Note, Project
from swarm.compose.references import check_references
from swarm.compose.tree import Listing, Mapping, Node, Scalar, as_listing, as_mapping, as_text

DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_FILES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_DEPTH_MAX = 30
# Files that include two each are without number a few levels down.
_READS_MAX = 500
_EXTENDS_MAX = 100
_SECTIONS = ("services", "volumes", "networks", "secrets", "configs")


class Loader:
    """`read` gives a file's bytes, or raises OSError; `folder` is where relative paths start that
    are given on a command line, `home` what ~ is, `environment` the caller's own variables."""

    def __init__(
        self,
        read: Callable[[str], bytes],
        environment: Variables[str, str],
        folder: str,
        home: str,
    ) -> None:
        self._read = read
        self._reads = 0
        self._environment = environment
        self._folder = folder
        self._home = home
        self._notes: list[Note] = []
        self._unset: dict[str, Place] = {}

    def load(
        self,
        files: Sequence[str],
        *,
        env_files: Sequence[str] = (),
        project_folder: str = "",
        profiles: Iterable[str] = (),
    ) -> Project:
        """The files merged in this order; "-" is standard input. Raises ComposeError.

        Without `env_files` it is `.env` beside the first file, if there is one.
        """
        paths = [name if name == "-" else posixpath.join(self._folder, name) for name in files]
        folder = posixpath.join(self._folder, project_folder or posixpath.dirname(files[0]))
        folder = posixpath.normpath(folder)
        variables = self._variables(folder, env_files)
        tree = self._merged(paths, folder, variables, ())
        tree = settled(tree)
        assert isinstance(tree, Mapping), "a file is a mapping"
        return self._project(tree, folder, variables, profiles)

    # Files

    def _variables(self, folder: str, env_files: Sequence[str]) -> dict[str, str]:
        """The caller's own win over those of files."""
        found: dict[str, str] = {}
        names = [posixpath.join(self._folder, name) for name in env_files]
        for path in names or [posixpath.join(folder, ".env")]:
            try:
                content = self._read_bytes(path)
            except FileNotFoundError:
                if env_files:
                    raise ComposeError(
                        Place(self._shown(path)), "there is no such file of variables"
                    ) from None
                continue
            except OSError as error:
                raise self._unreadable(path, error) from None
            parsed = dotenv.parse(
                self._decoded(path, content), self._shown(path), self._environment
            )
            found |= {name: value for name, value in parsed.items() if value is not None}
        return found | dict(self._environment)

    def _merged(
        self,
        paths: Sequence[str],
        folder: str,
        variables: Variables[str, str],
        including: tuple[str, ...],
    ) -> Mapping:
        merged: Mapping | None = None
        for path in paths:
            if path in including or len(including) > _DEPTH_MAX:
                chain = " includes ".join(self._shown(p) for p in (*including, path))
                raise ComposeError(Place(self._shown(path)), f"a cycle of include: {chain}")
            tree = self._file(path, folder, variables)
            tree = self._extended(tree, path, folder, variables)
            tree = self._with_included(tree, variables, (*including, path))
            merged = tree if merged is None else merge(merged, tree)
        assert merged is not None, "there is at least one file"
        return merged

    def _file(self, path: str, folder: str, variables: Variables[str, str]) -> Mapping:
        """One file: interpolated, checked, in canonical form; tags are kept."""
        shown = self._shown(path)
        tree = yaml_text.parse(self._text(path), shown)
        _refuse_version_1(tree)
        interpolator = Interpolator(variables)
        known = interpolator.tree(_with_version_as_text(tree))
        for name, place in interpolator.unset.items():
            if name not in self._unset:
                self._unset[name] = place
                text = f'The "{name}" variable is not set. Defaulting to a blank string.'
                self._notes.append(Note(place, text))
        assert isinstance(known, Mapping), "a file is a mapping"
        checked = settled(known)
        assert isinstance(checked, Mapping), "a file is a mapping"
        schema.check(checked)
        return canonical(known, folder, self._home)

    def _with_included(
        self, tree: Mapping, variables: Variables[str, str], including: tuple[str, ...]
    ) -> Mapping:
        result = tree.without("include")
        for item in as_listing(tree.get("include"), "include"):
            entry = as_mapping(item, "include")
            paths = [as_text(p, "include.path") for p in as_listing(entry.get("path"), "path")]
            if not paths:
                raise ComposeError(entry.place, "include needs a path")
            own = entry.get("project_directory")
            folder = as_text(own, "project_directory") if own else posixpath.dirname(paths[0])
            env_files = as_listing(entry.get("env_file"), "env_file")
            inner = self._inner_variables(folder, [as_text(e, "env_file") for e in env_files])
            included = self._merged(paths, folder, inner | dict(variables), including)
            result = _united(result, included)
        return result

    def _inner_variables(self, folder: str, env_files: list[str]) -> dict[str, str]:
        return self._variables(folder, env_files)

    # extends

    def _extended(
        self, tree: Mapping, path: str, folder: str, variables: Variables[str, str]
    ) -> Mapping:
        services = as_mapping(tree.get("services"), "services")
        entries = dict(services.entries)
        for name, service in services.entries.items():
            if isinstance(service, Mapping) and service.get("extends") is not None:
                entries[name] = self._resolved(tree, path, folder, name, variables, ())
        if "services" not in tree.entries:
            return tree
        return tree.having("services", replace(services, entries=entries))

    def _resolved(
        self,
        tree: Mapping,
        path: str,
        folder: str,
        name: str,
        variables: Variables[str, str],
        chain: tuple[tuple[str, str], ...],
    ) -> Mapping:
        services = as_mapping(tree.get("services"), "services")
        service = services.get(name)
        assert isinstance(service, Mapping), "its caller has seen it"
        extends = service.get("extends")
        if not isinstance(extends, Mapping):
            return service
        place = service.place_of("extends")
        if (path, name) in chain:
            names = " extends ".join(step[1] for step in (*chain, (path, name)))
            raise ComposeError(place, f"a cycle of extends: {names}")
        if len(chain) == _EXTENDS_MAX:
            raise ComposeError(place, f"more than {_EXTENDS_MAX} services extend one another")
        base_name = as_text(extends.entries["service"], "extends.service")
        file = extends.get("file")
        base_path, base_folder, base_tree = path, folder, tree
        if file is not None:
            base_path = as_text(file, "extends.file")
            base_folder = posixpath.dirname(base_path)
            if base_path != path:
                base_tree = self._file(base_path, base_folder, variables)
        base = as_mapping(base_tree.get("services"), "services").get(base_name)
        if not isinstance(base, Mapping):
            where = f" in {self._shown(base_path)}" if file is not None else ""
            raise ComposeError(
                place, f"service {name} extends {base_name}, and there is no such service{where}"
            )
        resolved = self._resolved(
            base_tree, base_path, base_folder, base_name, variables, (*chain, (path, name))
        )
        return merge_services(resolved, service.without("extends"))

    # The project

    def _project(
        self,
        tree: Mapping,
        folder: str,
        variables: Variables[str, str],
        profiles: Iterable[str],
    ) -> Project:
        wanted = {*profiles} or {p for p in variables.get("COMPOSE_PROFILES", "").split(",") if p}
        every = _named(tree, "services")
        services = {
            name: self._with_environment(service, variables)
            for name, service in every.items()
            if _is_wanted(service, wanted)
        }
        if not every:
            raise ComposeError(tree.place, "no service is named: services is empty")
        sections = {section: _named(tree, section) for section in _SECTIONS[1:]}
        name = tree.get("name")
        project = Project(
            name=name.text if isinstance(name, Scalar) else "",
            folder=folder,
            tree=tree.having("services", _rejoined(tree, services)),
            services=services,
            environment=variables,
            contents=self._contents(sections["secrets"], sections["configs"]),
            notes=tuple(self._notes),
            volumes=sections["volumes"],
            networks=sections["networks"],
            secrets=sections["secrets"],
            configs=sections["configs"],
        )
        return check_references(project, every)

    def _with_environment(self, service: Mapping, variables: Variables[str, str]) -> Mapping:
        """`env_file` and `label_file` read, names without a value looked up."""
        entries: dict[str, Node] = {}
        for item in as_listing(service.get("env_file"), "env_file"):
            entries |= self._env_file(as_mapping(item, "env_file"), variables)
        own = as_mapping(service.get("environment"), "environment")
        for name, value in own.entries.items():
            if isinstance(value, Scalar) and value.value is None:
                # Without a value here, it is the caller's own; without one there, none at all.
                if name in variables:
                    entries[name] = Scalar(variables[name], value.place)
                elif name in entries:
                    continue
            else:
                entries[name] = value
        result = service.without("env_file", "label_file", "profiles")
        if entries or "environment" in service.entries:
            result = result.having("environment", Mapping(entries, own.place, "", own.keys))
        return self._with_labels(service, result)

    def _env_file(self, item: Mapping, variables: Variables[str, str]) -> dict[str, Node]:
        path_node = item.entries["path"]
        path = as_text(path_node, "env_file.path")
        form = item.get("format")
        required = item.get("required")
        optional = isinstance(required, Scalar) and required.text.lower() == "false"
        try:
            content = self._read_bytes(path)
        except FileNotFoundError:
            if optional:
                return {}
            raise ComposeError(path_node.place, f"env file {self._shown(path)} not found") from None
        except OSError as error:
            raise self._unreadable(path, error) from None
        text = self._decoded(path, content)
        place = Place(self._shown(path))
        if isinstance(form, Scalar) and form.text == "raw":
            lines = [line for line in text.splitlines() if line.strip() and line[:1] != "#"]
            raw = pairs(Listing(tuple(Scalar(line, place) for line in lines), place))
            return raw.entries if isinstance(raw, Mapping) else {}
        found = dotenv.parse(text, self._shown(path), variables)
        values = {n: variables.get(n) if v is None else v for n, v in found.items()}
        return {n: Scalar(v, place) for n, v in values.items() if v is not None}

    def _with_labels(self, service: Mapping, result: Mapping) -> Mapping:
        entries: dict[str, Node] = {}
        for item in as_listing(service.get("label_file"), "label_file"):
            path = as_text(item, "label_file")
            found = dotenv.parse(self._text(path), self._shown(path), {})
            entries |= {n: Scalar(v or "", item.place) for n, v in found.items()}
        if not entries:
            return result
        own = as_mapping(service.get("labels"), "labels")
        return result.having("labels", replace(own, entries=entries | own.entries))

    def _contents(self, *sections: dict[str, Mapping]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for section in sections:
            for node in section.values():
                file = node.get("file")
                if file is None:
                    continue
                path = as_text(file, "file")
                try:
                    found[path] = self._read_bytes(path)
                except OSError as error:
                    reason = (error.strerror or str(error)).lower()
                    raise ComposeError(file.place, f"{self._shown(path)}: {reason}") from None
        return found

    # Reading

    def _read_bytes(self, path: str) -> bytes:
        """Raises OSError."""
        self._reads += 1
        if self._reads > _READS_MAX:
            raise ComposeError(
                Place(self._shown(path)), f"more than {_READS_MAX} files are read: include fewer"
            )
        return self._read(path)

    def _text(self, path: str) -> str:
        try:
            return self._decoded(path, self._read_bytes(path))
        except OSError as error:
            raise self._unreadable(path, error) from None

    def _decoded(self, path: str, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ComposeError(Place(self._shown(path), line), "this is not UTF-8") from None

    def _unreadable(self, path: str, error: OSError) -> ComposeError:
        reason = (error.strerror or str(error)).lower()
        return ComposeError(Place(self._shown(path)), reason)

    def _shown(self, path: str) -> str:
        """As short as it can be said from where the user is."""
        if path == "-":
            return "stdin"
        inside = self._folder.rstrip("/") + "/"
        return path.removeprefix(inside)


def _with_version_as_text(tree: Mapping) -> Mapping:
    """`version: 3` is meant as "3"."""
    version = tree.get("version")
    if isinstance(version, Scalar) and isinstance(version.value, int | float):
        return tree.having("version", replace(version, value=str(version.value)))
    return tree


def _refuse_version_1(tree: Mapping) -> None:
    services = [n for n in tree.entries.values() if isinstance(n, Mapping)]
    known = {*_SECTIONS, "include", "name", "version", "models", "jobs"}
    if known & tree.entries.keys() or len(services) < len(tree.entries) or not services:
        return
    if any("image" in s.entries or "build" in s.entries for s in services):
        raise ComposeError(
            tree.place, "this is a version 1 file: put what is in it under a key services"
        )


def _named(tree: Mapping, section: str) -> dict[str, Mapping]:
    nodes = as_mapping(tree.get(section), section)
    found: dict[str, Mapping] = {}
    for name, node in nodes.entries.items():
        whole = as_mapping(node, f"{section}.{name}")
        found[name] = replace(whole, place=nodes.place_of(name))
    return found


def _rejoined(tree: Mapping, services: dict[str, Mapping]) -> Mapping:
    known = as_mapping(tree.get("services"), "services")
    return replace(known, entries=dict(services))


def _is_wanted(service: Mapping, wanted: set[str]) -> bool:
    profiles = as_listing(service.get("profiles"), "profiles")
    names = {item.text for item in profiles if isinstance(item, Scalar)}
    return not names or bool(names & wanted) or "*" in wanted


def _united(tree: Mapping, included: Mapping) -> Mapping:
    """Both; what is in both must be the including file's own, which lies over the other."""
    result = tree
    for section in _SECTIONS:
        theirs = as_mapping(included.get(section), section)
        ours = as_mapping(tree.get(section), section)
        if not theirs.entries:
            continue
        for name in theirs.entries:
            if name in ours.entries and section == "services":
                raise ComposeError(
                    ours.place_of(name),
                    f"service {name} is in an included file too: {theirs.place_of(name)}",
                )
        both = replace(theirs, entries=theirs.entries | ours.entries, keys=theirs.keys | ours.keys)
        result = result.having(section, both)
    return result
