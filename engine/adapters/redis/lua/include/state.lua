-- The state of a task: a line of text, `status run attempts crashes priority rank at_ms owner` (core/task/state.py).
-- A task that has none is QUEUED since its submit, and was never claimed.
-- Whole numbers up to 1e14 survive `..`; moments in ms and ranks stay below that.

-- The eight fields as strings; nothing if it is no state. The engine never writes numbers that are too long.
local function parse_state(state)
  local status, run, attempts, crashes, priority, rank, at_ms, owner =
    string.match(state, '^(%u+) (%d+) (%d+) (%d+) ([0-3]) (%d+) (%d+) (%S+)$')
  if not status or #run > 9 or #attempts > 9 or #crashes > 9 or #rank > 14 or #at_ms > 14 then return end
  return status, run, attempts, crashes, priority, rank, at_ms, owner
end

local function format_state(status, run, attempts, crashes, priority, rank, at_ms, owner)
  return status .. ' ' .. run .. ' ' .. attempts .. ' ' .. crashes .. ' ' .. priority .. ' ' .. rank .. ' ' .. at_ms
    .. ' ' .. owner
end

-- Whether a task is still as the caller has seen it. A caller that saw no state passes the one of a task that is
-- QUEUED since its submit, and is_stored = '0'.
local function is_as_seen(id, state, seen, is_stored)
  if is_stored == '1' then return state == seen end
  return not state and redis.call('HEXISTS', KEYS.tasks, id) == 1
end

-- The functions below are the only ones that write or remove states. Whatever must happen with each move of a task
-- belongs here.

-- Move one task.
local function move_task(id, state)
  redis.call('HSET', KEYS.states, id, state)
end

-- Move tasks. `moves`: id, state, id, state, …
local function move_tasks(moves)
  call_many('HSET', KEYS.states, moves)
end

-- Forget the states of tasks that are removed.
local function forget_states(ids)
  call_many('HDEL', KEYS.states, ids)
end
