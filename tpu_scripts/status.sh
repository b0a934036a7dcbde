#!/usr/bin/env bash
# Tell what the pod and its job are doing, and what is billed.
#
#   tpu_scripts/status.sh [--dry-run]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
no_words
trap billed EXIT
now=$(state ACTIVE)
say "$(what) is $now"
if [[ $now == ACTIVE ]]; then
  on_workers all "$(worker state "$RUN")" || say "not all workers answer"
fi
