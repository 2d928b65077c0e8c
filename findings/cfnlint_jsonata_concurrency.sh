#!/usr/bin/env bash
# A Map's MaxConcurrency may be a JSONata expression, as CDK writes it; cfn-lint takes it for a mistake.
. "$(dirname "$0")/prepare.bash"
with_packages cfn-lint==1.58.0
"$python" - <<'PYTHON'
import copy
import json
import sys
from importlib.metadata import version

import cfnlint.api

MAP = {
    "QueryLanguage": "JSONata",
    "StartAt": "All",
    "States": {
        "All": {
            "Type": "Map",
            "Items": "{% $states.input.items %}",
            "MaxConcurrency": "{% $states.input.at_once %}",
            "ItemProcessor": {"StartAt": "One", "States": {"One": {"Type": "Pass", "End": True}}},
            "End": True,
        }
    },
}


def errors(definition):
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/one", "Definition": definition}
    template = {"Resources": {"M": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}}
    return [str(match.message) for match in cfnlint.api.lint(json.dumps(template), regions=["us-east-1"])]


plain = copy.deepcopy(MAP)
plain["States"]["All"]["MaxConcurrency"] = 7
expression, number = errors(MAP), errors(plain)
print("cfn-lint", version("cfn-lint"))
print("assumed: a definition with what CDK's jsonataMaxConcurrency writes is one")
print(f"seen: with an expression {expression}, with a number {number}")
sys.exit(not any("is not of type 'number'" in text for text in expression) or bool(number))
PYTHON
