-- step: all that a supervisor has to do with Redis, in one call: renew the lease, settle what has ended, claim as many
-- tasks as there is room for, take the commands. It is called once for some dozens of tasks.
--
-- want: tasks to claim at most. ageing_ms: 0 for none. serves: '*' or ',queue,queue,'. expired_remove_ms: moment of
-- removal of a task that expires here. report: JSON, '' for none. idle_workers: workers that have nothing to do, '' to
-- leave what is noted of them. known_runs: how many runs it knows it has. slice: records to read at once
-- preempts: '' never; '+' once it has all it wants; '!' now: it wants URGENT tasks only
-- last_command: the last command that the last answer brought, '' for none: it and those before it are removed
-- For each settlement:
--   verdict  'move charged_to'; charged_to is attempt, crash or nobody
--   at       due_ms of a retry; the queue of a release, with the type behind a space if the supervisor does not know it;
--            else the moment of removal in ms
-- gives refused: {position, word, …} with word ALREADY | STALE | GONE | ILLEGAL; all others were settled
--       claimed: {id, record, 'run attempts crashes priority', …}; the priority where it may differ from the record's
--       commands: {JSON, …}, the first ones; they stay in the queue until the supervisor says that it has them
--       how many types it has registered: while there are none, it gets no task
--       how many runs the supervisor holds now
-- Undeclared keys: the round robins, lanes and cursors, since only this script knows which it needs.
-- include: commands
-- include: keys
-- include: state
-- include: records
-- include: ranks
-- include: lanes
-- include: outcomes
-- include: wakeup
-- include: events
-- include: batch
-- include: after_end
-- include: renew
-- include: settle
-- include: choose
-- include: admit
-- include: claim
local COMMANDS_MAX = 100  -- in one answer

-- Tasks that were handed over to it and had not reached it when it sent this.
local unheard = math.max(0, redis.call('SCARD', KEYS.running) - ARGV.known_runs)
local types_known = redis.call('SCARD', KEYS.types)
local want = types_known > 0 and math.max(0, ARGV.want - unheard) or 0

-- Note whether the supervisor waits for tasks.
local function note_idle(taken)
  local preempts, wants_urgent = ARGV.preempts, '!' .. ARGV.serves
  if preempts == '!' and (taken < want or want == 0) or preempts == '+' and taken == want then
    redis.call('HSET', KEYS.idle_supervisors, ARGV.supervisor, wants_urgent)
  elseif taken < want then
    local idle_workers = math.max(0, ARGV.idle_workers - unheard - taken)
    redis.call('HSET', KEYS.idle_supervisors, ARGV.supervisor, format_idle(ARGV.serves, idle_workers, ARGV.now_ms))
  elseif ARGV.idle_workers ~= '' then
    redis.call('HDEL', KEYS.idle_supervisors, ARGV.supervisor)
  end
end

local function take_commands()
  local last = ARGV.last_command ~= '' and redis.call('LPOS', KEYS.commands, ARGV.last_command)
  if last then redis.call('LTRIM', KEYS.commands, last + 1, -1) end
  return redis.call('LRANGE', KEYS.commands, 0, COMMANDS_MAX - 1)
end

weigh()
------------------------------------------------------------------- write
renew()
settle()
after_end(batch.ended)
note_idle(claim(want))
add_events(batch.rows)
write_counts()
return { batch.refused, batch.claimed, take_commands(), types_known, redis.call('SCARD', KEYS.running) }
