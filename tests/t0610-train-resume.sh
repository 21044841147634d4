#!/bin/sh
# The training loop on a small invented task (train_toy): runs that are stopped, killed, out of space end with the bits of the undisturbed one.
# MM_CRASH_RUNS=50 for the long form.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
MM_CRASH_RUNS=${MM_CRASH_RUNS:-10}
export MM_CRASH_RUNS
cat >> "$test_dir/helpers" <<'HELPERS'
has() { grep -qF -- "$2" "$1" || { echo "no '$2' in $1:"; cat "$1"; return 1; }; } # FILE TEXT
no_leftovers() { for f in *.ckpt* *.tmp-*; do [ ! -e "$f" ] || { echo "left: $f"; return 1; }; done; } # no run is going on
wait_for() { for i in $(seq 3000); do sh -c "$1" 2>/dev/null && return 0; sleep 0.02; done; echo "in vain: $1"; return 1; } # CONDITION
toy() { train_toy "$@" steps=40 stages=2 validate=9; } # the run that all others are held against
HELPERS

test_ok 'an undisturbed run, the same with any number of threads' '
    toy whole metrics=whole.jsonl >out &&
    toy two threads=2 keep=1 >out2 &&
    cmp whole two && test_cmp out out2 &&
    no_leftovers &&
    test_json out ".[0].step == 80 and .[0].early == 0 and .[0].stopped == 0" &&
    train_toy wholelow steps=60 validate=9 lora=3 freeze=b1 >out'
test_ok 'metrics: a line each step, losses that were heard, validations' '
    test_json whole.jsonl "[.[] | select(.loss) | .step] == [range(1; 81)]" &&
    test_json whole.jsonl "[.[] | select(.validation) | .step] == [9, 18, 27, 36, 45, 54, 63, 72, 80]" &&
    test_json whole.jsonl ".[0].loss | has(\"mse\") and has(\"cosine\")" &&
    test_json whole.jsonl "[.[] | select(.lr) | .lr] | .[3] > .[0] and .[39] < 0.001 and .[40] == 0.01 and .[79] < 0.001" &&
    test_json whole.jsonl "[.[] | select(.stage)] | .[39].stage == \"first\" and .[40].stage == \"second\" and all(.[]; .grad_norm > 0 and .samples == 48)" &&
    test_json whole.jsonl "[.[] | select(.loss) | .loss.mse] | (.[70:80] | add) < 0.3 * (.[0:10] | add)"'
test_ok 'accumulation is in the mean: other sizes are other runs' '
    toy four accumulate=4 >out && must_fail cmp -s whole four'

cat > crash <<'RUN'
set -e
kills=0 runs=0
while [ "$kills" -lt "$MM_CRASH_RUNS" ]; do
    runs=$((runs + 1)) here=0
    rm -f killed
    while :; do
        train_toy killed steps=40 stages=2 validate=9 checkpoint=3 run=resume sleep=1 threads=$((1 + kills % 2)) keep=$((1 + runs % 2)) \
            metrics=killed.jsonl > out 2> err & p=$!
        dead=0
        if [ "$kills" -lt "$MM_CRASH_RUNS" ]; then
            # the longer it takes the more time it gets: a machine may be slow
            sleep "$(awk -v s="$kills" -v n="$here" 'BEGIN { srand(s); print 0.01 + rand() * 0.2 * (1 + n / 4) }')"
            if kill -9 "$p" 2> /dev/null; then dead=1; fi
        fi
        wait "$p" 2> /dev/null && code=0 || code=$?
        [ "$code" -ne 0 ] || break
        [ "$code" -eq 137 ] || { echo "exit status $code"; cat err; exit 1; }
        kills=$((kills + dead)) here=$((here + dead))
        # killed on its way out: the model is there, and nothing is left to go on from, but maybe the lock
        if [ -e killed ] && [ ! -e killed.ckpt ]; then rm -f killed.ckpt.lock; break; fi
    done
    cmp whole killed || { echo "after $kills kills"; exit 1; }
    jq -e -s '[.[] | select(.loss) | .step] == [range(1; 81)]' killed.jsonl > /dev/null || { echo 'metrics'; exit 1; }
    rm -f killed.ckpt killed.ckpt.1
done
RUN
test_ok "$MM_CRASH_RUNS kills at random instants: the same bits, each step once in the metrics" 'sh ./crash && no_leftovers'
test_ok 'what a run left of a model when it was killed in writing it goes with the next run' '
    : >swept.tmp-123-4 && : >swept.tmp-mine && : >swept.ckpt.new && toy swept >out && [ ! -e swept.tmp-123-4 ] && [ -e swept.tmp-mine ] && rm swept.tmp-mine && no_leftovers'

test_ok 'SIGTERM: the step is finished, a checkpoint written; goes on to the same bits' '
    train_toy term steps=40 stages=2 validate=9 sleep=3 metrics=term.jsonl >out & p=$!
    wait_for "[ \$(wc -l <term.jsonl) -ge 20 ]" &&
    kill -TERM $p && expect_code 7 wait $p &&
    test_json out ".[0].stopped == 1 and .[0].step < 80" && [ ! -e term ] && [ -e term.ckpt ] &&
    toy term run=resume metrics=term.jsonl >out && cmp whole term && no_leftovers &&
    test_json out ".[0].resumed > 0" &&
    test_json term.jsonl "[.[] | select(.loss) | .step] == [range(1; 81)]"'
test_ok 'a time limit stops likewise, additions of low rank go on too' '
    train_toy low steps=60 validate=9 lora=3 freeze=b1 sleep=2 max=0.08 run=resume >out || [ $? -eq 7 ] &&
    train_toy low steps=60 validate=9 lora=3 freeze=b1 sleep=2 max=0.08 run=resume >out || [ $? -eq 7 ] &&
    expect_code 0 train_toy low steps=60 validate=9 lora=3 freeze=b1 threads=2 run=resume >out && cmp low wholelow'

test_ok 'no space for a checkpoint: a warning, the one before survives, the run ends as it should' '
    expect_code 7 toy full stop=20 >out && cp full.ckpt was &&
    (ulimit -f 24 && expect_code 0 toy full run=resume >out 2>err) && cmp whole full &&
    has err "warning: no checkpoint at step" && has err "too large" && no_leftovers &&
    rm full && cp was full.ckpt &&
    (ulimit -f 24 && expect_code 3 toy full run=resume stop=30 >out 2>err) && has err "without a checkpoint" &&
    cmp full.ckpt was && [ ! -e full ] && toy full run=resume >out && cmp whole full && no_leftovers'
test_ok 'no space for the model: what it was made from is kept' '
    (ulimit -f 8 && expect_code 3 toy full2 >out 2>err) && [ ! -e full2 ] && has err MM_EIO && rm -f full2.ckpt &&
    expect_code 7 toy full2 stop=20 >out && expect_code 0 toy full2 run=resume >out && cmp whole full2 && no_leftovers'

test_ok 'what is there is not overwritten by mistake' '
    expect_code 7 toy x stop=20 >out && cp x.ckpt was &&
    expect_code 3 toy x 2>err && has err "--resume" && has err "--fresh" && cmp x.ckpt was &&
    expect_code 3 toy x run=resume lr=0.03 seed=2 2>err && has err "lr: 0.02, now 0.03; seed: 1, now 2" && cmp x.ckpt was &&
    expect_code 3 toy x run=resume freeze=w2 2>err && has err "w.w2" && cmp x.ckpt was &&
    expect_code 0 toy x run=fresh >out && cmp whole x && test_json out ".[0].resumed == 0" &&
    expect_code 3 toy x run=resume 2>err && has err "was it finished" && cmp whole x &&
    expect_code 0 toy y run=resume >out && cmp whole y && no_leftovers'
test_ok 'a damaged checkpoint is refused' '
    expect_code 7 toy bad stop=20 >out && cp bad.ckpt good &&
    printf "\001" | dd of=bad.ckpt bs=1 seek=20000 conv=notrunc 2>/dev/null && must_fail cmp -s bad.ckpt good &&
    expect_code 3 toy bad run=resume 2>err && has err damaged &&
    : >bad.ckpt && expect_code 3 toy bad run=resume 2>err && has err bad.ckpt && rm bad.ckpt'
test_ok 'two runs towards one file: the second is told' '
    train_toy lock sleep=20 >out & p=$!
    wait_for "[ -e lock.ckpt.lock ]" &&
    expect_code 3 toy lock run=fresh 2>err && has err MM_ELOCK && kill -TERM $p && expect_code 7 wait $p && rm -f lock.ckpt'
test_ok 'several checkpoints are kept' '
    toy keep keep=3 >out && ls keep.ckpt* >list && test_lines list 3 && mm-quantize --info --json keep.ckpt.2 >info &&
    test_json info ".[0].metadata.step == \"65\"" && cmp whole keep && rm keep.ckpt keep.ckpt.1 keep.ckpt.2'

test_ok 'early end for want of a better score; the best is kept' '
    train_toy early steps=400 validate=5 patience=3 lr=0.3 >out &&
    test_json out ".[0].early == 1 and .[0].step == .[0].saved + 15 and .[0].step < 400"'
test_ok 'gradients that are not finite: skipped with a warning, given up after 50 in a row' '
    expect_code 0 train_toy nan steps=20 nan=15 >out 2>err && test_json out ".[0].skipped == 6" && has err "not finite" &&
    expect_code 3 train_toy nan2 steps=200 nan=9 2>err && has err "50 steps in a row" && [ ! -e nan2 ] && [ -e nan2.ckpt ] && rm nan2.ckpt &&
    expect_code 0 train_toy nan3 steps=20 scaling=1 nan=15 metrics=m >out && test_json m "[.[] | select(.skipped) | .scale] == [1024,512,256,128,64,32]"'
test_ok 'a run by time ends in time' '
    expect_code 0 train_toy time seconds=1 sleep=10 metrics=m >out &&
    test_json m ".[-1].time >= 1 and (.[-1].lr < 0.4 * ([.[].lr] | max))"'
finish
