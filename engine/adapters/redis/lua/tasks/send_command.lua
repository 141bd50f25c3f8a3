-- send_command: put a command into the queue of a supervisor and wake it; if the command is about a run, only while
-- that run goes on.
-- A run that is to be cancelled may end in another way before it is cancelled. So the request is noted as well, for
-- the keeper to apply again.
--
-- command: JSON. id: of the task, '' for none. state: as seen. cancel_request: 'run reason'
-- gives OK        the supervisor has the command
--       GONE      there is no such supervisor
--       MOVED_ON  the task is not as it was seen
-- include: commands
-- include: keys
local COMMANDS_MAX = 1000
if ARGV.id == '' then
  if not redis.call('ZSCORE', KEYS.supervisors, ARGV.supervisor) then return 'GONE' end
elseif redis.call('HGET', KEYS.states, ARGV.id) ~= ARGV.state then
  return 'MOVED_ON'
end
------------------------------------------------------------------- write
write_even_when_full(KEYS.states)
if ARGV.id ~= '' then redis.call('HSET', KEYS.cancel_requests, ARGV.id, ARGV.cancel_request) end
redis.call('RPUSH', KEYS.commands, ARGV.command)
redis.call('LTRIM', KEYS.commands, -COMMANDS_MAX, -1)
redis.call('PUBLISH', wakeup_channel(ARGV.supervisor), '!')
return 'OK'
