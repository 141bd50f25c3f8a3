-- The names of keys and channels that a script makes itself. They have the hash tag of the base, as all others have.
-- engine/adapters/redis/wire/keys.py says what each of them holds.

local function lane_key(queue, level, task_type)
  local key = ARGV.base .. 'lane:' .. queue .. ':' .. level
  return task_type and key .. ':' .. task_type or key
end

local function round_robin_key(level, task_type)
  local key = ARGV.base .. 'round_robin:' .. level
  return task_type and key .. ':' .. task_type or key
end

local function cursors_key(queue, level)
  return ARGV.base .. 'cursors:' .. queue .. ':' .. level
end

local function running_key(supervisor)
  return ARGV.base .. 'running:' .. supervisor
end

local function types_key(supervisor)
  return ARGV.base .. 'types:' .. supervisor
end

local function log_key(id)
  return ARGV.base .. 'log:' .. id
end

local function wakeup_channel(name)
  return ARGV.base .. 'wakeup:' .. name
end

-- On this channel a client hears of the ends of tasks that it waits for.
local function client_channel(client)
  return ARGV.base .. 'done:' .. client
end
