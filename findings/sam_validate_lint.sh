#!/usr/bin/env bash
# With `--lint`, `sam validate` finds less: a misspelt property of a function's event is an error only without it.
. "$(dirname "$0")/prepare.bash"
with_packages aws-sam-cli==1.170.0 aws-sam-translator==1.115.0 cfn-lint==1.58.0
cd "$home"
export SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
cat >right.yaml <<'YAML'
Transform: AWS::Serverless-2016-10-31
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      InlineCode: "def handler(event, context): pass"
      Timeout: 20
      Events:
        Messages:
          Type: SQS
          Properties:
            Queue: !GetAtt Queue.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: 10}
YAML
sed 's/Timeout/Timout/' right.yaml >function.yaml
sed 's/FunctionResponseTypes/FunctionResponseType/' right.yaml >event.yaml
sed 's/MaximumConcurrency/MaxConcurrency/' right.yaml >nested.yaml

holds=true
check() { # a template, an option, the status that is expected
  status=0
  # shellcheck disable=SC2086 # an empty option is none
  "$home/venv/bin/sam" validate $2 -t "$1.yaml" >"$home/log" 2>&1 || status=1
  grep -q "is a valid SAM Template\|Tim\?e\?out\|FunctionResponseType" "$home/log" || { cat "$home/log"; exit 2; }
  echo "seen: $1.yaml, sam validate $2: $([ $status = 0 ] && echo valid || echo refused)"
  [ $status = "$3" ] || holds=false
}
"$home/venv/bin/sam" --version
echo "assumed: --lint adds checks, and a property that does not exist is refused wherever it is"
check right "" 0
check right --lint 0
check function "" 1
check function --lint 1
check event "" 1
check event --lint 0
check nested "" 0
check nested --lint 0
$holds
