-- set_apart: move keys out of the way that somebody has written something else to, so that what uses them goes on.
--
-- keys  any keys, and as many names that they get instead
-- args  for each key: the type that it has to be of
-- gives the keys that were of another type. They are found under their new names, in the place of what was there
local apart = {}
for n, expected in ipairs(ARGV) do
  local kind = redis.call('TYPE', KEYS[n]).ok
  if kind ~= 'none' and kind ~= expected then apart[#apart + 1] = n end
end
------------------------------------------------------------------- write
local names = {}
for at, n in ipairs(apart) do
  redis.call('RENAME', KEYS[n], KEYS[#ARGV + n])
  names[at] = KEYS[n]
end
return names
