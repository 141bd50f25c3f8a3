-- increment: count what has happened.
--
-- gives OK
-- include: commands
------------------------------------------------------------------- write
write_even_when_full(KEYS.counters)
count_up(KEYS.counters, ARGV.counter, ARGV.amount)
return 'OK'
