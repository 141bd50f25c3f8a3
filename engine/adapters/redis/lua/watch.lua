-- watch: wait for tasks to end: tell which have, and have the client told of the others.
--
-- keys  tasks, life, waiters
-- args  client, then ids
-- gives the ids that have ended or do not exist; the client's channel hears of all others
local tasks, life, waiters = unpack(KEYS)
local client = ',' .. ARGV[1]
local ids = part(ARGV, 2)
if #ids == 0 then return {} end

local over, changed = {}, {}
local lines, waiting = read_many('HMGET', life, ids), read_many('HMGET', waiters, ids)
for n, id in ipairs(ids) do
  local ends = lines[n] and FINAL[parse_life(lines[n])]
  if ends or (not lines[n] and redis.call('HEXISTS', tasks, id) == 0) then
    over[#over + 1] = id
  elseif not string.find((waiting[n] or '') .. ',', client .. ',', 1, true) then
    changed[#changed + 1] = id
    changed[#changed + 1] = (waiting[n] or '') .. client
  end
end
------------------------------------------------------------------- write
if #changed > 0 then
  even_when_full(waiters)
  call_many('HSET', waiters, changed)
end
return over
