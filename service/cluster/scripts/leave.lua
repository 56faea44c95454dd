-- A worker is gone.
-- KEYS: hash of what workers say of themselves, sorted set of their ends (ms). ARGV: id.
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('ZREM', KEYS[2], ARGV[1])
