#!/usr/bin/env bash
# Run on the host on AWS: fetch releases, write .env, install systemd units, send metrics, make backups.
# UserData in host.yaml calls it once with `install`; systemd and deploy.sh call the other commands. Every command can be
# repeated. The scripts in stack/ start and upgrade the stack itself. Run as root, on Ubuntu 24.04.
set -euo pipefail
umask 077

HOME_DIR=${DELAYWATCH_HOME:-/opt/delaywatch} # releases/NAME/, current -> one of them, backups/
CONF=${DELAYWATCH_CONF:-/etc/delaywatch/host.conf} # names of bucket, secrets and host, written by UserData; it has no secret
UNITS=${DELAYWATCH_UNITS:-/etc/systemd/system}
AGENT=${DELAYWATCH_AGENT:-/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl}
PUBLIC_LAYER=10.0.0.0/23 # in network.yaml; the subnets of the load balancer
KEPT_RELEASES=3
KEPT_BACKUPS=3
AGENT_KEY=937616F3450B7D806CBD9725D58167303B789C72 # AWS signs its CloudWatch agent with it

fail() {
    printf 'Delaywatch: %s\n' "$*" >&2
    exit 1
}

# shellcheck source=/dev/null
[ ! -r "$CONF" ] || . "$CONF"
for name in BUCKET REGION DOMAIN SECRETS_PREFIX WAREHOUSE_SECRET SETTINGS_SECRET; do
    [ -n "${!name:-}" ] || fail "$name is missing in $CONF; reboot, so that UserData writes the file again."
done
export AWS_DEFAULT_REGION=$REGION PATH=$PATH:/snap/bin HOME=${HOME:-/root} # systemd and SSM set no HOME

# --- the release ------------------------------------------------------------------------------------------------------

name_of() { # name_of RELEASE: the name of its folder
    case $1 in
        releases/*.tar.gz) basename "$1" .tar.gz ;;
        https://*.git@*) printf '%s' "${1##*@}" | tr -c 'A-Za-z0-9._-' '-' ;;
        *) fail "$1 is not the name of a release; use releases/NAME.tar.gz, an archive in s3://$BUCKET, or https://host/path.git@TAG." ;;
    esac
}

fetch() { # fetch RELEASE FOLDER: afterwards FOLDER has the whole release, or does not exist
    local work=$2.part
    mkdir "$work"
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    case $1 in
        releases/*) aws s3 cp --quiet "s3://$BUCKET/$1" - | tar -xz -C "$work" ;;
        *) git clone --quiet --depth 1 --branch "${1##*@}" "${1%@*}" "$work" ;;
    esac || fail "$1 could not be fetched, for the reason above; deploy it again."
    [ -x "$work/stack/up.sh" ] || fail "$1 is not a release of Delaywatch, because it has no stack/up.sh; check the archive or the tag."
    chmod -R a+rX "$work" # containers read nginx/ and stack/ as other users
    mv "$work" "$2"
}

settings() { # print the lines of .env: lake, warehouse, and the variables of the settings secret
    local warehouse more kwargs
    warehouse=$(secret "$WAREHOUSE_SECRET" | jq -re \
        'if all(.username, .password, .host, .port, .dbname; . != null)
         then "postgresql://\(.username | @uri):\(.password | @uri)@\(.host):\(.port)/\(.dbname)?sslmode=require" else empty end') ||
        fail "the secret $WAREHOUSE_SECRET needs username, password, host, port and dbname; add the missing ones."
    more=$(secret "$SETTINGS_SECRET" | jq -r \
        'to_entries[] | if (.value | tostring | test("[\u0027\n]")) then error(.key) else "\(.key)=\u0027\(.value)\u0027" end') ||
        fail "the secret $SETTINGS_SECRET must be a JSON object {\"NAME\": \"value\", ...} with values of one line and without '; correct it."
    # RDS's secret calls the database dbname. The pattern keeps other connections from costing a request each.
    kwargs=$(jq -nc --arg prefix "$SECRETS_PREFIX" --arg region "$REGION" '{
        connections_prefix: "\($prefix)/connections", connections_lookup_pattern: "^(warehouse|smtp_default|alert_webhook)$",
        variables_prefix: "\($prefix)/variables", config_prefix: null,
        extra_conn_words: {schema: ["dbname"]}, region_name: $region}')
    cat <<END
# Written by infra-notes/cloudformation/host.sh at every start; add further variables to the secret $SETTINGS_SECRET.
DELAYWATCH_LOCAL=0
DELAYWATCH_LAKE=s3://$BUCKET/lake
DELAYWATCH_LOGS=s3://$BUCKET/logs
AWS_DEFAULT_REGION=$REGION
DELAYWATCH_WAREHOUSE='$warehouse'
DELAYWATCH_HOST=$DOMAIN
DELAYWATCH_BIND=0.0.0.0
DELAYWATCH_TRUSTED_PROXY=$PUBLIC_LAYER
AIRFLOW_SECRETS_BACKEND=airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend
AIRFLOW_SECRETS_BACKEND_KWARGS='$kwargs'
$more
END
}

secret() { # secret NAME-OR-ARN
    aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text
}

write_settings() { # write_settings FOLDER
    settings >"$1/.env.new" # the umask makes it readable for root only
    mv "$1/.env.new" "$1/.env"
}

enter() { # go to the current release
    [ -e "$HOME_DIR/current" ] || fail "this host has no release yet; run: host.sh release releases/NAME.tar.gz"
    cd "$(readlink -e "$HOME_DIR/current")"
}

release() { # release RELEASE: fetch and start it; from then on a reboot starts it
    local name folder
    name=$(name_of "$1")
    folder=$HOME_DIR/releases/$name-$(date -u +%Y%m%dT%H%M%SZ) # never overwrite the current one
    mkdir -p "$HOME_DIR/releases" "$HOME_DIR/backups"
    fetch "$1" "$folder"
    ln -sfn "$HOME_DIR/backups" "$folder/backups"
    write_settings "$folder"
    if [ -e "$HOME_DIR/current" ]; then
        "$folder/stack/upgrade.sh" ||
            fail "$name did not start, for the reason above. A reboot starts $(basename "$(readlink "$HOME_DIR/current")"); the backup of before is in $HOME_DIR/backups."
    else
        "$folder/stack/up.sh" || fail "$name did not start, for the reason above; correct it and deploy again."
    fi
    ln -sfn "$folder" "$HOME_DIR/current.new"
    mv -T "$HOME_DIR/current.new" "$HOME_DIR/current"
    delete_old "$HOME_DIR/releases" "$KEPT_RELEASES"
    docker image prune --force >/dev/null # each build leaves the previous images without a name
    "$folder/infra-notes/cloudformation/host.sh" units # the units of this release, not of the previous one
    echo "$name runs."
}

delete_old() { # delete_old FOLDER KEEP: keep the newest, and the current release at any age
    local path
    find "$1" -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn | tail -n "+$(($2 + 1))" | cut -d ' ' -f 2- |
        while read -r path; do
            [ "$path" = "$(readlink -e "$HOME_DIR/current")" ] || rm -rf "$path"
        done
}

start() { # at boot, with the current values of Secrets Manager
    enter
    write_settings .
    stack/up.sh
}

# --- metrics and backups ----------------------------------------------------------------------------------------------

put_metric() { # put_metric NAME VALUE
    aws cloudwatch put-metric-data --namespace Delaywatch \
        --metric-data "MetricName=$1,Value=$2,Dimensions=[{Name=InstanceId,Value=$(instance)}]"
}

instance() {
    local at=${DELAYWATCH_METADATA:-http://169.254.169.254} token
    token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$at/latest/api/token")
    curl -fsS -H "X-aws-ec2-metadata-token: $token" "$at/latest/meta-data/instance-id"
}

watch() { # send no metric without a value; the alarm notices that it is missing
    local failed
    enter
    failed=$(docker compose exec -T postgres psql --username=postgres --dbname=airflow --tuples-only --no-align --command \
        "SELECT count(*) FROM dag_run WHERE state = 'failed' AND end_date > now() - interval '1 day'") ||
        fail "could not count the failed runs in Airflow's database; see \`docker compose ps\` and \`docker compose logs postgres\`."
    put_metric FailedRuns "$failed"
    if docker compose exec -T health python -m utils health; then # the only service with all settings that the check needs
        put_metric Unhealthy 0
    else
        put_metric Unhealthy 1
    fi
}

backup() {
    local made
    enter
    stack/backup.sh
    made=$(find "$HOME_DIR/backups" -maxdepth 1 -name 'delaywatch-*.tar' | sort | tail -n 1)
    aws s3 cp --quiet "$made" "s3://$BUCKET/backups/$(basename "$made")"
    delete_old "$HOME_DIR/backups" "$KEPT_BACKUPS"
    put_metric Backups 1
    echo "s3://$BUCKET/backups/$(basename "$made")"
}

# --- the machine ------------------------------------------------------------------------------------------------------

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install docker.io docker-buildx docker-compose-v2 git gnupg jq make unattended-upgrades
    systemctl enable --now docker
}

install_agent() { # the CloudWatch agent, which measures disk and memory
    local at="https://amazoncloudwatch-agent-$REGION.s3.$REGION.amazonaws.com" work status
    work=$(mktemp -d)
    if [ ! -x "$AGENT" ]; then
        curl -fsS -o "$work/agent.deb" "$at/ubuntu/amd64/latest/amazon-cloudwatch-agent.deb"
        curl -fsS -o "$work/agent.deb.sig" "$at/ubuntu/amd64/latest/amazon-cloudwatch-agent.deb.sig"
        curl -fsS -o "$work/agent.gpg" https://amazoncloudwatch-agent.s3.amazonaws.com/assets/amazon-cloudwatch-agent.gpg
        gpg --homedir "$work" --quiet --import "$work/agent.gpg"
        status=$(gpg --homedir "$work" --status-fd 1 --verify "$work/agent.deb.sig" "$work/agent.deb" 2>/dev/null) || true
        grep -q "^\[GNUPG:\] VALIDSIG .*$AGENT_KEY" <<<"$status" ||
            fail "the CloudWatch agent from $at is not signed with AWS's key $AGENT_KEY and was not installed; check the source."
        dpkg --install "$work/agent.deb"
    fi
    cat >"$work/agent.json" <<'END'
{
  "agent": {"metrics_collection_interval": 60},
  "metrics": {
    "namespace": "Delaywatch",
    "append_dimensions": {"InstanceId": "${aws:InstanceId}"},
    "aggregation_dimensions": [["InstanceId"]],
    "metrics_collected": {
      "disk": {"resources": ["/"], "measurement": ["used_percent"], "drop_device": true},
      "mem": {"measurement": ["mem_used_percent"]}
    }
  }
}
END
    "$AGENT" -a fetch-config -m ec2 -s -c "file:$work/agent.json"
    rm -rf "$work"
}

unit() { # unit NAME: write the unit from stdin
    (umask 022 && cat >"$UNITS/$1")
}

install_units() {
    local self=$HOME_DIR/current/infra-notes/cloudformation/host.sh
    # No ExecStop: Docker restarts containers that nobody stopped, even if up.sh cannot reach a registry.
    unit delaywatch.service <<END
[Unit]
Description=Delaywatch: the stack of docker-compose.yaml
Requires=docker.service
After=docker.service network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$self start
Restart=on-failure
RestartSec=2min
TimeoutStartSec=30min

[Install]
WantedBy=multi-user.target
END
    unit delaywatch-watch.service <<END
[Unit]
Description=Delaywatch: failed runs and health to CloudWatch

[Service]
Type=oneshot
ExecStart=$self watch
TimeoutStartSec=4min
END
    unit delaywatch-watch.timer <<END
[Timer]
OnBootSec=10min
OnUnitActiveSec=5min

[Install]
WantedBy=timers.target
END
    unit delaywatch-backup.service <<END
[Unit]
Description=Delaywatch: secrets and databases of the host to the bucket

[Service]
Type=oneshot
ExecStart=$self backup
TimeoutStartSec=1h
END
    unit delaywatch-backup.timer <<END
[Timer]
OnCalendar=*-*-* 03:30
RandomizedDelaySec=30min
Persistent=true

[Install]
WantedBy=timers.target
END
    systemctl daemon-reload
    systemctl enable delaywatch.service
    systemctl enable --now delaywatch-watch.timer delaywatch-backup.timer
}

case ${1:-} in
    install)
        [ -n "${2:-}" ] || fail "the release is missing; run: host.sh install releases/NAME.tar.gz"
        umask 022 # files of packages must be readable
        install_packages
        install_agent
        umask 077
        release "$2"
        systemctl start delaywatch.service
        backup
        ;;
    release)
        [ -n "${2:-}" ] || fail "the release is missing; run: host.sh release releases/NAME.tar.gz"
        release "$2"
        ;;
    units) install_units ;;
    start | watch | backup | settings) "$1" ;;
    *) fail "the command '${1:-}' is unknown; use: host.sh install|release RELEASE, or host.sh start|watch|backup|settings|units" ;;
esac
