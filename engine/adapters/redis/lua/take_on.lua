-- take_on: make messages of what was read in the stream, and move on in it: both, and only for the one that leads.
--
-- keys  lock, position, messages, due
-- args  name, position, due_ms, then for each message: id, JSON
-- gives OK       they are taken on
--       FOLLOWS  another one leads, or nobody does; nothing is written
local lock, position, messages, due = unpack(KEYS)
local name, entry, due_ms = ARGV[1], ARGV[2], ARGV[3]
local leader = string.match(redis.call('GET', lock) or '', '^(%S+) %d+$')
if leader ~= name then return 'FOLLOWS' end
------------------------------------------------------------------- write
redis.call('SET', position, entry)
for i = 4, #ARGV, 2 do
  redis.call('HSET', messages, ARGV[i], ARGV[i + 1])
  redis.call('ZADD', due, due_ms, ARGV[i])
end
return 'OK'
