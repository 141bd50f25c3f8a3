-- Redis commands with lists of any length, and numbers that somebody may have written over.

local CHUNK = 4000  -- arguments of one call: Lua's unpack ends at some 8,000. Even, for lists of pairs

-- Send a command with a key and a list, from `first` on, in as many calls as it takes.
local function call_many(command, key, list, first)
  first = first or 1
  while #list - first >= CHUNK do
    redis.call(command, key, unpack(list, first, first + CHUNK - 1))
    first = first + CHUNK
  end
  if first <= #list then redis.call(command, key, unpack(list, first)) end
end

-- Send a command that answers each entry of the list, or of a range of it; return all answers.
local function read_many(command, key, list, first, last)
  first, last = first or 1, last or #list
  if last - first < CHUNK then return first <= last and redis.call(command, key, unpack(list, first, last)) or {} end
  local answers = {}
  for start = first, last, CHUNK do
    local some = redis.call(command, key, unpack(list, start, math.min(start + CHUNK - 1, last)))
    for n, answer in ipairs(some) do answers[start - first + n] = answer end
  end
  return answers
end

-- A stored number; 0 for none, and for text that is no number.
local function number(text)
  return tonumber(text or 0) or 0
end

-- Increase a counter. One that somebody has overwritten must not stop the engine.
local function count_up(hash, field, amount)
  redis.pcall('HINCRBY', hash, field, amount)
end

-- Let the following writes through even if Redis has reached its maxmemory: it refuses only the first write of a
-- script that may grow, and none after a write that cannot. For verbs that end tasks and so make room, or that keep
-- the engine running that does.
local function write_even_when_full(hash)
  redis.call('HDEL', hash, '')
end
