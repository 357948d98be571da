"""The model registry and the routing policy, read from TOML files.

A directory holds any number of registry files (``*.toml``) and, one of them at least, a ``policy.toml``. Nothing is
loaded by halves: a document with one mistake is refused, and the error lists every mistake that was found.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from shared.domain.models import Registry
from shared.domain.policy import Policy
from shared.stores.embedding_schema import EmbeddingModelTable, embedding_model_problems, kind_problems
from shared.stores.ranking_schema import RankingModelTable, ranking_model_problems, ranking_problems
from shared.stores.registry_checks import deployment_problems, model_problems, naming_problems, policy_problems
from shared.stores.registry_schema import DeploymentTable, ModelTable, PolicyDocument
from shared.stores.retrieval_schema import retrieval_problems
from shared.stores.rules_checks import policy_rule_problems, rule_problems
from shared.stores.rules_schema import MAX_RULES, RuleTable

POLICY_FILE = "policy.toml"
_ENTRY_SCHEMAS: Mapping[str, type[BaseModel]] = {
    "model": ModelTable,
    "embedding_model": EmbeddingModelTable,
    "ranking_model": RankingModelTable,
    "deployment": DeploymentTable,
}

_AnyModelTable = ModelTable | EmbeddingModelTable | RankingModelTable

Document = Mapping[str, object]
"""One parsed file: TOML, or the same shape as JSON."""


class RegistryError(ValueError):
    """The registry or the policy is not fit for use.

    Attributes:
        problems: every mistake found, each as ``file: table.key: what is wrong``.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_registry(*directories: Path) -> Registry:
    """Read every registry file of some directories, as one registry.

    Raises:
        RegistryError: a file cannot be read, or anything in it is wrong.
    """
    problems: list[str] = []
    documents = {}
    for path in (path for directory in directories for path in sorted(directory.glob("*.toml"))):
        if path.name != POLICY_FILE and (document := _read(path, problems)) is not None:
            # A file name that comes twice is told apart by its directory.
            name = path.name if path.name not in documents else f"{path.parent.name}/{path.name}"
            documents[name] = document
    if problems:
        problems.extend(_Collected.from_documents(documents).problems)
        raise RegistryError(tuple(problems))
    return parse_registry(documents, name=" and ".join(directory.name for directory in directories))


def load_policy(*directories: Path, registry: Registry) -> Policy:
    """Read the ``policy.toml`` of the last directory that has one and hold it against the registry.

    Raises:
        RegistryError: the file cannot be read, or anything in it is wrong.
    """
    problems: list[str] = []
    paths = [directory / POLICY_FILE for directory in directories]
    document = _read(next((path for path in reversed(paths) if path.exists()), paths[0]), problems)
    if document is None:
        raise RegistryError(tuple(problems))
    return parse_policy(document, registry)


def parse_registry(documents: Mapping[str, Document], *, name: str = "registry") -> Registry:
    """The registry that parsed files describe together.

    Args:
        documents: parsed content by file name; models and deployments keep the order of names and entries.
        name: what the whole is called where no single file is at fault.

    Raises:
        RegistryError: anything is wrong.
    """
    collected = _Collected.from_documents(documents)
    problems = collected.problems
    problems += collected.cross_problems(name)
    if problems:
        raise RegistryError(tuple(problems))
    document = _canonical(collected.content())
    whole = Registry(_fingerprint(document), {}, (), document=document)
    return replace(
        collected.part(whole, collected.models),
        embeddings=collected.part(whole, collected.embedding_models),
        rankings=collected.part(whole, collected.ranking_models),
    )


def parse_policy(document: Document, registry: Registry, *, name: str = POLICY_FILE) -> Policy:
    """The policy that a parsed file (or a JSON body of the same shape) describes.

    Raises:
        RegistryError: anything is wrong, also against the registry.
    """
    problems: list[str] = []
    parts = (part for part in (registry, registry.embeddings, registry.rankings) if part is not None)
    canonical = {name: model for part in parts for name, model in part.names().items()}
    sound = _without_bad_rules(document, registry, canonical, name, problems)
    parsed = _validated(PolicyDocument, sound, f"{name}: ", problems)
    if isinstance(parsed, PolicyDocument):
        content = _canonical(document)
        policy = replace(parsed.to_domain(_fingerprint(content), canonical), document=content)
        zones = frozenset(zone for deployment in registry.deployments for zone in deployment.residency)
        problems.extend(f"{name}: {problem}" for problem in policy_problems(parsed, canonical, zones))
        problems.extend(f"{name}: {problem}" for problem in policy_rule_problems(policy, registry))
        problems.extend(f"{name}: {problem}" for problem in retrieval_problems(policy.retrieval, registry))
        if not problems:
            return policy
    raise RegistryError(tuple(problems))


def _without_bad_rules(
    document: Document, registry: Registry, canonical: Mapping[str, str], name: str, problems: list[str]
) -> Document:
    """The document without the rules that are wrong by themselves: the others are still held against each other."""
    entries = document.get("rules")
    if not isinstance(entries, list) or len(entries) > MAX_RULES:
        return document
    sound = []
    for index, entry in enumerate(entries):
        named = entry.get("name") if isinstance(entry, Mapping) else None
        where = f"{name}: rules[{named if isinstance(named, str) else index}]."
        parsed = _validated(RuleTable, entry, where, problems)
        if isinstance(parsed, RuleTable):
            found = [where + problem for problem in rule_problems(parsed, canonical, registry)]
            problems.extend(found)
            if not found:
                sound.append(entry)
    return {**document, "rules": sound}


def parse_kept(registry_document: str, policy_document: str) -> tuple[Registry, Policy]:
    """The registry and the policy of kept documents (`Registry.document`, `Policy.document`), at the same versions.

    Raises:
        ValueError: not JSON, or (`RegistryError`) not what this version of the router takes.
    """
    registry = parse_registry({"registry.json": _table(registry_document)})
    return registry, parse_policy(_table(policy_document), registry, name="policy.json")


def _table(document: str) -> Document:
    content = json.loads(document)
    if not isinstance(content, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one exception for all bad documents
    return content


@dataclass(slots=True)
class _Collected:
    """What could be read of all files, and what could not."""

    models: list[ModelTable] = field(default_factory=list)
    embedding_models: list[EmbeddingModelTable] = field(default_factory=list)
    ranking_models: list[RankingModelTable] = field(default_factory=list)
    deployments: list[DeploymentTable] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """File by entry, keyed ``deployment/<id>``, for messages."""
    raw: dict[str, list[object]] = field(default_factory=lambda: {kind: [] for kind in _ENTRY_SCHEMAS})
    named: set[str] = field(default_factory=set)
    """Ids of all models, also of those with mistakes, so that one mistake is not reported twice."""
    problems: list[str] = field(default_factory=list)

    @classmethod
    def from_documents(cls, documents: Mapping[str, Document]) -> "_Collected":
        collected = cls()
        for file, document in documents.items():
            collected._add_file(file, document)
        return collected

    def _add_file(self, file: str, document: Document) -> None:
        for key in document.keys() - _ENTRY_SCHEMAS.keys():
            self.problems.append(f"{file}: {key}: unknown key")
        for kind in _ENTRY_SCHEMAS:
            entries = document.get(kind, [])
            if not isinstance(entries, list):
                self.problems.append(f"{file}: {kind}: must be an array of tables, [[{kind}]]")
                continue
            for index, entry in enumerate(entries):
                self._add_entry(file, kind, index, entry)

    def _add_entry(self, file: str, kind: str, index: int, entry: object) -> None:
        identity = entry.get("id") if isinstance(entry, Mapping) else None
        where = f"{file}: {kind}[{identity if isinstance(identity, str) else index}]."
        if kind != "deployment" and isinstance(identity, str):
            self.named.add(identity)
        self.raw[kind].append(entry)
        parsed = _validated(_ENTRY_SCHEMAS[kind], entry, where, self.problems)
        found: Iterator[str] = iter(())
        if isinstance(parsed, ModelTable):
            self.models.append(parsed)
            found = model_problems(parsed)
        elif isinstance(parsed, EmbeddingModelTable):
            self.embedding_models.append(parsed)
            found = embedding_model_problems(parsed)
        elif isinstance(parsed, RankingModelTable):
            self.ranking_models.append(parsed)
            found = ranking_model_problems(parsed)
        elif isinstance(parsed, DeploymentTable):
            self.deployments.append(parsed)
            self.files.setdefault(parsed.id, file)
            found = deployment_problems(parsed)
        self.problems.extend(where + problem for problem in found)

    def cross_problems(self, name: str) -> list[str]:
        """What is wrong between entries."""
        models: list[_AnyModelTable] = [*self.models, *self.embedding_models, *self.ranking_models]
        names = naming_problems(
            (model.id for model in models),
            (deployment.id for deployment in self.deployments),
            (alias for model in models for alias in model.aliases),
        )
        problems = [f"{name}: {problem}" for problem in names]
        kinds = (self.models, self.embedding_models, self.ranking_models)
        answers, embeds, ranks = ({model.id for model in kind} for kind in kinds)
        for deployment in self.deployments:
            where = f"{self.files[deployment.id]}: deployment[{deployment.id}]."
            if deployment.model not in self.named:
                problems.append(f"{where}model: no model {deployment.model!r}")
            elif deployment.model in answers | embeds:
                kind = kind_problems(deployment, embeds=deployment.model in embeds)
                problems.extend(where + problem for problem in kind)
            if deployment.model in answers | embeds | ranks:
                fit = ranking_problems(deployment, ranks=deployment.model in ranks)
                problems.extend(where + problem for problem in fit)
        if not self.raw["model"] or not self.raw["deployment"]:
            problems.append(f"{name}: a registry needs at least one [[model]] and one [[deployment]]")
        return problems

    def part(self, whole: Registry, models: Sequence[_AnyModelTable]) -> Registry:
        """The models of one kind, with their deployments and aliases, as a part of the whole."""
        profiles = {model.id: model.to_domain() for model in models}
        return replace(
            whole,
            models=profiles,
            deployments=tuple(d.to_domain() for d in self.deployments if d.model in profiles),
            aliases={alias: model.id for model in models for alias in model.aliases},
        )

    def content(self) -> Document:
        """What the version stands for: entries as written, whatever file they are in."""
        content = {"model": _ordered(self.raw["model"]), "deployment": self.raw["deployment"]}
        # Registries without models of a later kind keep the versions that they had before there were any.
        later = {kind: _ordered(self.raw[kind]) for kind in ("embedding_model", "ranking_model") if self.raw[kind]}
        return content | later


def _ordered(entries: list[object]) -> list[object]:
    return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True, default=str))


def _read(path: Path, problems: list[str]) -> Document | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        problems.append(f"{path.name}: cannot be read: {reason}")
        return None


def _validated(schema: type[BaseModel], value: object, where: str, problems: list[str]) -> BaseModel | None:
    # Strict JSON mode takes dates and enumerations as text and refuses everything else that would need guessing.
    try:
        return schema.model_validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            key = _key(detail["loc"])
            problems.append(f"{where}{key}: {detail['msg']}" if key else f"{where.rstrip('.')}: {detail['msg']}")
        return None


def _key(location: tuple[int | str, ...]) -> str:
    """``("price", 0, "tiers")`` as ``price[0].tiers``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")


def _canonical(content: Document) -> str:
    """Canonical JSON: key order, comments, spacing and file boundaries do not count."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _fingerprint(document: str) -> str:
    """SHA-256 of canonical JSON."""
    return hashlib.sha256(document.encode()).hexdigest()
