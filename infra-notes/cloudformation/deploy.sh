#!/usr/bin/env bash
# Delaywatch at AWS, from a clone and with the AWS CLI alone: `up` makes or updates the three stacks, `deploy` ships the
# commit that is checked out to the host, `down` takes everything away but the bucket and a snapshot of the warehouse.
# What is made is in network.yaml, data.yaml and host.yaml; what happens on the host is in host.sh.
set -euo pipefail
cd "$(dirname "$0")"

NAME=${DELAYWATCH_NAME:-delaywatch} # of the stacks: NAME-network, NAME-data, NAME-host
UBUNTU=/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id
PATIENCE_S=3600 # for a command on the host; an upgrade makes a backup and builds images
POLL_S=${POLL_S:-10}

usage() {
    cat >&2 <<'END'
Usage: deploy.sh up|deploy|down, with AWS's own AWS_PROFILE, AWS_REGION (and AWS_ENDPOINT_URL for a stand-in), and
  DOMAIN, CERTIFICATE     for the first `up`: the name that browsers type, the ARN of its certificate in ACM
  ALARM_EMAIL             who is told of alarms
  NETWORK_PARAMETERS, DATA_PARAMETERS, HOST_PARAMETERS
                          further ones of the templates: DATA_PARAMETERS="InstanceClass=db.t4g.medium MultiAz=true"
  IMAGE                   for the first `up`: the ID of an image of Ubuntu 24.04 instead of the newest
  RELEASE                 for the first `up`: https://host/path.git@TAG instead of the commit that is checked out
  BACKUP=no               for `down`: without a last backup, when the host cannot make one
  DELAYWATCH_NAME         of the stacks, else delaywatch
  CONFIRM=yes             do not ask
END
    exit 2
}

fail() {
    printf 'Delaywatch: %s\n' "$*" >&2
    exit 1
}

confirm() { # confirm SENTENCE WORD: goes on when WORD is typed
    printf '%s\n' "$1" >&2
    [ "${CONFIRM:-}" != yes ] || return 0
    local typed=
    read -rp "Type $2 to go on: " typed || true
    [ "$typed" = "$2" ] || fail "nothing was done."
}

log_in() {
    command -v aws >/dev/null || fail "there is no AWS CLI; install it as its documentation says."
    [ -n "${AWS_REGION:-}${AWS_DEFAULT_REGION:-}" ] || aws configure get region >/dev/null ||
        fail "no region is chosen; set AWS_REGION."
    ACCOUNT=$(aws sts get-caller-identity --query Account --output text) ||
        fail "AWS does not know you; log in, or set AWS_PROFILE."
}

STATES= # what AWS called our stacks when we looked: a line NAME STATE for each that is there

look_at() { # look_at STACK...
    local stack said
    for stack in "$@"; do
        if said=$(aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].StackStatus' --output text 2>&1); then
            STATES+="$stack $said"$'\n'
        elif [[ $said != *"does not exist"* ]]; then
            fail "it cannot be seen whether there is a stack $stack: ${said##*$'\n'}"
        fi
    done
}

state() { # state STACK: empty when it is not there
    awk -v name="$1" '$1 == name { print $2 }' <<<"$STATES"
}

is_made() { # is_made STACK: and not the rest of a first attempt that failed, which never held anything
    case $(state "$1") in "" | REVIEW_IN_PROGRESS | ROLLBACK_COMPLETE | ROLLBACK_FAILED) return 1 ;; esac
}

outputs() { # outputs STACK: one KEY VALUE on each line
    aws cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].Outputs[].[OutputKey, OutputValue]' --output text
}

pick() { # pick KEY OUTPUTS
    awk -v key="$1" '$1 == key { print $2 }' <<<"$2"
}

put() { # put STACK TEMPLATE PARAMETER=VALUE...: what is not given keeps its value
    local stack=$1 template=$2
    shift 2
    if [ -n "$(state "$stack")" ] && ! is_made "$stack"; then
        echo "$stack could not be made the last time; what is left of it is removed first." >&2
        remove "$stack"
    fi
    set -- ${1:+--parameter-overrides "$@"}
    aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_IAM \
        --no-fail-on-empty-changeset --tags "delaywatch=$NAME" "$@" ||
        fail "$stack could not be made; \`aws cloudformation describe-stack-events --stack-name $stack\` says why (of a host \
that did not get ready, for an hour: \`aws ec2 get-console-output --output text --instance-id i-...\`). Then run it again."
}

unprotect() { # unprotect STACK: its warehouse, if it has one, may be deleted
    local warehouse
    warehouse=$(aws cloudformation describe-stack-resources --stack-name "$1" --output text \
        --query "StackResources[?LogicalResourceId=='Warehouse' && ResourceStatus!='DELETE_COMPLETE'].PhysicalResourceId")
    [ -z "$warehouse" ] ||
        # In us-east-1 version 1 of the AWS CLI does not ask AWS_ENDPOINT_URL where RDS is.
        aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} rds modify-db-instance --no-deletion-protection \
            --db-instance-identifier "$warehouse" --apply-immediately >/dev/null ||
        fail "the warehouse keeps its protection against deletion; the line above says why."
}

remove() { # remove STACK
    unprotect "$1"
    aws cloudformation delete-stack --stack-name "$1"
    aws cloudformation wait stack-delete-complete --stack-name "$1" ||
        fail "$1 could not be deleted; \`aws cloudformation describe-stack-events --stack-name $1\` says why."
}

protect() { # protect STACK LOGICAL-ID...: no update may make these anew, because what they hold would be gone
    local stack=$1 id resources=
    shift
    for id in "$@"; do resources="$resources,\"LogicalResourceId/$id\""; done
    aws cloudformation set-stack-policy --stack-name "$stack" --stack-policy-body "{\"Statement\": [
        {\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"Update:*\", \"Resource\": \"*\"},
        {\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": [\"Update:Replace\", \"Update:Delete\"], \"Resource\": [${resources#,}]}]}"
}

version() { # the commit that is checked out, in letters that are safe in a key and in a command
    local found
    found=$(git describe --always --tags 2>/dev/null) || fail "this is no clone of git; set RELEASE=https://host/path.git@TAG."
    printf '%s' "$found" | tr -c 'A-Za-z0-9._-' '-'
}

upload() { # upload BUCKET: the commit that is checked out, as an archive there; says how it is called
    local key
    key=releases/$(version).tar.gz
    git diff --quiet HEAD || echo "What is not committed is not shipped." >&2
    git -C "$(git rev-parse --show-toplevel)" archive --format=tar.gz HEAD | aws s3 cp --quiet - "s3://$1/$key" ||
        fail "the release could not be put into s3://$1/$key."
    echo "$key"
}

on_host() { # on_host HOST COMMAND: waits for it and says what it said; fails when it does
    local id said status why waited=0
    why=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$why'" EXIT
    id=$(aws ssm send-command --instance-ids "$1" --document-name AWS-RunShellScript --comment "$NAME" \
        --parameters "commands=[\"$2\"],executionTimeout=[\"$PATIENCE_S\"]" --query Command.CommandId --output text) ||
        fail "the host $1 takes no commands; is it running, and does it reach AWS?"
    while :; do
        said=$(aws ssm get-command-invocation --command-id "$id" --instance-id "$1" \
            --query '[Status, StandardOutputContent, StandardErrorContent]' --output text 2>"$why") || {
            grep -q InvocationDoesNotExist "$why" || # it is not known everywhere at once
                fail "it cannot be seen what became of \`$2\` on the host (command $id): $(tail -n 1 "$why")"
            said=Pending
        }
        status=${said%%[[:space:]]*}
        case $status in Pending | InProgress | Delayed) ;; *) break ;; esac
        [ "$waited" -lt "$PATIENCE_S" ] || fail "the host has not ended \`$2\` within $PATIENCE_S seconds (command $id)."
        sleep "$POLL_S"
        waited=$((waited + POLL_S))
    done
    printf '%s\n' "${said#"$status"}"
    [ "$status" = Success ] || fail "\`$2\` ended as $status on the host; what it said stands above."
}

HOST_SH=/opt/delaywatch/current/infra-notes/cloudformation/host.sh

up() {
    local host=("NetworkStack=$NAME-network" "DataStack=$NAME-data") bucket release image made
    look_at "$NAME-network" "$NAME-data" "$NAME-host"
    if ! is_made "$NAME-host"; then
        [ -n "${DOMAIN:-}" ] && [ -n "${CERTIFICATE:-}" ] ||
            fail "set DOMAIN to the name that browsers will type, and CERTIFICATE to the ARN of its certificate in ACM."
    fi
    confirm "This makes or updates the stacks $NAME-network, $NAME-data and $NAME-host in account $ACCOUNT. They cost money from
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
            fail "the newest image of Ubuntu could not be looked up; set IMAGE to the ID of one."
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
  Address   $(pick Url "$made"), once the name leads to $(pick Edge "$made")
  Host      aws ssm start-session --target $(pick Host "$made")
  Lake      s3://$bucket/lake
END
}

deploy() {
    look_at "$NAME-host"
    is_made "$NAME-host" || fail "there is no stack $NAME-host; make it with \`up\`."
    local release
    release=$(version)
    confirm "This ships commit $release to $NAME-host in account $ACCOUNT and restarts Delaywatch there." "$NAME"
    release=$(upload "$(pick Lake "$(outputs "$NAME-data")")")
    on_host "$(pick Host "$(outputs "$NAME-host")")" "$HOST_SH release $release"
}

down() {
    local lake=
    look_at "$NAME-host" "$NAME-data" "$NAME-network"
    [ -n "$(state "$NAME-host")$(state "$NAME-data")$(state "$NAME-network")" ] ||
        fail "there is no stack $NAME-host, $NAME-data or $NAME-network in account $ACCOUNT; nothing was done."
    confirm "This deletes $NAME-host, $NAME-data and $NAME-network in account $ACCOUNT, with the secrets and the page that people use.
The bucket stays with all that is in it, and a snapshot of the warehouse." "$NAME"
    if is_made "$NAME-host" && [ "${BACKUP:-}" != no ]; then
        (on_host "$(pick Host "$(outputs "$NAME-host")")" "$HOST_SH backup") ||
            fail "without a backup of the host nothing was deleted; BACKUP=no goes on without one."
    fi
    [ -z "$(state "$NAME-host")" ] || remove "$NAME-host"
    ! is_made "$NAME-data" || lake=$(pick Lake "$(outputs "$NAME-data")")
    [ -z "$(state "$NAME-data")" ] || remove "$NAME-data"
    [ -z "$(state "$NAME-network")" ] || remove "$NAME-network"
    echo "Delaywatch is gone.${lake:+ What stays and costs: s3://$lake, and the snapshot of the warehouse (aws rds describe-db-snapshots).}"
}

case ${1:-} in
    up | deploy | down) ;;
    *) usage ;;
esac
log_in
"$1"
