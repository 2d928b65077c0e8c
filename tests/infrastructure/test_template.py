"""What CloudFormation would be asked for: ``template.yaml`` as SAM translates it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cfnlint.api
import pytest
from moto.events.models import EventPattern
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from carsight_service.batch_store import ENDS, KEPT
from carsight_service.contract.api import Api
from carsight_service.contract.lists import MAX_ROWS
from carsight_service.http import openapi
from carsight_service.http.routes import ROUTES
from carsight_service.queue.children import (
    AHEAD,
    CHILD_SECONDS,
    PATIENT_ATTEMPTS,
    SECONDS_A_ROW,
)
from carsight_service.settings import Settings
from local.template import read_template

ROOT = Path(__file__).resolve().parents[2]

Resource = dict[str, Any]

FUNCTIONS = {Api.PLATE: "PlateFunction", Api.VIN: "VinFunction", None: "AccountFunction"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """The template as it is written."""
    return read_template()


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Resource]:
    """The resources that it deploys."""
    defaults = {name: default_of(about) for name, about in template["Parameters"].items()}
    packaged = filled(template, defaults)
    for resource in packaged["Resources"].values():
        properties = resource.get("Properties", {})
        if properties.get("PackageType") == "Image":
            properties["ImageUri"] = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/carsight:tag"
        for name in ("CodeUri", "ContentUri", "DefinitionUri"):
            if name in properties:
                properties[name] = "s3://bucket/key"
    translated = Translator({}, Parser()).translate(packaged, defaults)
    found: dict[str, Resource] = translated["Resources"]
    return found


def default_of(parameter: dict[str, Any]) -> Any:
    """A parameter's default, as CloudFormation would take it."""
    value = parameter["Default"]
    return value.split(",") if parameter["Type"] == "CommaDelimitedList" else value


def filled(value: Any, parameters: dict[str, Any]) -> Any:
    """A copy of ``value`` in which each reference to a parameter has become the parameter's value."""
    if isinstance(value, list):
        return [filled(item, parameters) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"} and value["Ref"] in parameters:
        return parameters[value["Ref"]]
    return {name: filled(item, parameters) for name, item in value.items()}


def of_type(resources: dict[str, Resource], kind: str) -> dict[str, Any]:
    """The properties of all resources of one type, by name."""
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


def functions(resources: dict[str, Resource]) -> dict[str, Any]:
    return of_type(resources, "AWS::Lambda::Function")


def machines(resources: dict[str, Resource]) -> dict[str, Any]:
    return of_type(resources, "AWS::StepFunctions::StateMachine")


def statements(resources: dict[str, Resource]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every role, with the role's name; conditional ones are taken as they would be."""
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement["Fn::If"][1] if "Fn::If" in statement else statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_what_sam_makes_of_the_template_is_valid(
    template: dict[str, Any], resources: dict[str, Resource]
) -> None:
    """A misspelt property of a function's event is one to nothing else (findings/sam_validate_lint.sh)."""
    kept = {name: template[name] for name in ("Parameters", "Mappings", "Conditions", "Outputs")}
    found = cfnlint.api.lint(json.dumps({**kept, "Resources": resources}), regions=["us-east-1"])
    # References to parameters have been replaced, so many parameters are not used any more.
    assert [str(problem) for problem in found if problem.rule.id != "W2001"] == []


# -- the API -------------------------------------------------------------------------------------------------


def served(resources: dict[str, Resource]) -> dict[str, str]:
    """Which function serves which path, from the API's definition."""
    body = resources["Api"]["Properties"]["Body"]
    found = {}
    for path, methods in body["paths"].items():
        assert set(methods) <= {"x-amazon-apigateway-any-method", "options"}, (
            f"{path}: a wrong method is ours to answer"
        )
        uri = methods["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]["uri"]
        (name,) = re.findall(r"\$\{(\w+)\.Arn}", uri["Fn::Sub"])
        found[path] = name
    return found


def test_every_route_has_its_function(resources: dict[str, Resource]) -> None:
    """Of those without pixels, slashes at the end, ``/eu`` and the pages come by way of ``$default``."""
    expected = {"$default": FUNCTIONS[None]}
    for route in ROUTES:
        path, forms = route.path, []
        if route.api is not None:
            forms = [path, f"{path}/{{proxy+}}", f"/eu{path}", f"/eu{path}/{{proxy+}}"]
        elif route.tag != "Pages":
            forms = [path]
        expected |= dict.fromkeys(forms, FUNCTIONS[route.api])
    assert served(resources) == expected


def test_no_route_ends_with_a_slash(resources: dict[str, Resource]) -> None:
    """HTTP APIs have none: one would be dropped without a word."""
    assert not [path for path in served(resources) if path.endswith("/")]


def test_the_access_log_has_no_query_string_and_is_valid_json(
    template: dict[str, Any],
) -> None:
    log = template["Resources"]["Api"]["Properties"]["AccessLogSettings"]["Format"]
    fields = json.loads(log)
    assert set(fields.values()) == {
        "$context.requestTime",
        "$context.requestId",
        "$context.httpMethod",
        "$context.routeKey",
        "$context.path",
        "$context.status",
        "$context.responseLength",
        "$context.responseLatency",
        "$context.integrationLatency",
        "$context.identity.sourceIp",
        "$context.error.message",
        "$context.integrationErrorMessage",
    }


def test_the_api_is_throttled(resources: dict[str, Resource]) -> None:
    (stage,) = of_type(resources, "AWS::ApiGatewayV2::Stage").values()
    limits = stage["DefaultRouteSettings"]
    assert limits["ThrottlingRateLimit"] > 0
    assert limits["ThrottlingBurstLimit"] > 0


def test_browsers_may_call_it_and_see_what_is_left(template: dict[str, Any]) -> None:
    cors = template["Resources"]["Api"]["Properties"]["CorsConfiguration"]
    assert {"content-type", "idempotency-key", "x-api-key"} <= set(cors["AllowHeaders"])
    # Every header of ours that the description promises, and none that is never sent.
    promised = openapi.document()["components"]["headers"]
    assert {*cors["ExposeHeaders"], "allow"} == set(promised)
    assert not cors.get("AllowCredentials")


# -- the functions -------------------------------------------------------------------------------------------


def test_the_functions_504_comes_before_the_gateways(resources: dict[str, Resource]) -> None:
    for name in set(served(resources).values()):
        assert functions(resources)[name]["Timeout"] == 28


def test_images_are_built_from_the_repository(
    template: dict[str, Any], resources: dict[str, Resource]
) -> None:
    images = {name for name, about in functions(resources).items() if about.get("PackageType") == "Image"}
    assert images >= {"PlateFunction", "VinFunction"}
    for name in images:
        metadata = template["Resources"][name]["Metadata"]
        assert (ROOT / metadata["DockerContext"] / metadata["Dockerfile"]).is_file()
        (command,) = functions(resources)[name]["ImageConfig"]["Command"]
        folder, function, module, handler = command.split(".")
        assert (folder, function, handler) == (
            "functions",
            metadata["DockerBuildArgs"]["FUNCTION"],
            "lambda_handler",
        )
        assert (ROOT / folder / function / f"{module}.py").is_file()
        copied = f"{folder}/${{FUNCTION}}/{module}.py"
        assert copied in (ROOT / metadata["Dockerfile"]).read_text(encoding="utf-8")
        assert list(ROOT.glob(f"layers/recognition/python/carsight/models/{function}_*.onnx"))


def test_zip_functions_find_the_service(template: dict[str, Any], resources: dict[str, Resource]) -> None:
    zipped = {
        name: about for name, about in functions(resources).items() if about.get("PackageType") != "Image"
    }
    assert zipped
    for name, about in zipped.items():
        module = about["Handler"].partition(".")[0]
        code = ROOT / template["Resources"][name]["Properties"]["CodeUri"]
        assert (code / f"{module}.py").is_file()
        if name == "BatchesFunction":
            assert (ROOT / "requirements" / "batches.txt").samefile(code / "requirements.txt")
        assert about["Runtime"] == "python3.13"
        assert template["Resources"][name]["Properties"]["Layers"] == [{"Ref": "ServiceLayer"}]
    layer = template["Resources"]["ServiceLayer"]
    content = ROOT / layer["Properties"]["ContentUri"]
    assert (content / "carsight_service").is_dir()
    assert (ROOT / "requirements" / "account.txt").samefile(content / "requirements.txt")


def test_sources_built_in_a_container_contain_no_links(template: dict[str, Any]) -> None:
    """SAM mounts these folders alone, so a link out of them leads nowhere there (aws-sam-cli, pull 7865)."""
    folders = [
        ROOT / resource["Properties"][name]
        for resource in template["Resources"].values()
        for name in ("CodeUri", "ContentUri")
        if name in resource["Properties"]
    ]
    assert len(folders) == 5
    assert not [path for folder in folders for path in folder.rglob("*") if path.is_symlink()]


def test_every_function_runs_on_the_chosen_processor(resources: dict[str, Resource]) -> None:
    for about in functions(resources).values():
        assert about["Architectures"] == ["x86_64"]


def environment(about: dict[str, Any]) -> dict[str, str]:
    """A function's environment, with something plausible for what CloudFormation fills in."""
    variables = about["Environment"]["Variables"]
    return {name: value if isinstance(value, str) else "carsight" for name, value in variables.items()}


def test_environment_variables_match_the_settings(resources: dict[str, Resource]) -> None:
    known = {name.upper() for name in Settings.names()} | {"POWERTOOLS_LOG_LEVEL"}
    for name, about in functions(resources).items():
        variables = environment(about)
        assert set(variables) <= known, name
        settings = Settings.read(variables)
        assert settings.table_name
        assert not settings.local_fetch
        assert not settings.tracing


def test_functions_with_allowed_buckets_know_the_uploads_bucket(resources: dict[str, Resource]) -> None:
    """Where that is listed, too, its uploads are their own account's."""
    readers = {role for role, statement in statements(resources) if statement["Sid"] == "ReadListedBuckets"}
    told = {
        about["Role"]["Fn::GetAtt"][0]
        for about in functions(resources).values()
        if about["Environment"]["Variables"].get("UPLOADS_BUCKET") == {"Ref": "UploadsBucket"}
    }
    assert {"PlateRole", "VinRole", "AccountRole"} <= readers
    assert readers <= told


OF_A_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
OF_NO_LOG = {f"logs:{verb}LogDelivery" for verb in ("Create", "Get", "Update", "Delete")} | {
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
}
"""What Step Functions asks for to have its logs delivered."""

# -- permissions ---------------------------------------------------------------------------------------------


def test_every_function_has_a_role_of_its_own(resources: dict[str, Resource]) -> None:
    roles = [about["Role"]["Fn::GetAtt"][0] for about in functions(resources).values()]
    roles += [one["RoleArn"]["Fn::GetAtt"][0] for one in machines(resources).values()]
    assert sorted(roles) == sorted(of_type(resources, "AWS::IAM::Role"))


def test_roles_have_no_managed_policies(resources: dict[str, Resource]) -> None:
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        assert not role.get("ManagedPolicyArns"), name
    assert not of_type(resources, "AWS::IAM::ManagedPolicy")
    assert not of_type(resources, "AWS::IAM::Policy")


def test_every_statement_names_its_actions_and_its_resources(resources: dict[str, Resource]) -> None:
    for role, statement in statements(resources):
        where = f"{role}.{statement['Sid']}"
        actions = set(listed(statement["Action"]))
        assert not [action for action in actions if "*" in action], where
        if all(action.startswith("xray:") or action in OF_NO_LOG for action in actions):
            continue  # X-Ray's actions and the delivery of logs know no resources
        for resource in listed(statement["Resource"]):
            # A resource by name, or keys in a bucket by prefix: `${Bucket.Arn}/prefix/*`.
            text = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            if isinstance(text, str):  # or the executions of a machine by name
                assert "*" not in text.removesuffix(":*").partition("/")[0], where


def test_a_function_writes_only_to_its_own_log(resources: dict[str, Resource]) -> None:
    logs: dict[str, Any] = {}
    for role, statement in statements(resources):
        for action in listed(statement["Action"]):
            if action in OF_A_LOG:
                logs.setdefault(role, set()).add(statement["Resource"]["Fn::GetAtt"][0])
    for about in functions(resources).values():
        assert logs[about["Role"]["Fn::GetAtt"][0]] == {about["LoggingConfig"]["LogGroup"]["Ref"]}


def test_functions_have_access_only_to_their_own_items(resources: dict[str, Resource]) -> None:
    for role, statement in statements(resources):
        actions = {action for action in listed(statement["Action"]) if action.startswith("dynamodb:")}
        if actions and not any(
            "Stream" in action or "Records" in action or "Shard" in action for action in actions
        ):
            prefixes = statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
            assert all(re.fullmatch(r"[A-Z]+#\*", prefix) for prefix in prefixes), role
            assert not actions & {"dynamodb:Scan", "dynamodb:BatchWriteItem", "dynamodb:DeleteTable"}, role


def test_functions_that_answer_requests_create_no_keys(resources: dict[str, Resource]) -> None:
    roles = {"PlateRole", "VinRole", "PlateWorkerRole", "VinWorkerRole", "AccountRole"}
    allowed: dict[str, set[str]] = {}
    for role, statement in statements(resources):
        condition = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
        if role in roles and "KEY#*" in condition.get("dynamodb:LeadingKeys", []):
            allowed.setdefault(role, set()).update(listed(statement["Action"]))
    assert allowed.keys() == roles
    for role, actions in allowed.items():
        assert not {"dynamodb:PutItem", "dynamodb:DeleteItem"} & actions, role


# -- what is kept --------------------------------------------------------------------------------------------


def test_logs_are_kept_for_the_configured_time(resources: dict[str, Resource]) -> None:
    groups = of_type(resources, "AWS::Logs::LogGroup")
    assert all(group["RetentionInDays"] == 30 for group in groups.values())
    used = {about["LoggingConfig"]["LogGroup"]["Ref"] for about in functions(resources).values()}
    for machine in machines(resources).values():
        (destination,) = machine["LoggingConfiguration"]["Destinations"]
        used.add(destination["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0])
    assert used | {"AccessLogs"} == set(groups)


def test_vended_logs_share_a_prefix_with_a_policy(resources: dict[str, Resource]) -> None:
    """API Gateway and Step Functions are let in by one policy of the account, which holds 5,120 characters.

    Names that begin like this share a line of it (Step Functions Developer Guide, "Avoiding CloudWatch Logs
    resource policy size restrictions"); where others have filled it, a deployment with any other name fails.
    """
    groups = of_type(resources, "AWS::Logs::LogGroup")
    of_functions = {about["LoggingConfig"]["LogGroup"]["Ref"] for about in functions(resources).values()}
    vended = set(groups) - of_functions
    assert len(vended) == 2
    for name in vended:
        assert groups[name]["LogGroupName"]["Fn::Sub"].startswith("/aws/vendedlogs/"), name


def test_the_table_is_what_the_service_expects(resources: dict[str, Resource]) -> None:
    table = resources["Table"]["Properties"]
    assert [(part["AttributeName"], part["KeyType"]) for part in table["KeySchema"]] == [
        ("pk", "HASH"),
        ("sk", "RANGE"),
    ]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


def test_irreplaceable_resources_outlive_the_stack(resources: dict[str, Resource]) -> None:
    kinds = {"AWS::DynamoDB::Table", "AWS::S3::Bucket"}
    kept = [resource for resource in resources.values() if resource["Type"] in kinds]
    assert len(kept) == 3
    for resource in kept:
        # ExceptOnCreate: nothing is in them yet when a first deployment is rolled back.
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resource["UpdateReplacePolicy"] == "Retain"


def test_buckets_are_private_encrypted_and_emptied(resources: dict[str, Resource]) -> None:
    buckets = of_type(resources, "AWS::S3::Bucket")
    policies = {
        about["Bucket"]["Ref"]: about for about in of_type(resources, "AWS::S3::BucketPolicy").values()
    }
    assert len(buckets) == 2
    assert policies.keys() == buckets.keys()
    for name, bucket in buckets.items():
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert any("ExpirationInDays" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])
        (statement,) = policies[name]["PolicyDocument"]["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert {"Fn::GetAtt": [name, "Arn"]} in statement["Resource"]


# -- uploads -------------------------------------------------------------------------------------------------


def test_results_do_not_trigger_functions(resources: dict[str, Resource]) -> None:
    assert "NotificationConfiguration" not in resources["ResultsBucket"]["Properties"]
    (notified,) = resources["UploadsBucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert notified["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "incoming/"}]
    for role, statement in statements(resources):
        if "s3:PutObject" in listed(statement["Action"]) and role != "AccountRole":
            assert all("UploadsBucket" not in str(resource) for resource in listed(statement["Resource"])), (
                role
            )


def test_only_the_uploads_bucket_may_send_to_the_queue(resources: dict[str, Resource]) -> None:
    bucket, variables = resources["UploadsBucket"]["Properties"]["BucketName"]["Fn::Sub"]
    (statement,) = resources["PlateQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    arn, same_variables = statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::Sub"]
    assert arn.endswith(f":s3:::{bucket}")
    assert variables == same_variables
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert resources["UploadsBucket"]["DependsOn"] == "PlateQueuePolicy"


def consumers(resources: dict[str, Resource]) -> dict[str, dict[str, Any]]:
    """The event source mapping of every queue that has one, by the queue's name."""
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    sources = {mapping["EventSourceArn"]["Fn::GetAtt"][0]: mapping for mapping in mappings}
    return {
        name: mapping for name, mapping in sources.items() if resources[name]["Type"] == "AWS::SQS::Queue"
    }


def test_a_message_stays_hidden_for_six_times_its_workers_timeout(resources: dict[str, Resource]) -> None:
    assert {"PlateQueue", "VinQueue"} <= set(consumers(resources))
    for name, mapping in consumers(resources).items():
        timeout = functions(resources)[mapping["FunctionName"]["Ref"]]["Timeout"]
        assert resources[name]["Properties"]["VisibilityTimeout"] == 6 * timeout, name


def test_workers_report_failures_one_by_one_and_are_bounded(resources: dict[str, Resource]) -> None:
    for mapping in consumers(resources).values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"]["MaximumConcurrency"] >= 2


def test_nothing_is_lost_silently(resources: dict[str, Resource]) -> None:
    queues = of_type(resources, "AWS::SQS::Queue")
    dead = set()
    for name in consumers(resources):
        redrive = queues[name]["RedrivePolicy"]
        assert redrive["maxReceiveCount"] >= 3
        dead.add(redrive["deadLetterTargetArn"]["Fn::GetAtt"][0])
    for mapping in of_type(resources, "AWS::Lambda::EventSourceMapping").values():
        if "DestinationConfig" in mapping:
            dead.add(mapping["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0])
    assert dead == set(queues) - set(consumers(resources))
    assert all(queues[name]["MessageRetentionPeriod"] == 14 * 24 * 3600 for name in dead)
    alarms = of_type(resources, "AWS::CloudWatch::Alarm").values()
    watched = [alarm["Dimensions"][0]["Value"] for alarm in alarms if alarm.get("Namespace") == "AWS/SQS"]
    assert {value["Fn::GetAtt"][0] for value in watched} == dead


def test_queues_are_encrypted(resources: dict[str, Resource]) -> None:
    assert all(queue["SqsManagedSseEnabled"] for queue in of_type(resources, "AWS::SQS::Queue").values())


# -- batches -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    """The state machine's definition, as it is written."""
    text = (ROOT / "statemachines" / "batch.asl.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def maps(definition: dict[str, Any]) -> dict[str, Any]:
    return {name: state for name, state in definition["States"].items() if state["Type"] == "Map"}


def test_the_state_machine_definition_is_valid(
    definition: dict[str, Any], resources: dict[str, Resource]
) -> None:
    (machine,) = machines(resources).values()
    assert machine["DefinitionS3Location"] == {"Bucket": "bucket", "Key": "key"}
    named = set(re.findall(r"\$\{(\w+)}", json.dumps(definition)))
    assert named == set(machine["DefinitionSubstitutions"])
    plain = json.loads(json.dumps(definition).replace("${Partition}", "aws"))
    for state in maps(plain).values():
        state["MaxConcurrency"] = 100  # cfn-lint knows no expression here
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/batches", "Definition": plain}
    properties |= {"DefinitionSubstitutions": dict.fromkeys(named, "carsight")}
    one = {"M": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}
    assert cfnlint.api.lint(json.dumps({"Resources": one}), regions=["us-east-1"]) == []


def test_the_maps_differ_only_in_their_readers(definition: dict[str, Any]) -> None:
    rest = []
    for name, state in maps(definition).items():
        assert state["Label"] == name
        rest.append({field: value for field, value in state.items() if field not in ("Label", "ItemReader")})
        rest[-1]["ItemSelector"] = set(state["ItemSelector"])
    one, other = rest
    assert one == other


def test_no_more_objects_are_listed_than_a_list_may_have(definition: dict[str, Any]) -> None:
    """Which is what joining the results has time for."""
    assert maps(definition)["Prefix"]["ItemReader"]["ReaderConfig"] == {"MaxItems": MAX_ROWS}


def test_a_map_that_fails_can_be_redriven(definition: dict[str, Any]) -> None:
    """A state whose error is caught is over: Step Functions goes on only with one that has not been left."""
    assert not any("Catch" in state for state in definition["States"].values())


def test_a_rule_reports_every_end_of_a_batch(definition: dict[str, Any], template: dict[str, Any]) -> None:
    assert {state["Next"] for state in maps(definition).values()} == {"Finish"}
    rule = template["Resources"]["BatchesFunction"]["Properties"]["Events"]["Ended"]["Properties"]["Pattern"]
    assert rule["source"] == ["aws.states"]
    assert set(rule["detail"]["status"]) == set(ENDS)
    assert rule["detail"]["stateMachineArn"] == [{"Ref": "Batches"}]


MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:carsight-batches"


def status_change(status: str, machine: str = MACHINE) -> dict[str, Any]:
    """An event as in Step Functions' guide, "EventBridge for Step Functions execution status changes"."""
    return {
        "version": "0",
        "id": "315c1398-40ff-a850-213b-158f73e60175",
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "account": "123456789012",
        "time": "2026-12-01T19:42:21Z",
        "region": "us-east-1",
        "resources": [f"{machine.replace(':stateMachine:', ':execution:')}:{'0' * 32}"],
        "detail": {
            "executionArn": f"{machine.replace(':stateMachine:', ':execution:')}:{'0' * 32}",
            "stateMachineArn": machine,
            "name": "0" * 32,
            "status": status,
            "startDate": 1551225146847,
            "stopDate": 1551225151881,
            "input": "{}",
            "output": None,
            "redriveCount": 0,
        },
    }


def test_the_rule_matches_the_ends_that_the_machine_does_not_report(resources: dict[str, Resource]) -> None:
    rules = of_type(resources, "AWS::Events::Rule").values()
    (ended,) = (rule["EventPattern"] for rule in rules if "EventPattern" in rule)
    pattern = EventPattern.load(json.dumps(filled(ended, {"Batches": MACHINE})))
    statuses = ("RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE")
    assert {
        status for status in statuses if pattern.matches_event(cast("Any", status_change(status)))
    } == set(ENDS)
    assert not pattern.matches_event(cast("Any", status_change("FAILED", f"{MACHINE}-of-others")))


@pytest.mark.parametrize(
    ("name", "partition", "sort", "is_matched"),
    [
        ("MODIFY", "KEY#0", "API#plate", True),
        ("MODIFY", "KEY#0", "API#vin", True),
        ("INSERT", "KEY#0", "API#plate", False),
        ("REMOVE", "KEY#0", "API#plate", False),
        ("MODIFY", "KEY#0", "PROFILE", False),
        ("MODIFY", "BATCH#0", "BATCH", False),
    ],
)
def test_meters_that_have_moved_wake_the_alerts_and_nothing_else_does(
    resources: dict[str, Resource], name: str, partition: str, sort: str, is_matched: bool
) -> None:
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    (criteria,) = (mapping["FilterCriteria"] for mapping in mappings if "FilterCriteria" in mapping)
    (one,) = criteria["Filters"]
    images = {"Keys": {"pk": {"S": partition}, "sk": {"S": sort}}, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    record = {"eventName": name, "eventSource": "aws:dynamodb", "dynamodb": images}
    assert EventPattern.load(one["Pattern"]).matches_event(cast("Any", record)) is is_matched


def test_a_schedule_looks_for_unreported_ends(resources: dict[str, Resource]) -> None:
    """EventBridge delivers Step Functions' events at its best effort ("Events from AWS services")."""
    rules = of_type(resources, "AWS::Events::Rule").values()
    (sweep,) = (rule for rule in rules if "ScheduleExpression" in rule)
    (target,) = sweep["Targets"]
    assert json.loads(target["Input"]) == {"sweep": True}
    (machine,) = machines(resources).values()
    named = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:"
    function = functions(resources)["BatchesFunction"]["Environment"]["Variables"]
    # Not by reference: the machine names this function.
    assert function["BATCHES_MACHINE_ARN"] == {"Fn::Sub": named + machine["StateMachineName"]["Fn::Sub"]}


def test_a_child_has_time_for_its_rows_and_retries(
    definition: dict[str, Any], resources: dict[str, Resource]
) -> None:
    worker = functions(resources)["PlateWorkerFunction"]
    for state in maps(definition).values():
        (child,) = state["ItemProcessor"]["States"].values()
        rows = state["ItemBatcher"]["MaxItemsPerBatch"]
        assert rows / AHEAD * SECONDS_A_ROW < CHILD_SECONDS
        # Five minutes are all that an Express child has, for every attempt and the waits between them.
        assert CHILD_SECONDS < child["TimeoutSeconds"] < worker["Timeout"]
        assert 2 * child["TimeoutSeconds"] + child["Retry"][0]["IntervalSeconds"] < 300
        waits = sum(min(2 ** (n + 1), child["Retry"][0]["MaxDelaySeconds"]) for n in range(PATIENT_ATTEMPTS))
        assert (PATIENT_ATTEMPTS + 1) * SECONDS_A_ROW + waits < 300
        # Whatever it is that has failed: stores have many names for not answering.
        (retry,) = child["Retry"]
        assert retry["ErrorEquals"] == ["States.ALL"]
        # Attempts that find others being counted leave as many as ever for those that die.
        assert retry["MaxAttempts"] == 8 + PATIENT_ATTEMPTS
        assert sum(min(2 ** (n + 1), retry["MaxDelaySeconds"]) for n in range(retry["MaxAttempts"])) < 240


def test_outcomes_are_kept_as_long_as_their_batch(template: dict[str, Any]) -> None:
    """A redrive joins what was read long ago with what was missing, whatever results may be kept for."""
    rules = template["Resources"]["ResultsBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (outcomes,) = (rule for rule in rules if rule.get("Prefix") == "parts/")
    assert outcomes["ExpirationInDays"] > KEPT.days
    assert "redriven" in template["Parameters"]["ResultsKeptDays"]["Description"]


# -- watching and outputs ------------------------------------------------------------------------------------


def test_alarms_notify_the_topic(resources: dict[str, Resource]) -> None:
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    assert {"FaultsAlarm", "LatencyAlarm", "ThrottlesAlarm", "AlertsBehindAlarm"} <= set(alarms)
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": "AlertsTopic"}]
        assert alarm["TreatMissingData"] == "notBreaching"


def test_the_dashboard_is_json_and_shows_every_alarm(resources: dict[str, Resource]) -> None:
    body = json.loads(resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    alarms = next(widget for widget in body["widgets"] if widget["type"] == "alarm")["properties"]["alarms"]
    assert {arn.removeprefix("${").removesuffix(".Arn}") for arn in alarms} == set(
        of_type(resources, "AWS::CloudWatch::Alarm")
    )


def test_the_outputs_have_what_the_command_line_needs(template: dict[str, Any]) -> None:
    outputs = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() for name in template["Outputs"]}
    assert {
        "API_URL",
        "TABLE_NAME",
        "UPLOADS_BUCKET",
        "RESULTS_BUCKET",
        "PLATE_QUEUE_URL",
        "VIN_QUEUE_URL",
    } <= outputs


def test_every_parameter_has_a_description_and_a_safe_default(template: dict[str, Any]) -> None:
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert "Default" in parameter, name
    assert template["Parameters"]["AllowedBuckets"]["Default"] == ""
    assert template["Parameters"]["Tracing"]["Default"] == "false"


def test_every_parameter_is_documented(template: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert not [name for name in template["Parameters"] if f"`{name}`" not in text]


def test_the_documented_bill_counts_all_alarms(resources: dict[str, Resource]) -> None:
    alarms = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    # CloudWatch charges for each metric that an alarm watches.
    metrics = sum(sum("MetricStat" in metric for metric in alarm.get("Metrics", [])) or 1 for alarm in alarms)
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    words = {8: "eight", 13: "thirteen"}
    assert (
        f"| {words[len(alarms)]} alarms on {words[metrics]} metrics at $0.10 each | ${metrics / 10:.2f} |"
        in text
    )


def test_no_route_has_an_authorizer(resources: dict[str, Resource]) -> None:
    # The API's authorizer exists for SAM's sake; a route that used it would lock every client out.
    (api,) = (about for about in resources.values() if about["Type"] == "AWS::ApiGatewayV2::Api")
    operations = [
        operation for path in api["Properties"]["Body"]["paths"].values() for operation in path.values()
    ]
    assert operations
    assert not any("security" in operation for operation in operations)
