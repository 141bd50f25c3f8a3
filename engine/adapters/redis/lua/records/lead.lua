-- lead: become the leader of those that use this lock, until a moment; or stand down, with a moment that is over.
--
-- gives LEADS | FOLLOWS
-- include: leader
if not may_take_lead(KEYS.lock, ARGV.name) then return 'FOLLOWS' end
------------------------------------------------------------------- write
return take_lead(KEYS.lock, ARGV.name) and 'LEADS' or 'FOLLOWS'
