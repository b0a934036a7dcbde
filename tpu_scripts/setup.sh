#!/usr/bin/env bash
# Install critic_jax on every worker of the pod, and mount the bucket there.
#
#   tpu_scripts/setup.sh [--dry-run]
#
# What is installed is the last commit of this clone. Versions of all packages are worked out once, from
# pyproject.toml, and kept in the bucket: every worker, and every pod after this one, has the same.
# What is installed already is left as it is.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
no_words

revision=$(git -C "$HERE" rev-parse --short=12 HEAD) || wrong "$HERE is not in a git clone"
packages=$(git -C "$HERE" rev-parse --short=12 HEAD:pyproject.toml)
name=critic_jax-$revision.tar.gz
if ! git -C "$HERE" diff --quiet HEAD -- ..; then
  say "note: this clone has changes that are not committed; commit $revision is installed, without them"
fi

send() {
  local archive=runs/pods/$POD/$name
  run mkdir -p "runs/pods/$POD" &&
    run git -C "$HERE/.." archive --format=tar.gz --prefix=critic_jax/ --output="$PWD/$archive" "$revision" &&
    storage cp --no-clobber "$archive" "$BUCKET/install/$name"
}

copy() {
  local node fine=0
  for node in $(nodes); do
    tpu tpu-vm scp "$HERE/worker.sh" "$node:critic-worker.sh" --worker=all || fine=1
  done
  return "$fine"
}

first() {
  tpu tpu-vm ssh "$(nodes | head -n 1)" --worker=0 \
    "--command=$(worker lock "$BUCKET" "$revision" "$packages")"
}

trap 'trap - INT TERM; billed; exit 130' INT TERM
say "installing commit $revision on $(what)"
again 3 send || failed "the source could not be sent to $BUCKET"
again 5 copy || failed "not all workers can be reached; the same again is safe"
again 3 first || failed "the versions could not be worked out on the first worker (above)"
again 3 on_workers all "$(worker setup "$BUCKET" "$revision" "$packages")" ||
  failed "not all workers are set up (above); the same again is safe"
say "all workers have commit $revision with the packages of $BUCKET/install/$packages.txt; $POD is BILLED until it is deleted: $HERE/delete.sh"
