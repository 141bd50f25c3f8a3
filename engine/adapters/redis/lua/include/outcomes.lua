-- Outcomes of runs: hash `id:run` -> JSON (core/task/outcome.py).

-- The highest number of a run whose outcome is kept, and that outcome; 0 and false if there is none.
local function latest_run(id)
  local WINDOW, RUNS_MAX = 50, 10000
  local latest, outcome = 0, false
  for first = 0, RUNS_MAX, WINDOW do
    local runs, is_empty = {}, true
    for n = 1, WINDOW do runs[n] = id .. ':' .. first + n - 1 end
    for n, found in ipairs(read_many('HMGET', KEYS.outcomes, runs)) do
      if found then latest, outcome, is_empty = first + n - 1, found, false end
    end
    if is_empty then break end
  end
  return latest, outcome
end

-- The outcome of a run that the engine ended without a worker.
local function outcome_without_run(run, cause, error_kind, message)
  return '{"run":' .. run .. ',"cause":"' .. cause .. '","result":null,"error":{"kind":"' .. error_kind
    .. '","message":"' .. message .. '","traceback":null},"started_ms":null,"ended_ms":' .. ARGV.now_ms
    .. ',"wall_s":null,"cpu_s":null,"peak_rss_bytes":null,"worker":null,"pid":null,"post_mortem":null}'
end

-- The outcome of a task that was not started in time.
local function expired_outcome(run)
  return outcome_without_run(run, 'expired', 'Expired', 'nobody started it before its time was over')
end
