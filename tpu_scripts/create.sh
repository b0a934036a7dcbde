#!/usr/bin/env bash
# Ask for the pod that pod.env describes, and wait until it is there.
#
#   tpu_scripts/create.sh [--dry-run]
#
# Makes the bucket if it is not there. A pod that is there already is left as it is; a request whose
# chips were taken away, or that failed, is replaced. A request that is not met within WAIT_MINUTES
# runs out and is removed. Exit codes: 0 the pod is there, 1 it did not come, 2 it was refused.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
no_words

bucket() {
  if storage buckets describe "$BUCKET" >/dev/null && [[ -z $DRY ]]; then
    return
  fi
  say "making the bucket $BUCKET"
  # With folders of its own a bucket renames one in one step, as a finished checkpoint needs.
  storage buckets create "$BUCKET" --location="${ZONE%-*}" \
    --uniform-bucket-level-access --enable-hierarchical-namespace ||
    wrong "the bucket $BUCKET could not be made (above); nothing else was asked for"
}

request() {
  local words=("--accelerator-type=$ACCELERATOR" "--runtime-version=$RUNTIME"
    "--valid-until-duration=${WAIT_MINUTES}m")
  if ((SLICES == 1)); then words+=("--node-id=$POD"); else
    words+=("--node-count=$SLICES" "--node-prefix=$POD")
  fi
  [[ $BILLING == on-demand ]] || words+=("--$BILLING")
  say "asking for $(what), for $WAIT_MINUTES minutes at most"
  tpu queued-resources create "$POD" "${words[@]}" && return
  # A quota, a type that the zone lacks: the same would be refused again.
  trap billed EXIT
  wrong "the service refused the request (above); other settings, or quota, are needed"
}

remove() {
  again 3 tpu queued-resources delete "$POD" --force ||
    failed "the old request could not be removed; again: $HERE/delete.sh"
}

wait_for_it() {
  local now before=''
  while :; do
    now=$(state ACTIVE)
    [[ $now == "$before" ]] || say "$POD is $now"
    before=$now
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDED | SUSPENDING | NONE) return 1 ;;
    esac
    sleep "$POLL"
  done
}

trap 'trap - INT TERM; billed; exit 130' INT TERM
say "$(what) in $ZONE, of project $PROJECT"
bucket
case $(state NONE) in
  ACTIVE) say "$(what) is there already" ;;
  NONE) request ;;
  SUSPENDED | SUSPENDING | FAILED)
    say "the chips of an earlier request are gone; it is replaced"
    remove
    request
    ;;
  *) say "there is a request already; waiting for it" ;;
esac
if ! wait_for_it; then
  gcloud compute tpus queued-resources describe "$POD" --project="$PROJECT" --zone="$ZONE" \
    '--format=yaml(state)' --quiet 2>&1 | tee -a "$LOG" || true
  trap billed EXIT
  remove
  failed "$(what) did not come (above)"
fi
say "$(what) is there and BILLED until it is deleted: $HERE/delete.sh"
