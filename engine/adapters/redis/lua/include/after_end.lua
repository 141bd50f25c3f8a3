-- What follows the end of tasks, in the script that ends them.

-- Tell the clients that wait for these tasks, one message for each client, and forget that they wait. notification:
-- 'STATUS outcome' if it is a single task, so that the client need not read it; else nil or false.
local function notify_waiters(ids, notification)
  if #ids == 0 or redis.call('EXISTS', KEYS.waiters) == 0 then return end
  local waiting, notified, messages = read_many('HMGET', KEYS.waiters, ids), {}, {}
  for i, clients in ipairs(waiting) do
    if clients then
      notified[#notified + 1] = ids[i]
      for client in string.gmatch(clients, '[^,]+') do
        messages[client] = messages[client] and messages[client] .. ',' .. ids[i] or ids[i]
      end
    end
  end
  call_many('HDEL', KEYS.waiters, notified)
  for client, message in pairs(messages) do
    redis.call('PUBLISH', client_channel(client), notification and message .. ' ' .. notification or message)
  end
end

-- Called once by each script that has ended tasks, after their states and outcomes were written.
-- batch: { ids = the tasks that have ended, notification = see notify_waiters }
local function after_end(batch)
  notify_waiters(batch.ids, batch.notification)
end
