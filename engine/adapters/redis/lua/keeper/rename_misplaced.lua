-- rename_misplaced: rename keys that somebody has written something else to, so that scripts which use them go on.
--
-- renamed: the new name of a key, in place of what was there before. type: the one that the key has to be of
-- gives the keys that were of another type
local found = {}
for n = 1, #ARGV.types do
  local type_now = redis.call('TYPE', KEYS.keys[n].key).ok
  if type_now ~= 'none' and type_now ~= ARGV.types[n].type then found[#found + 1] = n end
end
------------------------------------------------------------------- write
local names = {}
for i, n in ipairs(found) do
  redis.call('RENAME', KEYS.keys[n].key, KEYS.keys[n].renamed)
  names[i] = KEYS.keys[n].key
end
return names
