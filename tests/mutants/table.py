"""One-line bugs, and the tests that must find each of them. A bug that was fixed adds its mutant here."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """In the file `path`, the text `old`, which stands there once, becomes `new`; `tests` are arguments for pytest."""

    path: str
    old: str
    new: str
    tests: str

    @property
    def name(self) -> str:
        return f"{self.path.rpartition('/')[2]}: {' '.join(self.old.split())[:70]}"


CORE, LUA, REDIS = "engine/core/", "engine/adapters/redis/lua/", "engine/adapters/redis/"
POOL, KEEPER = "engine/services/pool/", "engine/services/keeper/"
RETRY, FORMATS, STAGE = "tests/unit/test_retry.py", "tests/unit/test_formats.py", "tests/unit/test_pool.py"
DISPATCH, SUPERVISION = "tests/property/test_dispatch_machine.py", "tests/property/test_supervision_machine.py"
DECISIONS, STEPPING = "tests/unit/test_dispatch.py", "tests/unit/test_stepping.py"
MAKING_WAY = "tests/unit/test_preemption.py"
STEP, REFUSALS, KEEPING = (f"tests/scripts/test_{name}.py" for name in ("step", "refusals", "keeping"))
INSIST = "tests/scripts/test_insist.py"
SUBMIT, MENDING, ROUNDS = "tests/scripts/test_submit.py", "tests/scripts/test_mend.py", "tests/unit/test_rounds.py"

MUTANTS = [
    # -- the core -------------------------------------------------------------------------------------------------
    Mutant(CORE + "lifecycle.py", "TaskStatus.COMPLETED: {},",
           "TaskStatus.COMPLETED: {Move.REVIVE: TaskStatus.QUEUED},", "tests/unit/test_lifecycle.py"),
    Mutant(CORE + "lifecycle.py", "Move.RELEASE: TaskStatus.QUEUED,", "Move.RELEASE: TaskStatus.RETRYING,",
           f"{STEP} -k release"),
    Mutant(CORE + "retry.py", "crashes + 1 >= policy.max_crashes", "crashes + 1 > policy.max_crashes", RETRY),
    Mutant(CORE + "retry.py", "attempts < policy.max_retries", "attempts <= policy.max_retries", RETRY),
    Mutant(CORE + "retry.py", "run < policy.max_deliveries", "run <= policy.max_deliveries", RETRY),
    Mutant(CORE + "retry.py", "* (1 - self.jitter * chance)", "* (1 + self.jitter * chance)", RETRY),
    Mutant(CORE + "restart.py", "<= self.intensity", "< self.intensity", RETRY),
    Mutant(CORE + "restart.py", "self._restarts[0] < now_s - self.period_s", "self._restarts[0] < now_s", RETRY),
    Mutant(CORE + "ending.py", "        del self.runs[run.task_id]\n", "", DISPATCH),
    Mutant(CORE + "ending.py", "if doom is Cause.TIMEOUT:", "if doom is Cause.CANCELLED:", DECISIONS),
    Mutant(CORE + "ending.py", "run.number >= run.policy.retry.max_deliveries",
           "run.number > run.policy.retry.max_deliveries", DECISIONS),
    Mutant(CORE + "dispatch.py", " or slot.phase is Phase.DYING:\n            return  # too late",
           ":\n            return  # too late", DECISIONS),
    Mutant(CORE + "dispatch.py", "slot.doom if position == 0 else None", "slot.doom", DECISIONS),
    Mutant(CORE + "dispatch.py", "if run is None or run.cancelled is not None:", "if run is None:", DECISIONS),
    Mutant(CORE + "dispatch.py", "if slot.limits is limits and slot.runs", "if slot.runs", f"{DECISIONS} -k before"),
    Mutant(CORE + "dispatch.py", "if slot.limits is not None and not runs:", "if slot.limits is not None:",
           f"{DECISIONS} -k together"),
    Mutant(CORE + "dealing.py", "limits is slot.limits or limits == slot.limits", "True", f"{DECISIONS} -k others"),
    Mutant(CORE + "preemption.py", "run.priority < _URGENT and", "run.priority <= _URGENT and",
           f"{MAKING_WAY} -k lowest"),
    Mutant(CORE + "preemption.py", "victim.frozen_bytes <= left", "victim.frozen_bytes < left",
           f"{MAKING_WAY} -k so_much"),
    Mutant(CORE + "preemption.py", "        slot.since_s += frozen_s\n", "", f"{MAKING_WAY} -k deadlines"),
    Mutant(CORE + "preemption.py", "not slot.runs or slot.phase in _PASSING", "not slot.runs",
           f"{MAKING_WAY} -k about_to_be_free"),
    Mutant(CORE + "resizing.py", "load.wait_s >= WAIT_S and not load.idle", "load.wait_s >= WAIT_S",
           "tests/unit/test_resizing.py -k grows"),
    Mutant(CORE + "resizing.py", "and slot.runs[0].cancelled is None", "", "tests/unit/test_resizing.py -k cancelled"),
    Mutant(CORE + "dealing.py", "len(slot.runs) < window", "len(slot.runs) <= window", DECISIONS),
    Mutant(CORE + "fate.py", "run >= max_deliveries", "run > max_deliveries", f"{KEEPING} -k twice"),
    Mutant(CORE + "fate.py", "rescues >= RESCUES_MAX", "rescues > RESCUES_MAX", f"{KEEPING} -k too_often"),
    Mutant(CORE + "fate.py", "if cancel_reason is not None:", "if cancel_reason == '':", f"{KEEPING} -k cancelled"),
    Mutant(CORE + "frames.py", "        if len(pieces) != self._count:\n            return None\n", "",
           "tests/unit/test_frames.py"),
    Mutant(CORE + "identity.py", "number << 5 | _VALUES", "number << 4 | _VALUES", FORMATS),
    Mutant(CORE + "record.py", "and not _SHAPES[name](value)", "and _SHAPES[name](value) is None", FORMATS),
    Mutant(CORE + "life.py", r'rb"([A-Z]+) (\d{1,9})', r'rb"([A-Z]+) (\d{1,15})', FORMATS),
    Mutant(CORE + "supervision.py", "if not self.budget.spend(now_s):", "if self.budget.spend(now_s) is None:",
           "tests/unit/test_supervision.py -k gives_up"),
    Mutant(CORE + "stored.py", "return told if fits else None", "return told",
           "tests/scripts/test_unreadable.py -k outcome"),
    # -- the scripts ----------------------------------------------------------------------------------------------
    Mutant(LUA + "step.lua", "if at_run ~= run then return 'STALE' end", "", f"{STEP} -k STALE"),
    Mutant(LUA + "step.lua", "if owner ~= supervisor then return 'STALE' end", "", f"{STEP} -k nobody_settles"),
    Mutant(LUA + "step.lua", "and sub(line, -#ours) == ours then", "then", f"{STEP} -k nobody_settles"),
    Mutant(LUA + "step.lua", "return status == to and 'ALREADY' or 'STALE'", "return 'STALE'", f"{STEP} -k sent_again"),
    Mutant(LUA + "step.lua", "  call('SREM', held, unpack(left))\n", "", f"{STEP} -k end_is_kept"),
    Mutant(LUA + "step.lua", "  tell_waiters(KEYS[11], base, told, is_news and last_to .. ' ' .. last_outcome)\n", "",
           f"{STEP} -k told_once"),
    Mutant(LUA + "step.lua", "call('ZADD', KEYS[5], ARGV[3], supervisor)",
           "call('ZADD', KEYS[5], 'NX', ARGV[3], supervisor)", f"{STEP} -k lease"),
    Mutant(LUA + "step.lua", "tonumber(limits[i]) <= tonumber(now_ms)", "tonumber(limits[i]) < tonumber(now_ms)",
           f"{STEP} -k expired"),
    Mutant(LUA + "step.lua", "waited >= ageing_ms", "waited > ageing_ms", f"{STEP} -k passed_over"),
    Mutant(LUA + "step.lua", "if status ~= 'RUNNING' then return", "if status == 'QUEUED' then return",
           f"{STEP} -k sent_again"),
    Mutant(LUA + "step.lua", "if at then call('LTRIM', KEYS[14], at + 1, -1) end",
           "call('LTRIM', KEYS[14], LETTERS_MAX, -1)", f"{STEP} -k 'letter or late'"),
    Mutant(LUA + "step.lua", "call('LRANGE', KEYS[14], 0, LETTERS_MAX - 1)",
           "call('LPOP', KEYS[14], LETTERS_MAX) or {}", f"{STEP} -k letters"),
    Mutant(POOL + "orders.py", "if letter not in known", "if letter", f"{STAGE} -k again_is_obeyed_once"),
    Mutant(POOL + "orders.py", "self._unconfirmed[-1] if", "self._unconfirmed[0] if", f"{STAGE} -k heard_last"),
    Mutant(LUA + "step.lua", "survey(ARGV[14] == '!' and 1 or 4)", "survey(4)",
           "tests/scripts/test_urgent.py -k urgent_tasks_only"),
    Mutant(LUA + "prelude.lua", "if not is_urgent or count <= 0 then return end", "",
           "tests/scripts/test_urgent.py -k not_urgent"),
    Mutant(LUA + "rescue.lua", "if lease_end_ms >= tonumber(now_ms) then return { 'ALIVE' } end", "",
           f"{REFUSALS} -k rescue_from_the_living"),
    Mutant(LUA + "rescue.lua", "task.place, task.id)\n    count_up(rescues", "0, task.id)\n    count_up(rescues",
           f"{KEEPING} -k back_to_its_place"),
    Mutant(LUA + "rescue.lua", "  redis.call('ZREM', supervisors, supervisor)\n", "",
           f"{KEEPING} -k back_to_its_place"),
    Mutant(LUA + "recover.lua", "recovers, supervisor)) >= nth", "recovers, supervisor)) > nth",
           f"{REFUSALS} -k recover_too_late"),
    Mutant(LUA + "recover.lua", "or at_run ~= run or owner", "or owner", f"{KEEPING} -k not_its_own"),
    Mutant(LUA + "recover.lua", "elseif not known[id] then", "else", f"{KEEPING} -k nobody_knows"),
    Mutant(LUA + "promote.lua", "or tonumber(moments[n]) > tonumber(now_ms) then", "then", f"{REFUSALS} -k promote"),
    Mutant(LUA + "submit.lua", "if same == #ids then return 'ALREADY' end", "", f"{REFUSALS} -k submit_the_same"),
    Mutant(LUA + "submit_detailed.lua", "or redis.call('HEXISTS', tasks, earlier) == 1)", "or true)",
           f"{SUBMIT} -k forgotten"),
    Mutant(LUA + "withdraw.lua", "if not is_as_seen(tasks, id, lines[n], ARGV[i + 1], ARGV[i + 2]) then",
           "if false then", f"{REFUSALS} -k withdraw"),
    Mutant(LUA + "withdraw.lua", "redis.call('ZREM', expiring, unpack(gone))\n", "",
           "tests/contract/test_broker_model.py"),
    Mutant(LUA + "revive.lua", "redis.call('HDEL', rescues, unpack(came))\n", "",
           "tests/scripts/test_operating.py -k revive"),
    Mutant(LUA + "remove.lua", "elseif not FINAL[status] then", "elseif false then", f"{REFUSALS} -k remove"),
    Mutant(LUA + "poll.lua", "and tonumber(its_end) >= tonumber(now_ms) and", "and false and", f"{REFUSALS} -k lead"),
    Mutant(LUA + "farewell.lua", "if redis.call('SCARD', held) > 0 then return 'HOLDS' end", "",
           f"{REFUSALS} -k farewell"),
    Mutant(LUA + "order.lua", "elseif redis.call('HGET', life, id) ~= seen then", "elseif false then",
           f"{REFUSALS} -k order"),
    Mutant(LUA + "mend.lua", "    or not redis.call('ZSCORE', supervisors, task.owner))", "    )",
           f"{MENDING} -k nobody"),
    Mutant(LUA + "mend.lua", "if same and wrong[what]", "if wrong[what]", "tests/scripts/test_mend.py -k moved_on"),
    Mutant(LUA + "mend.lua", "  spent = fail_or_hold,", "  spent = function() end,", f"{MENDING} -k started_again"),
    Mutant(LUA + "prelude.lua", "math.max(number(known[1]), number(known[2]))", "number(known[2])",
           f"{SUBMIT} -k starts_level"),
    # -- the services ---------------------------------------------------------------------------------------------
    Mutant(POOL + "stepping.py", "return self._lease_end_s - self.terms.fence_margin_s", "return self._lease_end_s",
           f"{STAGE} -k fence"),
    Mutant(POOL + "stepping.py", "event.sent_s + self.terms.lease_s - self.terms.fence_margin_s",
           "event.sent_s + self.terms.lease_s", f"{STAGE} -k lease_is_over"),
    Mutant(POOL + "stepping.py", "self._lease_end_s = event.sent_s +", "self._lease_end_s = self._sent_s + 1 +",
           f"{STAGE} -k fence"),
    Mutant(POOL + "accord.py", "self.stepping.known([*self.core.runs.values(), *self._decided()])",
           "self.stepping.known([*self.core.runs.values()])", f"{STAGE} -k decided"),
    Mutant(POOL + "accord.py", "if self.stepping.is_under_way:", "if False:", f"{STAGE} -k no_step_is_under_way"),
    Mutant(POOL + "stepping.py", "max(0, room.runs - asked)", "max(0, room.runs)", f"{STEPPING} -k asked_for_again"),
    Mutant(POOL + "stepping.py", "self._flights.clear()\n", "self._flights.popleft()\n", f"{STEPPING} -k comes_back"),
    Mutant(POOL + "stepping.py", "BEAT_S if event.held else QUIET_BEAT_S", "BEAT_S", f"{STEPPING} -k beat"),
    Mutant(POOL + "accord.py", "if task_id in ours", "if task_id == ours", f"{STAGE} -k comes_round"),
    Mutant(KEEPER + "rounds.py", "min(max(self.lease_s, (end_ms - now_ms) / 1000),",
           "min(max(0.0, (end_ms - now_ms) / 1000),", f"{ROUNDS} -k 'came_first or jump'"),
    Mutant(KEEPER + "rounds.py", "if now_s - self._contact_s > 3 * TICK_S:", "if now_s < self._contact_s:",
           f"{ROUNDS} -k frozen"),
    Mutant(KEEPER + "rounds.py", "if polled.cancels:", "if not polled.cancels:", f"{ROUNDS} -k insists"),
    Mutant(REDIS + "operating.py", "is TaskStatus.RUNNING and str(stored.life.run) == run", "is TaskStatus.RUNNING",
           f"{INSIST} -k whoever_runs"),
    Mutant(LUA + "order.lua", "if id ~= '' then redis.call('HSET', cancels, id, wish) end\n", "", INSIST),
    Mutant(LUA + "revive.lua", "redis.call('HDEL', cancels, unpack(came))\n", "", f"{INSIST} -k tried_again"),
    Mutant(LUA + "forgo.lua", "== ARGV[i + 1] then", "then", f"{INSIST} -k anew"),
    Mutant(POOL + "stepping.py", "may_hurry = not self._is_refused and (", "may_hurry = (",
           "tests/unit/test_stepping.py -k refuses"),
    Mutant(KEEPER + "neighbours.py", '== identity["born_at"]:', "is not None:", "tests/unit/test_neighbours.py"),
    Mutant(KEEPER + "neighbours.py", "if now_s - since_s >= _SURE_S", "if True", "tests/unit/test_neighbours.py"),
    Mutant(POOL + "claims.py", "believed(head[3])", "head[3]", f"{STAGE} -k no_client_wrote"),
    Mutant("engine/errors.py", "was_let_in and isinstance", "isinstance",
           "tests/integration/test_client.py -k never_let_us_in"),
    Mutant("engine/errors.py", ") or (\n        was_let_in and isinstance(error, BrokerDenied))", ")",
           "tests/integration/test_client.py -k wrong_for_a_while"),
    Mutant("engine/core/stored.py", "return told if told is not None and all(", "return told if told is None or any(",
           "tests/contract/test_hooks.py"),
    # -- the client -----------------------------------------------------------------------------------------------
    Mutant(REDIS + "durability.py", 'if b"aof_enabled:1" not in told:', 'if b"aof_enabled" not in told:',
           "tests/contract/test_durability.py"),
    Mutant("engine/encoding.py", 'if b"null" in text:', 'if b"NaN" in text:', "tests/unit/test_submission.py"),
    Mutant("engine/adapters/process/outcomes.py", 'if b"null" in encoded and returned is not None:',
           'if b"NaN" in encoded:', "tests/unit/test_outcomes.py"),
]
