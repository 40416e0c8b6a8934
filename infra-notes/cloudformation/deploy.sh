#!/usr/bin/env bash
# Delaywatch at AWS, from a clone and with the AWS CLI alone: `up` makes or updates the three stacks, `deploy` ships the
# commit that is checked out to the host, `down` takes everything away but the bucket and a snapshot of the warehouse.
# What is made is in network.yaml, data.yaml and host.yaml; what happens on the host is in host.sh.
set -euo pipefail
cd "$(dirname "$0")"

NAME=${NAME:-delaywatch} # of the stacks: NAME-network, NAME-data, NAME-host
UBUNTU=/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id
PATIENCE_S=3600 # for a command on the host; an upgrade makes a backup and builds images
POLL_S=${POLL_S:-10}

usage() {
    cat >&2 <<'END'
Usage: deploy.sh up|deploy|down, with AWS's own AWS_PROFILE, AWS_REGION (and AWS_ENDPOINT_URL for a stand-in), and
  DOMAIN, CERTIFICATE     for the first `up`: the name that browsers type, the ARN of its certificate in ACM
  ALARM_EMAIL             who is told of alarms
  NETWORK, DATA, HOST     further parameters of the three templates: DATA="InstanceClass=db.t4g.medium MultiAz=true"
  IMAGE                   for the first `up`: the ID of an image of Ubuntu 24.04 instead of the newest
  RELEASE                 for the first `up`: https://host/path.git@TAG instead of the commit that is checked out
  NAME                    of the stacks, else delaywatch
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

check_account() {
    command -v aws >/dev/null || fail "there is no AWS CLI; install it as its documentation says."
    [ -n "$(aws configure get region || true)${AWS_REGION:-}${AWS_DEFAULT_REGION:-}" ] ||
        fail "no region is chosen; set AWS_REGION."
    ACCOUNT=$(aws sts get-caller-identity --query Account --output text) ||
        fail "AWS does not know you; log in, or set AWS_PROFILE."
}

exists() { # exists STACK
    aws cloudformation describe-stacks --stack-name "$1" >/dev/null 2>&1
}

output() { # output STACK KEY
    aws cloudformation describe-stacks --stack-name "$1" --query "Stacks[0].Outputs[?OutputKey=='$2'].OutputValue" --output text
}

put() { # put STACK TEMPLATE PARAMETER=VALUE...: what is not given keeps its value
    local stack=$1 template=$2
    shift 2
    set -- ${1:+--parameter-overrides "$@"}
    aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_IAM \
        --no-fail-on-empty-changeset --tags "delaywatch=$NAME" "$@" ||
        fail "$stack could not be made; \`aws cloudformation describe-stack-events --stack-name $stack\` says why."
}

protect() { # protect STACK LOGICAL-ID...: no update may make these anew, because what they hold would be gone
    local stack=$1 id resources=
    shift
    for id in "$@"; do resources="$resources,\"LogicalResourceId/$id\""; done
    aws cloudformation set-stack-policy --stack-name "$stack" --stack-policy-body "{\"Statement\": [
        {\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"Update:*\", \"Resource\": \"*\"},
        {\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": [\"Update:Replace\", \"Update:Delete\"], \"Resource\": [${resources#,}]}]}"
}

upload() { # the commit that is checked out, as an archive in the bucket; says how it is called there
    local commit bucket
    git diff --quiet HEAD || echo "What is not committed is not shipped." >&2
    commit=$(git describe --always --tags) || fail "this is no clone of git; set RELEASE=https://host/path.git@TAG."
    bucket=$(output "$NAME-data" Lake)
    git -C "$(git rev-parse --show-toplevel)" archive --format=tar.gz HEAD |
        aws s3 cp --quiet - "s3://$bucket/releases/$commit.tar.gz" || fail "the release could not be put into s3://$bucket/releases/."
    echo "releases/$commit.tar.gz"
}

on_host() { # on_host COMMAND: waits for it and says what it said; fails when it does
    local host id status waited=0
    host=$(output "$NAME-host" Host)
    id=$(aws ssm send-command --instance-ids "$host" --document-name AWS-RunShellScript --comment "$NAME" \
        --parameters "commands=[\"$1\"],executionTimeout=[\"$PATIENCE_S\"]" --query Command.CommandId --output text) ||
        fail "the host $host takes no commands; is it running, and does it reach AWS?"
    while :; do
        status=$(aws ssm get-command-invocation --command-id "$id" --instance-id "$host" --query Status --output text 2>/dev/null) ||
            status=Pending # it is not known everywhere at once
        case $status in Pending | InProgress | Delayed) ;; *) break ;; esac
        [ "$waited" -lt "$PATIENCE_S" ] || fail "the host has not ended \`$1\` within $PATIENCE_S seconds (command $id)."
        sleep "$POLL_S"
        waited=$((waited + POLL_S))
    done
    aws ssm get-command-invocation --command-id "$id" --instance-id "$host" --query '[StandardOutputContent, StandardErrorContent]' --output text
    [ "$status" = Success ] || fail "\`$1\` ended as $status on the host; what it said stands above."
}

HOST_SH=/opt/delaywatch/current/infra-notes/cloudformation/host.sh

up() {
    local host=("NetworkStack=$NAME-network" "DataStack=$NAME-data") release image is_new=
    exists "$NAME-host" || is_new=yes
    if [ "$is_new" ]; then
        [ -n "${DOMAIN:-}" ] && [ -n "${CERTIFICATE:-}" ] ||
            fail "set DOMAIN to the name that browsers will type, and CERTIFICATE to the ARN of its certificate in ACM."
    fi
    confirm "This makes or updates the stacks $NAME-network, $NAME-data and $NAME-host in account $ACCOUNT. They cost money from
the first hour on: infra-notes/costs.md." "$NAME"
    # shellcheck disable=SC2086
    put "$NAME-network" network.yaml ${NETWORK:-}
    # shellcheck disable=SC2086
    put "$NAME-data" data.yaml "NetworkStack=$NAME-network" ${DATA:-}
    protect "$NAME-data" Lake Warehouse
    if [ "$is_new" ]; then
        release=${RELEASE:-$(upload)} || exit 1
        image=${IMAGE:-$(aws ssm get-parameter --name "$UBUNTU" --query Parameter.Value --output text)} ||
            fail "the newest image of Ubuntu could not be looked up; set IMAGE to the ID of one."
        host+=("Release=$release" "Image=$image")
    fi
    [ -z "${DOMAIN:-}" ] || host+=("Domain=$DOMAIN")
    [ -z "${CERTIFICATE:-}" ] || host+=("Certificate=$CERTIFICATE")
    [ -z "${ALARM_EMAIL:-}" ] || host+=("AlarmEmail=$ALARM_EMAIL")
    # shellcheck disable=SC2086
    put "$NAME-host" host.yaml "${host[@]}" ${HOST:-}
    protect "$NAME-host" Host
    cat <<END
Delaywatch is up.
  Address   $(output "$NAME-host" Url), once the name leads to $(output "$NAME-host" Edge)
  Host      aws ssm start-session --target $(output "$NAME-host" Host)
  Lake      s3://$(output "$NAME-data" Lake)/lake
END
}

deploy() {
    exists "$NAME-host" || fail "there is no stack $NAME-host; make it with \`up\`."
    confirm "This ships commit $(git describe --always --tags) to $NAME-host in account $ACCOUNT and restarts Delaywatch there." "$NAME"
    local release
    release=$(upload)
    on_host "$HOST_SH release $release"
}

down() {
    local stack lake=
    for stack in host data network; do exists "$NAME-$stack" && break || stack=; done
    [ "$stack" ] || fail "there is no stack $NAME-host, $NAME-data or $NAME-network in account $ACCOUNT; nothing was done."
    confirm "This deletes $NAME-host, $NAME-data and $NAME-network in account $ACCOUNT, with the secrets and the page that people use.
The bucket stays with all that is in it, and a snapshot of the warehouse." "$NAME"
    if exists "$NAME-host"; then
        if [ "${BACKUP:-}" != no ]; then
            (on_host "$HOST_SH backup") ||
                fail "without a backup of the host nothing was deleted; BACKUP=no goes on without one."
        fi
        remove "$NAME-host"
    fi
    if exists "$NAME-data"; then
        lake=$(output "$NAME-data" Lake)
        aws rds modify-db-instance --db-instance-identifier "$(output "$NAME-data" Warehouse)" --no-deletion-protection \
            --apply-immediately >/dev/null
        remove "$NAME-data"
    fi
    ! exists "$NAME-network" || remove "$NAME-network"
    echo "Delaywatch is gone.${lake:+ What stays and costs: s3://$lake, and the snapshot of the warehouse (aws rds describe-db-snapshots).}"
}

remove() { # remove STACK
    aws cloudformation delete-stack --stack-name "$1"
    aws cloudformation wait stack-delete-complete --stack-name "$1" ||
        fail "$1 could not be deleted; \`aws cloudformation describe-stack-events --stack-name $1\` says why."
}

case ${1:-} in
    up | deploy | down) ;;
    *) usage ;;
esac
check_account
"$1"
