"""What stands on what: from a dataset version to models, exports, evaluations and endpoints, as a tree. Each service says its
own part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.client import Client


@dataclass
class Node:
    """A resource of the tree: `relation` to what is above it, its kind, full name, and what there is to say of it."""

    relation: str
    kind: str
    name: str
    facts: str = ""
    below: list[Node] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "relation": self.relation,
            "kind": self.kind,
            "name": self.name,
            "facts": self.facts,
            "below": [node.document() for node in self.below],
        }

    def lines(self, indent: str = "") -> Iterator[str]:
        """The tree as text."""
        from modelyard.client import short

        said = f" ({self.facts})" if self.facts else ""
        relation = f"{self.relation}: " if self.relation else ""
        yield f"{indent}{relation}{self.kind} {short(self.name)}{said}"
        for node in self.below:
            yield from node.lines(indent + "  ")


class Known:
    """Everything of a project that can stand on something, asked for once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        models = client.models
        self.models = [one for model in models.list_models(page_size=1000) for one in models.list_model_versions(model.name)]
        self.exports = list(client.exports.list_exports(page_size=1000))
        self.evaluations = list(client.evaluations.list_evaluations(page_size=1000))
        self.endpoints = list(client.endpoints.list_endpoints(page_size=1000))

    def of_dataset(self, version: Any) -> Node:
        """What a dataset version stands on, and what stands on it."""
        node = self._version("", version)
        if version.base_version:
            node.below.append(self._above(version.base_version))
        dataset = version.name.rpartition("/versions/")[0]
        for other in self._client.datasets.list_dataset_versions(dataset, page_size=1000):
            if other.base_version == version.name:
                node.below.append(self._version("made from it", other))
        node.below += [self.of_model(one, "trained on it") for one in self.models if one.dataset_version == version.name]
        running = self._client.datasets.list_dataset_uses(version.name, page_size=1000)
        made = {one.training_job for one in self.models}
        for use in running:
            if use.user not in made and "/trainingJobs/" in use.user:
                node.below.append(Node("trained on it", "training job", use.user, "no model version of it"))
        below = {each for model in node.below for each in _names(model)}
        others = [one for one in self.evaluations if one.dataset_version == version.name and one.name not in below]
        node.below += [self._evaluation(one) for one in others]
        return node

    def of_model(self, version: Any, relation: str = "") -> Node:
        """What stands on a model version."""
        facts = f"by {version.training_job.rpartition('/')[2]}" if version.training_job else ""
        node = Node(relation, "model", version.name, facts)
        node.below += [self._export(one) for one in self.exports if one.model_version == version.name]
        node.below += [Node("started from it", "model", one.name) for one in self.models if one.parent_version == version.name]
        return node

    def model_with_origin(self, version: Any) -> Node:
        """A model version with what it was made from, and what stands on it."""
        node = self.of_model(version)
        origin = []
        if version.dataset_version:
            origin.append(self._above(version.dataset_version, "trained on"))
        if version.parent_version:
            origin.append(Node("started from", "model", version.parent_version))
        node.below[:0] = origin
        return node

    def _above(self, name: str, relation: str = "made from") -> Node:
        from modelyard.client import NotFound

        try:
            found = self._client.datasets.get_dataset_version(name)
        except NotFound:
            return Node(relation, "dataset", name, "deleted")
        node = self._version(relation, found)
        if found.base_version:
            node.below.append(self._above(found.base_version))
        return node

    def _version(self, relation: str, version: Any) -> Node:
        facts = [f"tags {', '.join(version.tags)}"] if version.tags else []
        if version.HasField("frozen_test"):
            facts.append("frozen test")
        if version.test_evaluation_count:
            facts.append(f"test looked at {version.test_evaluation_count} times")
        return Node(relation, "dataset", version.name, "; ".join(facts))

    def _export(self, export: Any) -> Node:
        from modelyard.cli.output import enum_name
        from modelyard.exporter.v1 import exporter_pb2

        form = enum_name(exporter_pb2.Format.DESCRIPTOR, export.format).lower()
        node = Node("exported", "export", export.name, form)
        node.below += [self._evaluation(one) for one in self.evaluations if one.export == export.name]
        for endpoint in self.endpoints:
            for deployment in endpoint.deployments:
                if deployment.export == export.name:
                    node.below.append(Node("served", "endpoint", deployment.name))
        return node

    @staticmethod
    def _evaluation(evaluation: Any) -> Node:
        from modelyard.client import short

        return Node("scored", "evaluation", evaluation.name, f"on {short(evaluation.dataset_version)}")


def print_lineage(here: Session, node: Node) -> None:
    """The tree as text, or as JSON."""
    from modelyard.cli.output import print_json

    if here.common.json:
        print_json(node.document())
        return
    for line in node.lines():
        print(line)


def _names(node: Node) -> Iterator[str]:
    yield node.name
    for each in node.below:
        yield from _names(each)
