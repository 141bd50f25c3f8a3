-- tally: count what has happened.
--
-- keys  counters
-- args  what, how often
-- gives OK
------------------------------------------------------------------- write
even_when_full(KEYS[1])
count_up(KEYS[1], ARGV[1], ARGV[2])
return 'OK'
