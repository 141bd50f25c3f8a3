-- order: put a letter into the mailbox of a supervisor and wake it; if the letter is about a run, only while it runs.
--
-- keys  supervisors, orders of the supervisor, life
-- args  base of the channels, supervisor, letter, id of the task or '', its life line as seen
-- gives OK        it has mail
--       GONE      there is no such supervisor
--       MOVED_ON  the task is not any more as it was seen
local supervisors, orders, life = unpack(KEYS)
local base, supervisor, letter, id, seen = unpack(ARGV)

if id == '' then
  if not redis.call('ZSCORE', supervisors, supervisor) then return 'GONE' end
elseif redis.call('HGET', life, id) ~= seen then
  return 'MOVED_ON'
end
------------------------------------------------------------------- write
even_when_full(life)
redis.call('RPUSH', orders, letter)
redis.call('LTRIM', orders, -1000, -1)
redis.call('PUBLISH', base .. 'bell:' .. supervisor, '!')
return 'OK'
