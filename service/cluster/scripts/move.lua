-- Give the bank to a worker if the expected one has it. Returns 1 if so.
-- KEYS: the route. ARGV: worker, ttl in ms, the expected worker ('' if nobody should have it).
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[3] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
