#!/usr/bin/env bash
# Run Delaywatch on AWS from a clone with the AWS CLI: `up` creates or updates the three stacks, `deploy` deploys the
# checked-out commit to the host, `down` deletes everything except the bucket and a snapshot of the warehouse.
# network.yaml, data.yaml and host.yaml define the stacks, spark.yaml an optional fourth; host.sh runs on the host.
set -euo pipefail
cd "$(dirname "$0")"

NAME=${DELAYWATCH_NAME:-delaywatch} # prefix of the stacks NAME-network, NAME-data, NAME-host, NAME-spark
BUNDLE=../../build/spark # made by `make spark-bundle`
UBUNTU=/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id
PATIENCE_S=3600 # timeout of a command on the host; an upgrade makes a backup and builds images
POLL_S=${POLL_S:-10}

usage() {
    cat >&2 <<'END'
Usage: deploy.sh up|deploy|down, with AWS_PROFILE and AWS_REGION (AWS_ENDPOINT_URL for a stand-in), and
  DOMAIN, CERTIFICATE     for the first `up`: the host name for browsers, the ARN of its certificate in ACM
  ALARM_EMAIL             recipient of the alarms
  NETWORK_PARAMETERS, DATA_PARAMETERS, HOST_PARAMETERS, SPARK_PARAMETERS
                          further parameters of the templates: DATA_PARAMETERS="InstanceClass=db.t4g.medium MultiAz=true"
  SPARK=yes               for `up`: also create or update the Glue job from build/spark/, see infra-notes/spark.md
  IMAGE                   for the first `up`: the ID of an Ubuntu 24.04 image instead of the newest
  RELEASE                 for the first `up`: https://host/path.git@TAG instead of the checked-out commit
  BACKUP=no               for `down`: skip the last backup, if the host cannot make one
  DELAYWATCH_NAME         prefix of the stacks, default delaywatch
  CONFIRM=yes             skip the question
END
    exit 2
}

fail() {
    printf 'Delaywatch: %s\n' "$*" >&2
    exit 1
}

confirm() { # confirm SENTENCE WORD: continue if the user types WORD
    printf '%s\n' "$1" >&2
    [ "${CONFIRM:-}" != yes ] || return 0
    local typed=
    read -rp "Type $2 to continue: " typed || true
    [ "$typed" = "$2" ] || fail "you did not type $2; nothing was changed."
}

log_in() {
    command -v aws >/dev/null || fail "the AWS CLI is missing; install it as https://docs.aws.amazon.com/cli/ describes."
    [ -n "${AWS_REGION:-}${AWS_DEFAULT_REGION:-}" ] || aws configure get region >/dev/null ||
        fail "the AWS region is not set; set AWS_REGION."
    ACCOUNT=$(aws sts get-caller-identity --query Account --output text) ||
        fail "AWS does not accept your credentials; log in, or set AWS_PROFILE."
}

STATES= # a line NAME STATE for each of our stacks that exists

look_at() { # look_at STACK...
    local stack answer
    for stack in "$@"; do
        if answer=$(aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].StackStatus' --output text 2>&1); then
            STATES+="$stack $answer"$'\n'
        elif [[ $answer != *"does not exist"* ]]; then
            fail "could not read the state of the stack $stack; check your rights and the network. AWS says: ${answer##*$'\n'}"
        fi
    done
}

state() { # state STACK: empty if it does not exist
    awk -v name="$1" '$1 == name { print $2 }' <<<"$STATES"
}

is_made() { # is_made STACK: it exists and is not the rest of a failed first attempt, which holds no data
    case $(state "$1") in "" | REVIEW_IN_PROGRESS | ROLLBACK_COMPLETE | ROLLBACK_FAILED) return 1 ;; esac
}

outputs() { # outputs STACK: one KEY VALUE on each line
    aws cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].Outputs[].[OutputKey, OutputValue]' --output text
}

pick() { # pick KEY OUTPUTS
    awk -v key="$1" '$1 == key { print $2 }' <<<"$2"
}

put() { # put STACK TEMPLATE PARAMETER=VALUE...: other parameters keep their values
    local stack=$1 template=$2
    shift 2
    if [ -n "$(state "$stack")" ] && ! is_made "$stack"; then
        echo "Deleting what a failed attempt left of the stack $stack." >&2
        remove "$stack"
    fi
    set -- ${1:+--parameter-overrides "$@"}
    aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_IAM \
        --no-fail-on-empty-changeset --tags "delaywatch=$NAME" "$@" ||
        fail "the stack $stack was not created or updated; \`aws cloudformation describe-stack-events --stack-name $stack\` shows \
the reason (of a host that did not start, for one hour: \`aws ec2 get-console-output --output text --instance-id i-...\`). \
Correct it and run this command again."
}

unprotect() { # unprotect STACK: switch off the deletion protection of its warehouse, if it has one
    local warehouse
    warehouse=$(aws cloudformation describe-stack-resources --stack-name "$1" --output text \
        --query "StackResources[?LogicalResourceId=='Warehouse' && ResourceStatus!='DELETE_COMPLETE'].PhysicalResourceId")
    [ -z "$warehouse" ] ||
        # Version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for RDS in us-east-1.
        aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} rds modify-db-instance --no-deletion-protection \
            --db-instance-identifier "$warehouse" --apply-immediately >/dev/null ||
        fail "could not switch off the deletion protection of the warehouse $warehouse, for the reason above; if it is stopped, start it."
}

remove() { # remove STACK
    unprotect "$1"
    aws cloudformation delete-stack --stack-name "$1"
    aws cloudformation wait stack-delete-complete --stack-name "$1" ||
        fail "the stack $1 was not deleted; \`aws cloudformation describe-stack-events --stack-name $1\` shows the reason. \
Correct it and run this command again."
}

protect() { # protect STACK LOGICAL-ID...: forbid updates that replace these resources and lose their data
    local stack=$1 id resources=
    shift
    for id in "$@"; do resources="$resources,\"LogicalResourceId/$id\""; done
    aws cloudformation set-stack-policy --stack-name "$stack" --stack-policy-body "{\"Statement\": [
        {\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"Update:*\", \"Resource\": \"*\"},
        {\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": [\"Update:Replace\", \"Update:Delete\"], \"Resource\": [${resources#,}]}]}"
}

version() { # the checked-out commit, in characters that are safe in a key and in a command
    local found
    found=$(git describe --always --tags 2>/dev/null) || fail "$PWD is not in a git clone; set RELEASE=https://host/path.git@TAG."
    printf '%s' "$found" | tr -c 'A-Za-z0-9._-' '-'
}

upload() { # upload BUCKET: upload the checked-out commit as an archive and print its key
    local key
    key=releases/$(version).tar.gz
    git diff --quiet HEAD || echo "The working tree has uncommitted changes; they are not deployed." >&2
    git -C "$(git rev-parse --show-toplevel)" archive --format=tar.gz HEAD | aws s3 cp --quiet - "s3://$1/$key" ||
        fail "could not upload the release to s3://$1/$key, for the reason above."
    echo "$key"
}

check_bundle() { # fail unless build/spark/ exists and is of the checked-out commit
    local built version
    [ -f "$BUNDLE/VERSION" ] || fail "build/spark/ is missing; run \`make spark-bundle\`, then this command again."
    built=$(cat "$BUNDLE/VERSION")
    version=$(version)
    [ "$built" = "$version" ] ||
        fail "build/spark/ is of $built, the checked-out commit is $version; run \`make spark-bundle\`, then this command again."
}

put_spark() { # put_spark BUCKET: upload build/spark/, create or update the Glue job, print the setting that uses it
    local bundle
    bundle=releases/spark-$(version)
    aws s3 cp --quiet --recursive "$BUNDLE" "s3://$1/$bundle" ||
        fail "could not upload build/spark/ to s3://$1/$bundle, for the reason above."
    # shellcheck disable=SC2086
    put "$NAME-spark" spark.yaml "DataStack=$NAME-data" "HostStack=$NAME-host" "Bundle=$bundle" ${SPARK_PARAMETERS:-}
    echo "  Glue job  DELAYWATCH_SILVER_JOB=$(pick Job "$(outputs "$NAME-spark")"), for the settings of the host: infra-notes/spark.md"
}

on_host() { # on_host HOST COMMAND: run it, wait, print its output; fail if it fails
    local id answer status why waited=0
    why=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$why'" EXIT
    id=$(aws ssm send-command --instance-ids "$1" --document-name AWS-RunShellScript --comment "$NAME" \
        --parameters "commands=[\"$2\"],executionTimeout=[\"$PATIENCE_S\"]" --query Command.CommandId --output text) ||
        fail "the host $1 accepts no commands; check that it runs and reaches AWS."
    while :; do
        answer=$(aws ssm get-command-invocation --command-id "$id" --instance-id "$1" \
            --query '[Status, StandardOutputContent, StandardErrorContent]' --output text 2>"$why") || {
            grep -q InvocationDoesNotExist "$why" || # AWS needs a moment until it knows the command
                fail "could not read the result of \`$2\` on the host (command $id); it may still run. AWS says: $(tail -n 1 "$why")"
            answer=Pending
        }
        status=${answer%%[[:space:]]*}
        case $status in Pending | InProgress | Delayed) ;; *) break ;; esac
        [ "$waited" -lt "$PATIENCE_S" ] || fail "\`$2\` did not end on the host within $PATIENCE_S seconds; look at command $id in Systems Manager."
        sleep "$POLL_S"
        waited=$((waited + POLL_S))
    done
    printf '%s\n' "${answer#"$status"}"
    [ "$status" = Success ] || fail "\`$2\` ended as $status on the host; its output above has the reason."
}

HOST_SH=/opt/delaywatch/current/infra-notes/cloudformation/host.sh

up() {
    local host=("NetworkStack=$NAME-network" "DataStack=$NAME-data") bucket release image made
    local stacks="$NAME-network, $NAME-data and $NAME-host"
    look_at "$NAME-network" "$NAME-data" "$NAME-host"
    if ! is_made "$NAME-host"; then
        [ -n "${DOMAIN:-}" ] && [ -n "${CERTIFICATE:-}" ] ||
            fail "DOMAIN or CERTIFICATE is not set; set DOMAIN to the host name for browsers, and CERTIFICATE to the ARN of its certificate in ACM."
    fi
    if [ "${SPARK:-}" = yes ]; then
        check_bundle
        look_at "$NAME-spark"
        stacks="$NAME-network, $NAME-data, $NAME-host and $NAME-spark"
    fi
    confirm "This creates or updates the stacks $stacks in account $ACCOUNT. They cost money from
the first hour on, about 160 dollars a month: infra-notes/costs.md." "$NAME"
    # shellcheck disable=SC2086
    put "$NAME-network" network.yaml ${NETWORK_PARAMETERS:-}
    # shellcheck disable=SC2086
    put "$NAME-data" data.yaml "NetworkStack=$NAME-network" ${DATA_PARAMETERS:-}
    protect "$NAME-data" Lake Warehouse
    bucket=$(pick Lake "$(outputs "$NAME-data")")
    if ! is_made "$NAME-host"; then
        release=${RELEASE:-$(upload "$bucket")} || exit 1
        image=${IMAGE:-$(aws ssm get-parameter --name "$UBUNTU" --query Parameter.Value --output text)} ||
            fail "could not look up the newest Ubuntu image; set IMAGE to the ID of an Ubuntu 24.04 image."
        host+=("Release=$release" "Image=$image")
    fi
    [ -z "${DOMAIN:-}" ] || host+=("Domain=$DOMAIN")
    [ -z "${CERTIFICATE:-}" ] || host+=("Certificate=$CERTIFICATE")
    [ -z "${ALARM_EMAIL:-}" ] || host+=("AlarmEmail=$ALARM_EMAIL")
    # shellcheck disable=SC2086
    put "$NAME-host" host.yaml "${host[@]}" ${HOST_PARAMETERS:-}
    protect "$NAME-host" Host
    made=$(outputs "$NAME-host")
    cat <<END
Delaywatch is up.
  Address   $(pick Url "$made"), once its DNS name points to $(pick Edge "$made")
  Host      aws ssm start-session --target $(pick Host "$made")
  Lake      s3://$bucket/lake
END
    [ "${SPARK:-}" != yes ] || put_spark "$bucket"
}

deploy() {
    look_at "$NAME-host"
    is_made "$NAME-host" || fail "the stack $NAME-host does not exist in account $ACCOUNT; create it with \`make aws-up\`."
    local release
    release=$(version)
    confirm "This deploys commit $release to $NAME-host in account $ACCOUNT and restarts Delaywatch there." "$NAME"
    release=$(upload "$(pick Lake "$(outputs "$NAME-data")")")
    on_host "$(pick Host "$(outputs "$NAME-host")")" "$HOST_SH release $release"
}

down() {
    local lake=
    look_at "$NAME-spark" "$NAME-host" "$NAME-data" "$NAME-network"
    [ -n "$(state "$NAME-host")$(state "$NAME-data")$(state "$NAME-network")" ] ||
        fail "the stacks $NAME-host, $NAME-data and $NAME-network do not exist in account $ACCOUNT; check DELAYWATCH_NAME and AWS_REGION."
    confirm "This deletes $NAME-host, $NAME-data, $NAME-network and the Glue job in account $ACCOUNT, with the secrets and the web page.
The bucket stays with its content, and a snapshot of the warehouse." "$NAME"
    if is_made "$NAME-host" && [ "${BACKUP:-}" != no ]; then
        (on_host "$(pick Host "$(outputs "$NAME-host")")" "$HOST_SH backup") ||
            fail "the host made no backup, for the reason above, so nothing was deleted; set BACKUP=no to delete without a backup."
    fi
    [ -z "$(state "$NAME-spark")" ] || remove "$NAME-spark"
    [ -z "$(state "$NAME-host")" ] || remove "$NAME-host"
    ! is_made "$NAME-data" || lake=$(pick Lake "$(outputs "$NAME-data")")
    [ -z "$(state "$NAME-data")" ] || remove "$NAME-data"
    [ -z "$(state "$NAME-network")" ] || remove "$NAME-network"
    echo "Delaywatch is deleted.${lake:+ These stay and cost money: s3://$lake, and the snapshot of the warehouse (aws rds describe-db-snapshots).}"
}

case ${1:-} in
    up | deploy | down) ;;
    *) usage ;;
esac
log_in
"$1"
