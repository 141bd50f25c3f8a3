-- lead: become the leader of those that use this lock, until a moment; or stand down, with a moment that is over.
--
-- keys  lock
-- args  name, until_ms, now_ms
-- gives LEADS | FOLLOWS
local name, until_ms, now_ms = unpack(ARGV)
local leader, is_over = leader_of(KEYS[1], until_ms, now_ms), tonumber(until_ms) <= tonumber(now_ms)
if (leader or is_over) and leader ~= name then return 'FOLLOWS' end
------------------------------------------------------------------- write
return take_lead(KEYS[1], name, until_ms, now_ms) and 'LEADS' or 'FOLLOWS'
