#!/usr/bin/env bash
# Start the rounds of preference training of pod.env on every worker, and leave them there.
#
#   tpu_scripts/align.sh [--dry-run] [--field value ...]
#
# Words are fields of the config, behind those of FIELDS. Goes on where it was stopped; while it
# runs, the same again does nothing.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
[[ -n $CONFIG ]] || wrong "CONFIG is not set in pod.env; it should name a config of rounds"
read -ra changed <<<"$FIELDS"
start_job all "bucket/runs/$RUN" critic-jax align "$CONFIG" --output "bucket/runs/$RUN" \
  "${changed[@]}" "${WORDS[@]}"
