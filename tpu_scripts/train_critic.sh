#!/usr/bin/env bash
# Start the training run of pod.env on every worker, and leave it there.
#
#   tpu_scripts/train_critic.sh [--dry-run] [--field value ...]
#
# Words are fields of the config, behind those of FIELDS. The run goes on from its newest state in
# BUCKET/runs/RUN. While it runs there, the same again does nothing. To be started again after a
# preemption it needs run.sh.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
[[ -n $CONFIG ]] || wrong "CONFIG is not set in pod.env; docs/training.md names the ones that come along"
read -ra changed <<<"$FIELDS"
start_job all "bucket/runs/$RUN/metrics.jsonl" critic-jax train "$CONFIG" --output "bucket/runs/$RUN" \
  ${DATA:+--data "$DATA"} ${INIT:+--init "$INIT"} "${changed[@]}" "${WORDS[@]}"
