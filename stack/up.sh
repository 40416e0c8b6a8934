#!/usr/bin/env bash
# Builds and starts the stack and prints its addresses. Each step is a function in stack/up/. A step that fails prints one
# message and ends this script with a non-zero exit code; the logs of the containers stay.
set -euo pipefail
cd -P "$(dirname "$0")/.."

for file in failure host rotation start finish; do
    # shellcheck source=/dev/null
    . "stack/up/$file.sh"
done

check_docker
check_clone
build_images
begin_rotation
start_containers
finish_rotation
restart_outdated
reload_nginx
load_demo_year
show_addresses
stack/backup-timer.sh
