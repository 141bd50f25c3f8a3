-- What scripts read of a task's record: the first line of it is a JSON list, `["type","queue",priority,…]`.

-- The type; nil where it cannot be read.
local function type_of(record)
  local plain = string.match(record, '^%["([^"\\]*)"')
  if plain then return plain end
  local can_be_read, head = pcall(cjson.decode, (string.match(record, '^[^\n]*')))
  return can_be_read and type(head) == 'table' and type(head[1]) == 'string' and head[1] or nil
end

-- The type, queue and priority; nothing where they cannot be read.
local function head_of(record)
  local can_be_read, head = pcall(cjson.decode, (string.match(record, '^[^\n]*')))
  if not can_be_read or type(head) ~= 'table' or type(head[1]) ~= 'string' or type(head[2]) ~= 'string' then return end
  return head[1], head[2], PRIORITIES[head[3]] and head[3] or 1
end

local function is_queue_name(text)
  return #text <= 64 and string.find(text, '^[%w._-]+$') ~= nil
end
