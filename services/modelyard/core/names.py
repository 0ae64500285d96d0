"""Resource names (https://google.aip.dev/122): `projects/demo/datasets/flowers/versions/V001`.

DATASET.format("demo", "flowers")  ->  "projects/demo/datasets/flowers"
DATASET.parse("projects/demo/datasets/flowers", field="dataset")  ->  {"project": "demo", "dataset": "flowers"}
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from modelyard.core.errors import InvalidArgument

LATEST = "latest"
"""Stands for the newest version where a request takes one; no version can be called so."""

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
_NUMBERED = re.compile(r"V([0-9]{3,9})")
_LIKE_A_NUMBER = re.compile(r"[Vv][0-9]+")
_ID_FORM = "1 to 63 of a-z, 0-9 and '-', starting with a letter"
_VERSION_FORM = "1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', starting with a letter"
_VERSION_VARIABLES = ("version", "deployment", "tag")
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, in ASCII order, so that ids sort by time


@dataclass(frozen=True)
class Pattern:
    """The form of the names of one kind of resource: `projects/{project}/datasets/{dataset}`."""

    template: str

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The ids in the name, from the left: ("project", "dataset")."""
        return tuple(re.findall(r"{(\w+)}", self.template))

    @property
    def collection(self) -> str:
        """What kind it is: "datasets"; below a parent with its kind, "datasets/versions", because models have versions too."""
        return "/".join(part for part in self.template.split("/")[2:] if "{" not in part) or "projects"

    def format(self, *ids: str, **named: str) -> str:
        """The name with these ids, given from the left or by variable. Raises InvalidArgument BAD_ID, naming the variable."""
        values = dict(zip(self.variables, ids, strict=False)) | named
        if len(ids) + len(named) != len(self.variables) or set(values) != set(self.variables):
            raise TypeError(f"{self.template} needs {self.variables}, not {ids} and {named}")
        for variable in self.variables:
            _check(values[variable], variable, variable)
        return self.template.format(**values)

    def parse(self, name: str, field: str = "name") -> dict[str, str]:
        """The ids in a name. Raises InvalidArgument BAD_RESOURCE_NAME, naming the field, the value and the right form."""
        ids = self._match(name)
        if ids is None:
            shown = name[:200]
            message = f"{field} is {shown!r}; it must be {self.template} ({self._id_forms()})"
            raise InvalidArgument("BAD_RESOURCE_NAME", message, field=field, value=shown, expected=self.template)
        return ids

    def matches(self, name: str) -> bool:
        """Whether a name has this form."""
        return self._match(name) is not None

    def _match(self, name: str) -> dict[str, str] | None:
        parts, form = name.split("/"), self.template.split("/")
        if len(parts) != len(form):
            return None
        ids = {}
        for part, expected in zip(parts, form, strict=True):
            variable = expected.strip("{}")
            if variable == expected and part != expected:
                return None
            if variable != expected and not _form(variable)[0].fullmatch(part):
                return None
            if variable != expected:
                ids[variable] = part
        return ids

    def _id_forms(self) -> str:
        last = self.variables[-1]
        rest = f"ids are {_ID_FORM}"
        return f"{rest}; the {last} {_VERSION_FORM}" if last in _VERSION_VARIABLES else rest


PROJECT = Pattern("projects/{project}")
DATASET = Pattern("projects/{project}/datasets/{dataset}")
IMPORT = Pattern("projects/{project}/datasets/{dataset}/imports/{import}")
QUALITY_REPORT = Pattern("projects/{project}/datasets/{dataset}/qualityReports/{quality_report}")
DATASET_EXPORT = Pattern("projects/{project}/datasets/{dataset}/exports/{export}")
DATASET_VERSION = Pattern("projects/{project}/datasets/{dataset}/versions/{version}")
DATASET_TAG = Pattern("projects/{project}/datasets/{dataset}/tags/{tag}")
DATASET_USE = Pattern("projects/{project}/datasets/{dataset}/versions/{version}/uses/{use}")
FOLDS = Pattern("projects/{project}/datasets/{dataset}/versions/{version}/folds/{folds}")
LABEL_SCHEMA = Pattern("projects/{project}/datasets/{dataset}/labelSchemas/{version}")
ANNOTATION_ROUND = Pattern("projects/{project}/datasets/{dataset}/annotationRounds/{annotation_round}")
ANNOTATION_TASK = Pattern("projects/{project}/datasets/{dataset}/annotationRounds/{annotation_round}/tasks/{task}")
TRAINING_JOB = Pattern("projects/{project}/trainingJobs/{training_job}")
ADVISED_TRAINING = Pattern("projects/{project}/advisedTrainings/{advised_training}")
RECIPE_PREVIEW = Pattern("projects/{project}/recipePreviews/{recipe_preview}")
CROSS_VALIDATION = Pattern("projects/{project}/crossValidations/{cross_validation}")
MODEL_SELECTION = Pattern("projects/{project}/modelSelections/{model_selection}")
MODEL = Pattern("projects/{project}/models/{model}")
MODEL_VERSION = Pattern("projects/{project}/models/{model}/versions/{version}")
EVALUATION = Pattern("projects/{project}/evaluations/{evaluation}")
GATE_DECISION = Pattern("projects/{project}/gateDecisions/{gate_decision}")
EXPORT = Pattern("projects/{project}/exports/{export}")
TARGET = Pattern("projects/{project}/targets/{target}")
LATENCY_PROFILE = Pattern("projects/{project}/latencyProfiles/{latency_profile}")
ENDPOINT = Pattern("projects/{project}/endpoints/{endpoint}")
INFERENCE_TOKEN = Pattern("projects/{project}/endpoints/{endpoint}/inferenceTokens/{inference_token}")
DEPLOYMENT = Pattern("projects/{project}/endpoints/{endpoint}/deployments/{deployment}")
ENDPOINT_TARGET = Pattern("projects/{project}/endpoints/{endpoint}/targets/{target}")
DEVICE = Pattern("projects/{project}/devices/{device}")
ENROLMENT_TOKEN = Pattern("projects/{project}/enrolmentTokens/{enrolment_token}")
ROLLOUT = Pattern("projects/{project}/rollouts/{rollout}")
PIPELINE_RUN = Pattern("projects/{project}/pipelineRuns/{pipeline_run}")
REEVALUATION = Pattern("projects/{project}/reevaluations/{reevaluation}")
REEVALUATION_RUN = Pattern("projects/{project}/reevaluations/{reevaluation}/runs/{run}")


def parent_of(name: str) -> str:
    """The name one level up: of projects/p/datasets/d it is projects/p; of a project it is empty."""
    return "/".join(name.split("/")[:-2])


def id_of(name: str) -> str:
    """The last id of a name."""
    return name.rsplit("/", 1)[-1]


def check_id(value: str, field: str) -> str:
    """The value. Raises InvalidArgument BAD_ID unless it is 1 to 63 of a-z, 0-9 and '-', starting with a letter."""
    return _check(value, field, "")


def check_version_id(value: str, field: str) -> str:
    """The value. Raises InvalidArgument BAD_ID unless it is a version id ("V001", "spring.2") and not "latest"."""
    if value.lower() == LATEST:
        message = f"{field} is {value!r}, which stands for the newest version; choose another id"
        raise InvalidArgument("BAD_ID", message, field=field, value=value)
    return _check(value, field, "version")


def check_tag_id(value: str, field: str) -> str:
    """The value. Raises InvalidArgument BAD_ID unless it is a version id that is neither "latest" nor of the form of a number
    (V001)."""
    check_version_id(value, field)
    if _LIKE_A_NUMBER.fullmatch(value):
        message = f"{field} is {value!r}; V and digits are the numbers that versions get by themselves. Choose a word"
        raise InvalidArgument("BAD_ID", message, field=field, value=value)
    return value


def is_like_a_number(id_: str) -> bool:
    """Whether an id has the form of a version's number, which no tag has."""
    return bool(_LIKE_A_NUMBER.fullmatch(id_))


def derived_id(letter: str, *parts: str) -> str:
    """An id that follows from texts: the same ones give the same id. 20 characters."""
    return letter + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:19]


def new_id() -> str:
    """A new id of 16 characters: a letter, the time in milliseconds, chance. Ids made later sort later."""
    milliseconds = int(time.time() * 1000)
    return "j" + _base32(milliseconds, 9) + _base32(secrets.randbits(30), 6)


def next_version(existing: Iterable[str]) -> str:
    """The version after the highest V number among the ids: V001 first, V1000 after V999. Other ids do not count."""
    numbers = [int(match[1]) for id_ in existing if (match := _NUMBERED.fullmatch(id_))]
    return f"V{max(numbers, default=0) + 1:03d}"


def choose_version(requested: str, existing: Sequence[str], field: str) -> str:
    """The id of a new version: the one requested, or the next V number when it is empty.

    Raises InvalidArgument BAD_ID, or VERSION_NOT_NEXT for a V number that would leave a gap. One that exists is given back as it
    is: creating it then says so.
    """
    following = next_version(existing)
    if not requested:
        return following
    check_version_id(requested, field)
    if _NUMBERED.fullmatch(requested) and requested != following and requested not in existing:
        message = f"{field} is {requested!r}; a number must be the next one, {following!r}. Leave it empty or choose a name"
        raise InvalidArgument("VERSION_NOT_NEXT", message, field=field, value=requested, expected=following)
    return requested


def _form(variable: str) -> tuple[re.Pattern[str], str]:
    return (_VERSION_ID, _VERSION_FORM) if variable in _VERSION_VARIABLES else (_ID, _ID_FORM)


def _check(value: str, field: str, variable: str) -> str:
    pattern, form = _form(variable)
    if not pattern.fullmatch(value):
        shown = value[:200]
        raise InvalidArgument("BAD_ID", f"{field} is {shown!r}; it must be {form}", field=field, value=shown)
    return value


def _base32(number: int, digits: int) -> str:
    return "".join(_BASE32[number >> 5 * place & 31] for place in reversed(range(digits)))
