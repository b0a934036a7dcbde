#!/usr/bin/env bash
# Delete the pod, or withdraw its request; asks first. The bucket and all that is in it stay.
#
#   tpu_scripts/delete.sh [--dry-run] [--yes]
#
# --yes does not ask.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
no_words
now=$(state ACTIVE)
if [[ $now == NONE ]]; then
  say "no pod $POD is there, none is billed; the bucket $BUCKET stays, and is"
  exit 0
fi
say "this deletes $(what), which is $now, with all that is on its disks; a job that runs there ends"
if [[ -z $YES && -z $DRY ]]; then
  read -r -p "Delete $POD? [y/N] " answer || answer=''
  [[ $answer == [yY]* ]] || { billed; failed "nothing was deleted"; }
fi
trap billed EXIT
again 3 tpu queued-resources delete "$POD" --force || failed "$POD could not be deleted (above)"
[[ -n $DRY ]] || [[ $(state NONE) == NONE ]] || failed "$POD is still there; again: $HERE/delete.sh"
say "the bucket $BUCKET stays, and is billed for what it holds"
