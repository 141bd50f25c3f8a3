/* The lease, fence and rescue protocol of Ganger, as a model for spin (Promela).
 *
 * Law: one atomic step here is one script call in Redis, one message read by a supervisor, or one decision of the
 * keeper; between any two of them anything else may happen. README.md beside this file says what is checked, what is
 * left out, and what each of the broken variants (-DNO_…) shows.
 *
 *   Redis        status, number of the run, owner, lease         lua/step.lua, recover.lua, rescue.lua
 *   Supervisor   its runs, its idea of its lease   services/pool/supervisor.py, step_pipeline.py
 *   Keeper       how long it has seen each lease   services/keeper/rounds.py
 *   Net          delivers, loses, delivers late    adapters/redis/wire/supervisor_link.py and the network
 *   Clock        one tick for everybody; a lease is L ticks
 *   Nemesis      a bounded number of faults, then peace
 */

#ifndef TASKS
#define TASKS 1
#endif
#ifndef CUTS
#define CUTS 2          /* of connections */
#endif
#ifndef CRASHES
#define CRASHES 1       /* of supervisors; each comes back under a new name */
#endif
#ifndef KEEPER_CRASHES
#define KEEPER_CRASHES 1
#endif
#ifndef JUMPS
#define JUMPS 1         /* of Redis's clock, forward past every lease */
#endif
#ifndef N
#define N 3             /* names of supervisors: two at first, the last is that of the one that comes back */
#endif
#define SLOTS 2
#ifdef LIVE
#define may_run(t) true         /* the faults are bounded, and so are the runs */
#else
#ifndef RUNS
#define RUNS 3
#endif
#define may_run(t) (number[t] < RUNS)
#endif
#ifndef L
#define L 2             /* ticks of a lease */
#endif
#define MARGIN 1        /* a supervisor fences itself with so many ticks left */

#define QUEUED 0
#define RUNNING 1
#define COMPLETED 2
#define FAILED 3
#define CANCELLED 4
#define is_final(t) (status[t] >= COMPLETED)

#if TASKS > 1
#define all_ended (is_final(0) && is_final(1))
#else
#define all_ended (is_final(0))
#endif

#define NONE 0          /* phases of a run in its supervisor, the last four being how it will be settled */
#define EXECUTING 1
#define COMPLETE 2
#define RELEASE 3
#define FAIL 4
#define CANCEL 5

#define STEP 1
#define RECOVER 2

#define at(s, t) ((s) * TASKS + (t))
#define NOW 0
#define LATE (N * TASKS)

/* Redis */
byte status[TASKS], number[TASKS], owner[TASKS];
byte lease[N];                  /* ticks until the lease is over by Redis's clock */

/* what an onlooker counts */
byte accepted[TASKS], executing[TASKS];
#ifdef ONCE
bool started[TASKS];
#define note_start(t) assert(!started[t]); started[t] = true    /* max_deliveries=1: never started a second time */
#else
#define note_start(t) skip
#endif

/* supervisors */
bool up[N], linked[N], fenced[N], differs[N];
byte left[N];                   /* ticks until the lease is over, as the supervisor counts: from when it sent */
byte mine[N * TASKS];           /* number of the run that it knows, 0 for none */
byte phase[N * TASKS];
bool foreign[N * TASKS];

/* the request under way, and its answer */
byte request[N], request_left[N];
bool done[N], wants[N];
byte told_run[2 * N * TASKS], told[2 * N * TASKS];  /* the second half: of the late one */
byte claimed[N], claimed_run[N], held[N];

/* a request of a connection that its supervisor has given up, which may still arrive: once, late, unanswered */
byte late[N], late_left[N];
bool late_wants[N];
bool outdated[N];               /* a recover that was sent after it has been heeded: by number, in recover.lua */

/* keeper */
byte seen[N];                   /* for how many ticks it has seen this lease unchanged */
bool deciding;                  /* it has read a task and is about to call rescue.lua */
byte doomed, doomed_run, doomed_owner;

byte i, n, ignored, ignored_run;                /* scratch: zero between steps */

byte cuts = CUTS, crashes = CRASHES, keeper_crashes = KEEPER_CRASHES, jumps = JUMPS;
#ifdef LIVE
bool peace;
#define make_peace() peace = true
#else                                           /* what nobody asks for is no part of the state */
#define make_peace() skip
#endif

/* ---- the rules, each with its broken variant ---------------------------------------------------------------- */

#ifdef NO_RUN_NUMBER            /* broken: any supervisor may settle what runs */
#define is_fenced(s, t, nth) true
#else
#define is_fenced(s, t, nth) (number[t] == nth && owner[t] == s)
#endif
#ifdef NO_RECOVER_NUMBER        /* broken: a late recover is heeded, and releases what was claimed after it was sent */
#define is_outdated(s, which) false
#else
#define is_outdated(s, which) (which == LATE && outdated[s])
#endif
#ifdef RESCUE_AT_ONCE           /* broken: takes over without waiting for a lease */
#define lapsed(s) true
#define watched(s) true
#else
#define lapsed(s) (lease[s] == 0)
#ifdef BELIEVE_THE_CLOCK        /* broken: goes by Redis's clock alone */
#define watched(s) true
#else
#define watched(s) (seen[s] >= L)
#endif
#endif
#ifdef START_LATE               /* broken: starts what an answer brought that was longer under way than the lease */
#define covers(s) true
#else
#define covers(s) (left[s] > MARGIN)
#endif
#ifdef FORGET_DECIDED           /* broken: what has ended and is still to be told is not mentioned in a recover */
#define known(s, t) (phase[at(s, t)] == EXECUTING -> mine[at(s, t)] : 0)
#else
#define known(s, t) mine[at(s, t)]
#endif

#define has(s, t) (status[t] == RUNNING && owner[t] == s)
#define holds(s) (has(s, 0) || has(s, TASKS - 1))
#define runs(s) (phase[at(s, 0)] == EXECUTING || phase[at(s, TASKS - 1)] == EXECUTING)

/* What does not matter now is zero, so that states which differ in nothing else are one: the lease of a supervisor
 * that holds nothing, and what one that runs nothing believes of it. */
inline tidy() {
    for (i : 0 .. N - 1) {
        if
        :: !holds(i) -> lease[i] = 0; seen[i] = 0
        :: else
        fi;
        if
        :: !runs(i) -> left[i] = 0
        :: else
        fi;
        if
        :: !holds(i) && !wants[i] && !runs(i) -> request_left[i] = 0
        :: else
        fi;
        if
        :: !holds(i) && !late_wants[i] -> late_left[i] = 0
        :: else
        fi
    }
    i = 0; n = 0; ignored = 0; ignored_run = 0
}

/* ---- Redis: the scripts ------------------------------------------------------------------------------------- */

inline accept(t, end) {
    status[t] = end;
    accepted[t]++;
    assert(accepted[t] <= 1)                    /* never two accepted outcomes */
}

inline settle(s, t, nth, how) {
    if
    :: how != NONE && status[t] == RUNNING && is_fenced(s, t, nth) ->
        if
        :: how == COMPLETE -> accept(t, COMPLETED)
        :: how == FAIL -> accept(t, FAILED)
        :: how == RELEASE -> status[t] = QUEUED
        :: how == CANCEL -> assert(false)       /* what is ended as foreign is foreign */
        fi
    :: else                                     /* STALE or ALREADY */
    fi
}

inline count_held(s, total) {
    total = 0;
    for (i : 0 .. TASKS - 1) {
        if
        :: status[i] == RUNNING && owner[i] == s -> total++
        :: else
        fi
    }
}

inline step_lua(s, which, want, its_left, name_of_claimed, number_of_claimed) {
    lease[s] = its_left;
    seen[s] = 0;                                /* the keeper will see another end of the lease */
    for (i : 0 .. TASKS - 1) { settle(s, i, told_run[which + at(s, i)], told[which + at(s, i)]) }
    name_of_claimed = 0;
    number_of_claimed = 0;
    for (i : 0 .. TASKS - 1) {
        if
        :: want && name_of_claimed == 0 && status[i] == QUEUED && may_run(i) ->
            status[i] = RUNNING;
            number[i]++;
            assert(number[i] < 255);            /* it must not begin anew */
            owner[i] = s;
            name_of_claimed = i + 1;
            number_of_claimed = number[i]
        :: else
        fi
    }
}

inline recover_lua(s, which) {
    for (i : 0 .. TASKS - 1) {
        if
        :: status[i] == RUNNING && owner[i] == s && told_run[which + at(s, i)] != number[i] &&
           !is_outdated(s, which) -> status[i] = QUEUED
        :: else
        fi
    }
    outdated[s] = which == NOW && late[s] == RECOVER
}

inline rescue_lua() {
    if
    :: status[doomed] == RUNNING && number[doomed] == doomed_run && owner[doomed] == doomed_owner &&
       lapsed(doomed_owner) ->
#ifdef ONCE
        accept(doomed, FAILED)
#else
        status[doomed] = QUEUED
#endif
    :: else                                     /* ALIVE or MOVED_ON */
    fi
}

/* ---- the network -------------------------------------------------------------------------------------------- */

inline forget(s) {
    request[s] = 0; done[s] = false; wants[s] = false; request_left[s] = 0;
    claimed[s] = 0; claimed_run[s] = 0; held[s] = 0;
    for (i : 0 .. TASKS - 1) { told_run[at(s, i)] = 0; told[at(s, i)] = NONE }
}

inline forget_late(s) {
    late[s] = 0; late_wants[s] = false; late_left[s] = 0; outdated[s] = false;
    for (i : 0 .. TASKS - 1) { told_run[LATE + at(s, i)] = 0; told[LATE + at(s, i)] = NONE }
}

proctype Net(byte s) {
end:
    do
    :: d_step { request[s] == STEP && !done[s] ->
        step_lua(s, NOW, wants[s], request_left[s], claimed[s], claimed_run[s]);
        count_held(s, held[s]);
        done[s] = true; tidy(); skip }
    :: d_step { request[s] == RECOVER && !done[s] ->
        recover_lua(s, NOW);
        for (i : 0 .. TASKS - 1) {              /* the answer: what it knows that is not its own */
            foreign[at(s, i)] = told_run[at(s, i)] != 0 &&
                !(status[i] == RUNNING && number[i] == told_run[at(s, i)] && owner[i] == s)
        }
        done[s] = true; tidy(); skip }
    :: d_step { late[s] == STEP ->
        step_lua(s, LATE, late_wants[s], late_left[s], ignored, ignored_run);
        forget_late(s); tidy(); skip }
    :: d_step { late[s] == RECOVER -> recover_lua(s, LATE); forget_late(s); tidy(); skip }
    od
}

/* ---- a supervisor ------------------------------------------------------------------------------------------- */

inline count_known(s, total) {
    total = 0;
    for (i : 0 .. TASKS - 1) {
        if
        :: mine[at(s, i)] != 0 -> total++
        :: else
        fi
    }
}

inline start(s, t, which) {
    mine[at(s, t)] = which;
    phase[at(s, t)] = EXECUTING;
    executing[t]++;
    assert(executing[t] <= 1);                  /* never two runs of a task at once */
    note_start(t)
}

inline end_run(s, t, how) {
    phase[at(s, t)] = how;
    executing[t]--
}

inline put_down(s) {                            /* every run of it is ended, by us */
    for (i : 0 .. TASKS - 1) {
        if
        :: phase[at(s, i)] == EXECUTING ->
#ifdef ONCE
            end_run(s, i, FAIL)
#else
            end_run(s, i, RELEASE)
#endif
        :: else
        fi
    }
}

inline send_step(s) {
    count_known(s, n);
    for (i : 0 .. TASKS - 1) {
        if
        :: phase[at(s, i)] >= COMPLETE -> told_run[at(s, i)] = mine[at(s, i)]; told[at(s, i)] = phase[at(s, i)]
        :: else
        fi
    }
    wants[s] = n < SLOTS && !fenced[s];
    request_left[s] = L;
    request[s] = STEP;
    done[s] = false
}

inline send_recover(s) {
    for (i : 0 .. TASKS - 1) { told_run[at(s, i)] = known(s, i) }
    request_left[s] = L;
    request[s] = RECOVER;
    done[s] = false;
    differs[s] = false
}

inline stepped(s) {
    for (i : 0 .. TASKS - 1) {                  /* settled or refused: told, either way */
        if
        :: told[at(s, i)] != NONE -> mine[at(s, i)] = 0; phase[at(s, i)] = NONE; foreign[at(s, i)] = false
        :: else
        fi
    }
    fenced[s] = false;
    left[s] = request_left[s];
    if
    :: claimed[s] != 0 && mine[at(s, claimed[s] - 1)] == 0 && covers(s) ->
        start(s, claimed[s] - 1, claimed_run[s])
    :: else                                     /* not ours to start: the difference will be seen */
    fi;
    count_known(s, n);
    differs[s] = n != held[s];
    forget(s)
}

inline recovered(s) {
    for (i : 0 .. TASKS - 1) {
        if
        :: foreign[at(s, i)] && phase[at(s, i)] == EXECUTING -> end_run(s, i, CANCEL)
        :: else
        fi;
        foreign[at(s, i)] = false
    }
    forget(s)
}

#define must_fence(s) (up[s] && runs(s) && left[s] <= MARGIN)

#define to_tell(s) (phase[at(s, 0)] >= COMPLETE || phase[at(s, TASKS - 1)] >= COMPLETE)
#define unlike(s, t) ((mine[at(s, t)] != 0) != has(s, t))
#define waits(t) (status[t] == QUEUED && may_run(t))
#if TASKS > 1
#define matters(s) (to_tell(s) || fenced[s] || (runs(s) && left[s] < L) || waits(0) || waits(1) || unlike(s, 0) || unlike(s, 1))
#else
#define matters(s) (to_tell(s) || fenced[s] || (runs(s) && left[s] < L) || waits(0) || unlike(s, 0))
#endif

proctype Supervisor(byte s) {
end:
    do
    :: d_step { up[s] && linked[s] && request[s] == 0 && !differs[s] && matters(s) -> send_step(s); tidy(); skip }
#ifdef NO_RECOVER
    :: d_step { up[s] && linked[s] && differs[s] && request[s] == 0 -> differs[s] = false; tidy(); skip }
    :: d_step { up[s] && !linked[s] -> linked[s] = true; tidy(); skip }
#else
    :: d_step { up[s] && linked[s] && differs[s] && request[s] == 0 -> send_recover(s); tidy(); skip }
    :: d_step { up[s] && !linked[s] -> linked[s] = true; send_recover(s); tidy(); skip }
#endif
    :: d_step { up[s] && request[s] == STEP && done[s] -> stepped(s); tidy(); skip }
    :: d_step { up[s] && request[s] == RECOVER && done[s] -> recovered(s); tidy(); skip }
#ifndef NO_SELF_FENCE                           /* broken: lets its runs go on when it cannot renew */
    :: d_step { must_fence(s) -> fenced[s] = true; put_down(s); tidy(); skip }
#endif
    od
}

proctype Workers(byte s) {
end:
    do
    :: d_step { phase[at(s, 0)] == EXECUTING -> end_run(s, 0, COMPLETE); tidy(); skip }
#if TASKS > 1
    :: d_step { phase[at(s, 1)] == EXECUTING -> end_run(s, 1, COMPLETE); tidy(); skip }
#endif
    od
}

/* ---- the keeper --------------------------------------------------------------------------------------------- */

#define doomable(t) (!deciding && status[t] == RUNNING && lapsed(owner[t]) && watched(owner[t]))

inline look_at(t) {
    deciding = true; doomed = t; doomed_run = number[t]; doomed_owner = owner[t]
}

proctype Keeper() {
end:
    do
    :: d_step { doomable(0) -> look_at(0); tidy(); skip }
#if TASKS > 1
    :: d_step { doomable(1) -> look_at(1); tidy(); skip }
#endif
    :: d_step { deciding -> rescue_lua(); deciding = false; doomed = 0; doomed_run = 0; doomed_owner = 0; tidy(); skip }
    od
}

/* ---- time --------------------------------------------------------------------------------------------------- */

#ifdef NO_SELF_FENCE
#define too_late(s) false
#else
#define too_late(s) must_fence(s)               /* the assumption: a fence that is due is over within the margin */
#endif
#define silent(s) (up[s] && linked[s] && runs(s) && request[s] == 0 && left[s] < L)   /* it beats within a tick */
#ifdef LIVE                                     /* and for progress: what is connected asks, and has its answer, within a tick */
#define awaited(s) (up[s] && (linked[s] -> request[s] != 0 || differs[s] || matters(s) : peace))
#else
#define awaited(s) false
#endif

inline pass(timer) {
    if
    :: timer > 0 -> timer--
    :: else
    fi
}

proctype Clock() {
end:
    do
    :: d_step { !all_ended && !(silent(0) || silent(1) || silent(N - 1)) && !(too_late(0) || too_late(1) || too_late(N - 1)) && !(awaited(0) || awaited(1) || awaited(N - 1)) ->
        for (i : 0 .. N - 1) {
            pass(lease[i]);
            pass(left[i]);
            pass(request_left[i]);
            pass(late_left[i]);
            if
            :: seen[i] < L -> seen[i]++
            :: else
            fi
        }; tidy(); skip }
    od
}

/* ---- what goes wrong ---------------------------------------------------------------------------------------- */

inline delay(s) {                               /* what was sent will arrive late */
    late[s] = request[s]; late_wants[s] = wants[s]; late_left[s] = request_left[s];
    for (i : 0 .. TASKS - 1) { told_run[LATE + at(s, i)] = told_run[at(s, i)]; told[LATE + at(s, i)] = told[at(s, i)] }
}

inline cut(s) {                                 /* what was sent is lost, or its answer */
    linked[s] = false;
    for (i : 0 .. TASKS - 1) { foreign[at(s, i)] = false }
    forget(s)
}

inline crash(s) {                               /* the kernel ends the workers with their supervisor */
    put_down(s);
    up[s] = false; linked[s] = false; fenced[s] = false; differs[s] = false; left[s] = 0;
    for (i : 0 .. TASKS - 1) { mine[at(s, i)] = 0; phase[at(s, i)] = NONE; foreign[at(s, i)] = false }
    forget(s);
    up[N - 1] = true; left[N - 1] = L           /* its root starts another, which joins like any */
}

proctype Nemesis() {
    do
    :: d_step { cuts > 0 && up[0] && linked[0] -> cuts--; cut(0); tidy(); skip }
    :: d_step { cuts > 0 && up[0] && linked[0] && request[0] != 0 && !done[0] && late[0] == 0 -> cuts--; delay(0); cut(0); tidy(); skip }
#ifndef LIVE                                    /* both are alike: for what holds of all runs, one of them is enough */
    :: d_step { cuts > 0 && up[1] && linked[1] -> cuts--; cut(1); tidy(); skip }
    :: d_step { cuts > 0 && up[1] && linked[1] && request[1] != 0 && !done[1] && late[1] == 0 -> cuts--; delay(1); cut(1); tidy(); skip }
#endif
    :: d_step { crashes > 0 && up[0] -> crashes--; crash(0); tidy(); skip }
    :: d_step { keeper_crashes > 0 -> keeper_crashes--; deciding = false; doomed = 0; doomed_run = 0; doomed_owner = 0;
        for (i : 0 .. N - 1) { seen[i] = 0 }; tidy(); skip }
    :: d_step { jumps > 0 -> jumps--; for (i : 0 .. N - 1) { lease[i] = 0 }; tidy(); skip }
    :: break
    od;
    make_peace()
}

init {
    atomic {
        up[0] = true; left[0] = L;
#ifndef LONE                                    /* with it, and two names: one supervisor, and the one that comes back */
        up[1] = true; left[1] = L;
#endif
        run Supervisor(0); run Supervisor(1);
        run Net(0); run Net(1);
        run Workers(0); run Workers(1);
#if N > 2
        run Supervisor(2); run Net(2); run Workers(2);
#endif
        run Keeper(); run Clock(); run Nemesis()
    }
}

#ifdef LIVE
ltl every_task_ends { <> all_ended }
#endif
