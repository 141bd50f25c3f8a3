-- add_deliveries: add messages about events of the stream, and move on in the stream: both or neither, and only for the
-- leader.
--
-- position: of the last event that was read. message: JSON
-- gives OK       they are added
--       FOLLOWS  another one leads, or nobody does; nothing is written
local leader = string.match(redis.call('GET', KEYS.deliverer) or '', '^(%S+) %d+$')
if leader ~= ARGV.name then return 'FOLLOWS' end
------------------------------------------------------------------- write
redis.call('SET', KEYS.delivered_to, ARGV.position)
for n = 1, #ARGV.messages do
  redis.call('HSET', KEYS.deliveries, ARGV.messages[n].id, ARGV.messages[n].message)
  redis.call('ZADD', KEYS.deliveries_due, ARGV.due_ms, ARGV.messages[n].id)
end
return 'OK'
