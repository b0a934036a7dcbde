#!/usr/bin/env bash
# From settings to a finished run: create, set up, start, watch, and start again after a preemption.
#
#   tpu_scripts/run.sh [--dry-run] [--delete] [JOB [WORD ...]]
#
# JOB is train_critic (if it is not given), align, judge or convert; words are given to its script.
# --delete deletes the pod when the job has ended, well or not; where it could not be started, the pod
# stays: another job may be running there.
#
# A pod that is taken away is asked for anew, and the run goes on from its newest state. A job that was
# told to stop, or that wrote nothing for STUCK_MINUTES, is started again. All of that RETRIES times
# at most. A job that fails on its own is not started again: the worker that failed first is named,
# with the end of its log. Ctrl-C leaves the pod and the job as they are, and says so; the same
# command then looks on. What happened: runs/pods/POD/log.
# Exit codes: 0 the job is done, 1 it failed or was given up, 2 a setting is wrong.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DELETE='' JOB='' JOB_WORDS=()
mine=()
for word in "$@"; do
  if [[ -n $JOB ]]; then
    # An option of this script is one wherever it stands.
    case $word in
      --delete) DELETE=1 ;;
      --dry-run | --help) mine+=("$word") ;;
      *) JOB_WORDS+=("$word") ;;
    esac
  else
    case $word in
      --delete) DELETE=1 ;;
      -*) mine+=("$word") ;;
      *) JOB=$word ;;
    esac
  fi
done
begin "${mine[@]}"
no_words
JOB=${JOB:-train_critic}
[[ $JOB =~ ^(train_critic|align|judge|convert)$ ]] || wrong "no job $JOB; there are train_critic, align, judge and convert"
# What is wrong with its words is told before there is a pod that costs money.
if ! said=$("$HERE/$JOB.sh" --dry-run "${JOB_WORDS[@]}" 2>&1); then
  printf '%s\n' "$said" >&2
  exit 2
fi
WORKERS=all COUNT=$((HOSTS * SLICES))
if [[ $JOB == convert ]]; then WORKERS=0 COUNT=1; fi
# The first node is enough for a job of one worker.
if ((COUNT == 1)); then NODES=$(nodes | head -n 1); else NODES=$(nodes); fi

OUTCOME='' REASON='' SEEN='' first=''

script() { # NAME WORD...: a script beside this one, its output in the same log
  local name=$1
  shift
  "$HERE/$name.sh" ${DRY:+--dry-run} "$@"
}

leave() {
  local code=$?
  trap - EXIT INT TERM
  [[ -z $SEEN ]] || rm -rf "$SEEN"
  if [[ -n $DELETE && $code != 130 ]]; then script delete --yes || code=1; else billed; fi
  exit "$code"
}
interrupted() {
  say "interrupted; a job that was started goes on, and the same command looks on"
  exit 130
}
trap leave EXIT
trap interrupted INT TERM

# Ask the job's workers; false if one does not answer. Their lines are left in SEEN.
ask() {
  local node
  rm -rf "${SEEN:?}"/*
  for node in $NODES; do
    mkdir -p "$SEEN/$node"
    # Not through tpu: a look every POLL seconds is not worth a line each.
    # A machine that hangs takes the connection and never answers.
    timeout --foreground "$ANSWER" gcloud compute tpus tpu-vm ssh "$node" "--worker=$WORKERS" "--command=$(worker state "$RUN")" \
      "--output-directory=$SEEN/$node" --project="$PROJECT" --zone="$ZONE" --quiet >"$SEEN/$node/said" 2>&1 || return 1
  done
  (($(answers | wc -l) == COUNT))
}

answers() { # NODE WORKER is code at size step host, a line each
  local file node
  for file in "$SEEN"/*/*.log; do
    node=$(basename "$(dirname "$file")")
    sed -n "s/^critic-worker is=\([^ ]*\) code=\([^ ]*\) at=\([^ ]*\) size=\([^ ]*\) step=\([^ ]*\) host=\([^ ]*\).*/$node $(basename "$file" .log) \1 \2 \3 \4 \5 \6/p" "$file" | tail -n 1
  done
}

number() { answers | awk -v is="$1" '$3 == is { n++ } END { print n + 0 }'; }
bad() { answers | awk '$3 == "ended" && $4 != 0'; }
# Where one is told to stop, the others may fail for want of it.
first_is_stopped() {
  [[ $(answers | awk '$3 == "stopped" || ($3 == "ended" && $4 != 0)' | sort -k5,5 | awk 'NR == 1 { print $3 }') == stopped ]]
}
seconds() { awk "BEGIN { printf \"%d\", $STUCK_MINUTES * 60 }"; }

# Look on until something must be done: OUTCOME is done, failed, gone (the pod), again (start the
# job once more, here) or silent (the workers do not answer).
watch() {
  local since=$SECONDS size before=-1 now patience
  patience=$(seconds)
  while :; do
    sleep "$POLL"
    now=$(state ACTIVE)
    if [[ $now != ACTIVE && $now != UNKNOWN ]]; then
      OUTCOME=gone REASON="the pod is $now"
      return
    fi
    if ask; then
      if [[ -n $(bad) || $(number lost) != 0 ]]; then
        # Processes of a machine that is taken away end before the service says why.
        sleep "$GRACE"
        now=$(state ACTIVE)
        if [[ $now != ACTIVE && $now != UNKNOWN ]]; then
          OUTCOME=gone REASON="the pod is $now"
        elif [[ -n $(bad) ]]; then
          ask || true # by now others may have failed, which may have been first
          if first_is_stopped; then OUTCOME=again REASON="the job was told to stop"; else OUTCOME=failed; fi
        else
          OUTCOME=again REASON="$(number lost) worker(s) were started anew"
        fi
        return
      elif (($(number running) == 0)); then
        if (($(number ended) == COUNT)); then OUTCOME='done'; else
          OUTCOME=again REASON="the job was told to stop"
        fi
        return
      fi
      size=$(answers | awk '$6 > n { n = $6 } END { printf "%.0f", n }')
      if [[ $size != "$before" ]]; then
        before=$size since=$SECONDS
        say "$(number running) of $COUNT workers are running, step $(answers | awk '$7 + 0 >= n { n = $7 + 0 } END { print n + 0 }')"
      elif ((SECONDS - since > patience)); then
        OUTCOME=again REASON="stuck: nothing was written for $STUCK_MINUTES minutes"
        return
      fi
    elif ((SECONDS - since > patience)); then
      OUTCOME=silent REASON="stuck: workers did not answer for $STUCK_MINUTES minutes"
      return
    else
      say "not all workers answer; asking again"
    fi
  done
}

name_the_first() {
  local node number code at
  first=$(bad | sort -k5,5 | head -n 1)
  read -r node number _ code at _ <<<"$first"
  say "error: worker $number of $node failed first, exit code $code at $(date -u -d "@$at" +%H:%M:%SZ 2>/dev/null || echo "$at"); its last words:"
  # Once more where the network fails once.
  again 3 tpu tpu-vm ssh "$node" "--worker=$number" "--command=$(worker log "$RUN")" 2>&1 | tee -a "$LOG" || true
  say "all logs: $HERE/logs.sh --fetch"
}

say "$JOB on $(what): create, set up, start, watch${DELETE:+, delete}; started again $RETRIES times at most"
if [[ -n $DRY ]]; then
  script create && script setup && script "$JOB" "${JOB_WORDS[@]}"
  say "then, every $POLL seconds, until the job has ended:"
  state ACTIVE >/dev/null
  tpu tpu-vm ssh "$(nodes | head -n 1)" "--worker=$WORKERS" "--command=$(worker state "$RUN")" --output-directory=SEEN
  exit 0
fi

SEEN=$(mktemp -d)
for ((attempt = 0; ; attempt++)); do
  fine=0
  script create || fine=$?
  ((fine != 2)) || exit 2
  ((fine == 0)) || { OUTCOME=gone REASON="the pod did not come"; }
  if ((fine == 0)); then
    # A pod may be taken away while it is set up.
    if script setup && POD_ATTEMPT=$(printf '%s-%03d' "$(date -u +%Y%m%dT%H%M%SZ)" "$attempt") script "$JOB" "${JOB_WORDS[@]}"; then
      watch
    elif [[ $(state ACTIVE) == ACTIVE ]]; then
      DELETE=''
      failed "the job could not be started (above)"
    else
      OUTCOME=gone REASON="the pod was taken away while it was set up"
    fi
  fi
  case $OUTCOME in
    done)
      say "done: $BUCKET/runs/$RUN; $HERE/fetch.sh copies it here"
      exit 0
      ;;
    failed)
      name_the_first
      on_workers "$WORKERS" "$(worker stop "$RUN")" >/dev/null || true
      exit 1
      ;;
  esac
  say "interrupted ($((attempt + 1)) of $RETRIES allowed): $REASON"
  ((attempt < RETRIES)) || failed "given up after $attempt restarts; the same command goes on from the newest state"
  case $OUTCOME in
    again) on_workers "$WORKERS" "$(worker stop "$RUN")" || say "not all workers answer; their jobs may have to be stopped by hand" ;;
    silent) script delete --yes || failed "the pod that does not answer could not be deleted" ;;
  esac
done
