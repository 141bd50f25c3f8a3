-- What a step gathers in one call, for the answer, the stream of events and the counters.
--   refused: position, word, …       rows: of the stream of events      counts: counter -> how often
--   claimed: id, record, counters, …                                    ended: what after_end needs

local batch = { refused = {}, claimed = {}, rows = {}, counts = {}, ended = { ids = {} } }

local function count(counter, amount)
  batch.counts[counter] = (batch.counts[counter] or 0) + amount
end

local function write_counts()
  for counter, amount in pairs(batch.counts) do count_up(KEYS.counters, counter, amount) end
end
