-- order: put a letter into the mailbox of a supervisor and wake it; if the letter is about a run, only while it runs.
-- A run that is to be cancelled may end otherwise before it is; so the wish is noted beside, for the keeper to insist.
--
-- keys  supervisors, orders of the supervisor, life, cancels
-- args  base of the channels, supervisor, letter, id of the task or '', its life line as seen, 'run reason'
-- gives OK        it has mail
--       GONE      there is no such supervisor
--       MOVED_ON  the task is not any more as it was seen
local supervisors, orders, life, cancels = unpack(KEYS)
local base, supervisor, letter, id, seen, wish = unpack(ARGV)

if id == '' then
  if not redis.call('ZSCORE', supervisors, supervisor) then return 'GONE' end
elseif redis.call('HGET', life, id) ~= seen then
  return 'MOVED_ON'
end
------------------------------------------------------------------- write
even_when_full(life)
if id ~= '' then redis.call('HSET', cancels, id, wish) end
redis.call('RPUSH', orders, letter)
redis.call('LTRIM', orders, -1000, -1)
redis.call('PUBLISH', base .. 'bell:' .. supervisor, '!')
return 'OK'
