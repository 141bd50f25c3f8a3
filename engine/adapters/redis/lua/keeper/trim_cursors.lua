-- trim_cursors: forget the cursors of fair keys that have nothing waiting: they would start level with the others
-- anyway.
--
-- field: `k:<fair key>`
-- gives how many were forgotten
-- include: commands
local claimed, fields, old = number(redis.call('HGET', KEYS.cursors, 'v')), {}, {}
for n = 1, #ARGV.fields do fields[n] = ARGV.fields[n].field end
for n, last in ipairs(read_many('HMGET', KEYS.cursors, fields)) do
  if last and number(last) <= claimed then old[#old + 1] = fields[n] end
end
------------------------------------------------------------------- write
call_many('HDEL', KEYS.cursors, old)
return #old
