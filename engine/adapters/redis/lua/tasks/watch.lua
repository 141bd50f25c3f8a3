-- watch: wait for tasks to end: say which have, and have the client notified of the others.
--
-- gives the ids that have ended or do not exist; the client's channel hears of all others
-- include: commands
-- include: state
local client, ids = ',' .. ARGV.client, {}
for n = 1, #ARGV.ids do ids[n] = ARGV.ids[n].id end
if #ids == 0 then return {} end

local over, changed = {}, {}
local states, waiting = read_many('HMGET', KEYS.states, ids), read_many('HMGET', KEYS.waiters, ids)
for n, id in ipairs(ids) do
  local has_ended = states[n] and FINAL[parse_state(states[n])]
  if has_ended or (not states[n] and redis.call('HEXISTS', KEYS.tasks, id) == 0) then
    over[#over + 1] = id
  elseif not string.find((waiting[n] or '') .. ',', client .. ',', 1, true) then
    changed[#changed + 1] = id
    changed[#changed + 1] = (waiting[n] or '') .. client
  end
end
------------------------------------------------------------------- write
if #changed > 0 then
  write_even_when_full(KEYS.waiters)
  call_many('HSET', KEYS.waiters, changed)
end
return over
