#!/usr/bin/env bash
# Show the end of what the job says on each worker; gather all logs, earlier ones too.
#
#   tpu_scripts/logs.sh [--dry-run] [--worker N]
#   tpu_scripts/logs.sh [--dry-run] --fetch
#
# --fetch copies the logs of every worker and every start, which the workers send to the bucket once
# a minute and at their end, to runs/pods/POD/logs/RUN; it needs no pod.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
worker=all
case ${WORDS[*]} in
  '') ;;
  --worker*)
    worker=${WORDS[*]:1}
    [[ ${WORDS[0]} == --worker && $worker =~ ^[0-9]+$ ]] || wrong "${WORDS[*]}; it should be a worker's number, like --worker 0"
    ;;
  --fetch)
    run mkdir -p "runs/pods/$POD/logs/$RUN"
    storage rsync --recursive "$BUCKET/logs/$RUN" "runs/pods/$POD/logs/$RUN" ||
      failed "the logs could not be fetched (above)"
    exit 0
    ;;
  *) wrong "unknown words ${WORDS[*]}; see $ME --help" ;;
esac
on_workers "$worker" "$(worker log "$RUN")" || failed "not all workers answer; $ME --fetch shows what they sent before"
