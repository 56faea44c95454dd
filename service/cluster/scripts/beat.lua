-- A worker is alive for so long more. Returns 1 if it was there already.
-- KEYS: hash of what workers say of themselves, sorted set of their ends (ms). ARGV: id, what it says, ttl in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[1])
return (ends and tonumber(ends) > now) and 1 or 0
