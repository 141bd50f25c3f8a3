-- The order of a lane: start-time fair queueing (Goyal 1996). The tasks of each fair key get ranks that count on from
-- the last rank of that key, or from the rank that was claimed last where that is higher. So a fair key that was away
-- starts level with the others, and one that submits many tasks queues up behind itself.
--
-- cursors: hash `v` -> the rank that was claimed last, `k:<fair key>` -> the rank that was given last to that key

-- The rank after which the next task of a fair key goes. fair_key is '' for tasks without one.
local function last_rank(cursors, fair_key)
  local known = redis.call('HMGET', cursors, 'v', 'k:' .. fair_key)
  return math.max(number(known[1]), number(known[2]))
end

-- Give the next `count` ranks to a fair key; return the rank before them.
local function reserve_ranks(cursors, fair_key, count)
  local before = last_rank(cursors, fair_key)
  redis.call('HSET', cursors, 'k:' .. fair_key, before + count)
  return before
end

-- Give one rank to each task. fair_keys: one entry for each task.
local function give_ranks(cursors, fair_keys)
  local counts, ranks = {}, {}
  for _, key in ipairs(fair_keys) do counts[key] = (counts[key] or 0) + 1 end
  for key, count in pairs(counts) do counts[key] = reserve_ranks(cursors, key, count) end
  for n, key in ipairs(fair_keys) do
    counts[key] = counts[key] + 1
    ranks[n] = counts[key]
  end
  return ranks
end
