-- Who has the bank: this worker if nobody else does, for so long from now.
-- KEYS: the route. ARGV: worker, ttl in ms.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return holder
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
