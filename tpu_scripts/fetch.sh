#!/usr/bin/env bash
# Copy a run from the bucket to this machine: the trained model, metrics, curves; not its states.
#
#   tpu_scripts/fetch.sh [--dry-run] [FOLDER]
#
# FOLDER is runs/RUN if it is not given. What is there already is not fetched again. Needs no pod.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
((${#WORDS[@]} <= 1)) || wrong "give one folder at most"
target=${WORDS[0]:-runs/$RUN}
[[ -n $DRY ]] || mkdir -p "$target"
storage rsync --recursive '--exclude=^(state|damaged)/.*' "$BUCKET/runs/$RUN" "$target" ||
  failed "$BUCKET/runs/$RUN could not be fetched (above); the same again goes on"
say "$BUCKET/runs/$RUN is in $target; curves: tensorboard --logdir $target/tensorboard"
