"""The parts of Amazon's States Language that ``template.yaml`` uses: definitions, and their JSONata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonata.jsonata import Jsonata

ROOT = Path(__file__).resolve().parents[1]

DATA_BYTES = 256 * 1024
"""The largest input and output of a state."""

_FIELDS: Mapping[str, str] = {
    "Choice": "Choices Default",
    "Succeed": "",
    "Task": "Resource Arguments Output TimeoutSeconds Retry Next End",
    "Map": "Label ItemReader ItemSelector ItemBatcher ItemProcessor ResultWriter MaxConcurrency "
    "ToleratedFailurePercentage Next End",
}
_LAMBDA = "arn:aws:states:::lambda:invoke"


class StateFailed(Exception):
    """A state has failed for good, with the error ``name``."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name, self.cause = name, cause


def read_definition(template: Mapping[str, Any], machine: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition of a state machine of the template.

    ``values`` replace the resources and parameters that ``DefinitionSubstitutions`` refers to. Raises
    ``ValueError`` for a definition that uses anything unsupported.
    """
    properties = template["Resources"][machine]["Properties"]
    text = (ROOT / properties["DefinitionUri"]).read_text(encoding="utf-8")
    for name, reference in properties["DefinitionSubstitutions"].items():
        resource = reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0]
        text = text.replace(f"${{{name}}}", {"AWS::Partition": "aws", **values}.get(resource, resource))
    definition: dict[str, Any] = json.loads(text)
    _check_supported(definition["States"])
    return definition


def _check_supported(states: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if ``states`` use anything that is not emulated here."""
    for name, state in states.items():
        unknown = set(state) - {"Type", "Comment", *_FIELDS[state["Type"]].split()}
        if unknown:
            raise ValueError(f"{name}: {', '.join(sorted(unknown))} is not supported here")
        if state["Type"] == "Task" and (
            state["Resource"] != _LAMBDA
            or [retry["ErrorEquals"] for retry in state["Retry"]] != [["States.ALL"]]
        ):
            raise ValueError(
                f"{name}: only functions that retry every error in the same way are supported here"
            )
        if state["Type"] == "Map":
            _check_supported(state["ItemProcessor"]["States"])


@cache
def _compiled(expression: str) -> Jsonata:
    return Jsonata(expression)


def evaluate(value: Any, states: Mapping[str, Any]) -> Any:
    """Return ``value`` with each ``{% expression %}`` evaluated; ``states`` is JSONata's ``$states``."""
    if isinstance(value, dict):
        return {name: evaluate(part, states) for name, part in value.items()}
    if isinstance(value, list):
        return [evaluate(part, states) for part in value]
    if not (isinstance(value, str) and value.startswith("{%")):
        return value
    expression = _compiled(value.removeprefix("{%").removesuffix("%}").strip())
    frame = expression.create_frame()
    frame.bind("states", states)
    return expression.evaluate(None, frame)


def transferred(value: Any) -> Any:
    """Return ``value`` as a state passes it on. Raises ``StateFailed`` if it is too large."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text.encode()) > DATA_BYTES:
        raise StateFailed("States.DataLimitExceeded", f"{len(text):,} characters")
    return json.loads(text)
