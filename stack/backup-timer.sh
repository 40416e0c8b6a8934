#!/usr/bin/env bash
# Add a crontab line that runs stack/backup-daily.sh every hour, or remove it if DELAYWATCH_BACKUP is empty:
# backup-timer.sh [off]. `make up` calls it and copies the first backup at once, which shows a wrong destination immediately.
set -euo pipefail
cd -P "$(dirname "$0")/.."

mark="# Delaywatch in $PWD"

cron_line() { # in a crontab, % ends the command
    local setting settings=""
    for setting in COMPOSE_FILE COMPOSE_PROJECT_NAME COMPOSE_PROFILES; do # if they are set in the shell and not in .env
        [ -z "${!setting:-}" ] || settings+=$(printf '%s=%q ' "$setting" "${!setting}")
    done
    printf '17 * * * * cd %q && mkdir -p backups && %sPATH=%q stack/backup-daily.sh >>backups/daily.log 2>&1 %s' "$PWD" "$settings" "$PATH" "$mark" |
        sed 's/%/\\%/g'
}

set_cron_line() { # set_cron_line LINE: replace the line; remove it if LINE is empty
    local before after
    command -v crontab >/dev/null || return 1
    before=$(crontab -l 2>/dev/null || true)
    after=$(MARK=$mark awk 'substr($0, length - length(ENVIRON["MARK"]) + 1) != ENVIRON["MARK"]' <<<"$before")
    [ -z "$1" ] || after+=${after:+$'\n'}$1
    [ "$before" = "$after" ] || crontab - <<<"$after"
}

place=""
[ "${1:-}" = off ] || place=$(docker compose run --rm --no-deps -T setup python -m stack backup place)
if [ -z "$place" ]; then
    set_cron_line "" || true # without cron there is no line to remove
    exit 0
fi
set_cron_line "$(cron_line)" ||
    echo "This host has no crontab command, so the daily backup is not scheduled. Install cron and run \`make up\`, or run $PWD/stack/backup-daily.sh every hour with another scheduler." >&2
[ "$(cat backups/.copied 2>/dev/null)" = "$place" ] || rm -f backups/.copied
stack/backup-daily.sh
